"""The charts of a page: what plotly is told to draw."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from lartpc_ray.reconstruct.grid import ChoiceSettings, ThresholdGrid, choose
from lartpc_ray.report import charts

SEARCH: dict[str, tuple[str, list[Any]]] = {
    "optimizer.learning_rate": ("log", [0.001, 0.1]),
    "task.loss.mask": ("choice", ["focal", "<b>"]),
    "network.depth": ("int", [4, 6]),
}
SETTINGS = [
    {"optimizer.learning_rate": "0.01", "task.loss.mask": "<b>", "network.depth": "6"},
    {"optimizer.learning_rate": "0.1", "task.loss.mask": "focal", "network.depth": "4"},
]


def grid() -> ThresholdGrid:
    """Two events; the point in the middle of 3 × 3 is best in both."""
    scores = np.zeros((2, 3, 3))
    scores[:, 1, 1] = 1
    points = np.array([0.0, 0.5, 1.0])
    return ThresholdGrid({"s0": points, "p0": points}, {"MIP": scores})


def test_the_history_is_in_the_order_of_the_trials_and_knows_the_best_so_far() -> None:
    trials, best = charts.history([2, 0, 1], [0.3, 0.2, 0.1])["data"]
    assert trials["x"].tolist() == [0, 1, 2]
    assert trials["y"].tolist() == [0.2, 0.1, 0.3]
    assert best["y"].tolist() == [0.2, 0.2, 0.3]


def test_the_front_joins_the_trials_that_no_other_beats() -> None:
    beaten, front = charts.front([0, 1, 2], [0.9, 0.8, 0.7], np.array([2.0, 1.0, 1.0]), "s")["data"]
    assert front["x"].tolist() == [1.0, 2.0]
    assert front["text"] == ["trial 1", "trial 0"]
    assert beaten["text"] == ["trial 2"]


def test_an_axis_follows_the_scale_of_its_setting() -> None:
    rate, mask, depth, objective = charts.parallel(SEARCH, SETTINGS, [0.7, 0.6])["data"][0][
        "dimensions"
    ]
    assert rate["values"] == pytest.approx([-1, -2]), "the best comes last, so it is drawn on top"
    assert rate["ticktext"][0] == "0.001"
    assert mask["values"] == [0, 1]
    assert mask["ticktext"] == ["focal", "&lt;b&gt;"], "plotly reads tags"
    assert depth["tickvals"] == [4, 5, 6]
    assert objective["values"].tolist() == [0.6, 0.7]


def test_the_plateau_is_outlined_cell_by_cell() -> None:
    choice = choose(grid(), "MIP", ChoiceSettings())
    heat, plateau, point = charts.surface(grid(), "MIP", choice)["data"]
    assert heat["z"][1, 1] == 1
    assert (point["x"], point["y"]) == ([1], [1])
    ends = [(x, y) for x, y in zip(plateau["x"], plateau["y"], strict=True) if x is not None]
    assert len(ends) == 8, "four sides"
    assert set(ends) == {(0.5, 0.5), (0.5, 1.5), (1.5, 0.5), (1.5, 1.5)}


def test_many_clusters_are_taken_together() -> None:
    true = {"MIP": np.array([1, 8, 12, 1])}
    values = {"MIP": np.array([1.0, 0.2, 0.4, 0.5])}
    (line,) = charts.by_clusters(true, values, "ari", diagonal=False)["data"]
    assert line["x"].tolist() == [1, charts.MOST_CLUSTERS]
    assert line["y"] == pytest.approx([0.75, 0.3])
    assert line["error_y"]["array"] == pytest.approx([0.25, 0.1])


def test_plotly_takes_all_of_them() -> None:
    one = ThresholdGrid({"threshold": np.array([0.0, 1.0])}, {"TRACK": np.eye(2)})
    counts = {"MIP": np.array([1, 2])}
    every = [
        charts.history([0, 1], [0.1, 0.2]),
        charts.curves({"trial <1>": {1: 0.5, 2: 0.6}, "trial 0": {1: 0.4}}, "trial 0"),
        charts.front([0, 1], [0.1, 0.2], np.array([1.0, 2.0]), "s"),
        charts.bars({"network.depth": 0.75, "seed": 0.25}),
        charts.parallel(SEARCH, SETTINGS, [0.5, 0.5]),
        charts.surface(grid(), "MIP", choose(grid(), "MIP", ChoiceSettings())),
        charts.one_threshold(one, "TRACK", choose(one, "TRACK", ChoiceSettings()), "f1"),
        charts.by_clusters(counts, counts, "predicted", diagonal=True),
        charts.counted(counts["MIP"], counts["MIP"]),
        charts.margins({"MIP": np.ones((1, 2))}),
        charts.confusion(np.array([[1.0, 0.0], [np.nan, 1.0]]), ["HIP", "MIP"]),
    ]
    for chart in every:
        assert chart["layout"]["height"] > 0
        go.Figure(chart)


def test_events_are_counted_by_true_and_predicted_clusters() -> None:
    (heat,) = charts.counted(np.array([1, 1, 2, 40]), np.array([1, 0, 2, 9]))["data"]
    many = charts.MOST_CLUSTERS
    shown = {(row, column): text for row, texts in enumerate(heat["text"], heat["y0"])
             for column, text in enumerate(texts) if text}  # fmt: skip
    assert shown == {(1, 0): "1", (1, 1): "1", (2, 2): "1", (many, many): "1"}
    assert heat["z"][0].tolist() == [0.5, 0.5] + [0] * (many - 1), "a share of the row"


def test_margins_are_drawn_cluster_by_cluster() -> None:
    drawn = charts.margins({"MIP": np.array([[0.5, 0.1], [1.0, 0.2]])})
    (points,) = go.Figure(drawn).data
    assert (points.name, list(points.x), list(points.y)) == ("MIP", [0.5, 1.0], [0.1, 0.2])
