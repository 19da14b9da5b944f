"""The charts of a page: what plotly is told to draw."""

import numpy as np
import plotly.graph_objects as go
import pytest

from lartpc_ray.reconstruct.grid import ThresholdGrid, choose
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.report import charts


def grid() -> ThresholdGrid:
    """Two events; the point in the middle of 3 × 3 is best in both."""
    scores = np.zeros((2, 3, 3))
    scores[:, 1, 1] = 1
    points = np.array([0.0, 0.5, 1.0])
    return ThresholdGrid({"s0": points, "p0": points}, {"MIP": scores})


def test_a_surface_shows_the_plateau_and_the_chosen_point() -> None:
    choice = choose(grid(), "MIP", ChoiceSettings())
    heat, plateau, point = charts.surface(grid(), "MIP", choice)["data"]
    assert heat["z"][1, 1] == 1
    assert heat["text"][0][2] == "s0 0, p0 1"
    edges = {
        tuple(zip(plateau["x"][n : n + 2], plateau["y"][n : n + 2], strict=True))
        for n in range(0, len(plateau["x"]), 3)
    }
    low, high = 0.5, 1.5
    assert edges == {
        ((low, low), (high, low)),
        ((low, high), (high, high)),
        ((low, low), (low, high)),
        ((high, low), (high, high)),
    }
    assert (point["x"], point["y"]) == ([1], [1])
    assert point["hovertemplate"].startswith("chosen: s0 0.5, p0 0.5")


@pytest.mark.parametrize("columns", [3, 4, 7, 8, 25])
def test_an_axis_of_a_surface_names_its_points(columns: int) -> None:
    """A linked grid has three by four points, each of which has a label."""
    points = {"s0": np.array([0.0, 0.8, 0.9]), "p0": np.linspace(0, 1, columns)}
    wide = ThresholdGrid(points, {"MIP": np.ones((2, 3, columns))})
    layout = charts.surface(wide, "MIP", choose(wide, "MIP", ChoiceSettings()))["layout"]
    assert layout["yaxis"]["ticktext"] == ["0", "0.8", "0.9"]
    assert layout["yaxis"]["title"]["text"] == "s0<br>(not to scale)"
    shown = len(layout["xaxis"]["tickvals"])
    assert min(columns, 4) <= shown <= charts.TICKS
    assert shown == len(layout["xaxis"]["ticktext"])


def test_many_clusters_are_taken_together() -> None:
    true = {"MIP": np.array([1, 8, 12, 1])}
    values = {"MIP": np.array([1.0, 0.2, 0.4, 0.5])}
    (line,) = charts.by_clusters(true, values, "ari", diagonal=False)["data"]
    assert line["x"].tolist() == [1, charts.MAX_CLUSTERS]
    assert line["y"] == pytest.approx([0.75, 0.3])
    assert line["error_y"]["array"] == pytest.approx([0.25, 0.1])


def test_plotly_takes_all_of_them() -> None:
    one = ThresholdGrid({"threshold": np.array([0.0, 1.0])}, {"TRACK": np.eye(2)})
    counts = {"MIP": np.array([1, 2])}
    every = [
        charts.curves({"trial <1>": {1: 0.5, 2: 0.6}, "trial 0": {1: 0.4}}, "trial 0"),
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
    many = charts.MAX_CLUSTERS
    shown = {(row, column): text for row, texts in enumerate(heat["text"], heat["y0"])
             for column, text in enumerate(texts) if text}  # fmt: skip
    assert shown == {(1, 0): "1", (1, 1): "1", (2, 2): "1", (many, many): "1"}
    assert heat["z"][0].tolist() == [0.5, 0.5] + [0] * (many - 1), "a share of the row"


def test_margins_are_drawn_cluster_by_cluster() -> None:
    drawn = charts.margins({"MIP": np.array([[0.5, 0.1], [1.0, 0.2]])})
    (points,) = go.Figure(drawn).data
    assert (points.name, list(points.x), list(points.y)) == ("MIP", [0.5, 1.0], [0.1, 0.2])
