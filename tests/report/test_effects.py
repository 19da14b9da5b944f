"""The effects of a search as a figure: their order, their errors, the shape of significant ones."""

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.image import imread

from lartpc_ray.report.effects import (
    FILE,
    by_size,
    draw_effects,
    effects_chart,
    log_effects,
    read_effects,
)
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.effects import Effect, Effects

FOUND = Effects(
    effects=[
        Effect("network.filters", 4, 8, 0.003, 0.002),
        Effect("task.loss.mask", "bce", "<b>", -0.03, 0.005),
        Effect("optimizer.learning_rate", 1e-3, 4e-3, 0.012, 0.006001),
    ],
    step=80,
    trials=12,
)


def test_the_largest_effect_is_on_top_with_its_two_values_and_error() -> None:
    drawn = effects_chart(FOUND.effects)
    axis = drawn["layout"]["yaxis"]
    names = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert names == {
        2: "mask: bce → &lt;b&gt;",
        1: "learning_rate: 0.001 → 0.004",
        0: "filters: 4 → 8",
    }
    points = {
        place: (x, error)
        for trace in drawn["data"]
        for place, x, error in zip(trace["y"], trace["x"], trace["error_x"]["array"], strict=True)
    }
    assert points == {2: (-0.03, 0.005), 1: (0.012, 0.006001), 0: (0.003, 0.002)}
    (zero,) = drawn["layout"]["shapes"]
    assert (zero["x0"], zero["x1"]) == (0, 0)
    assert len(go.Figure(drawn).data) == 2


def test_long_values_that_begin_alike_are_two_effects() -> None:
    first = [0.1] * 8
    ends = [[*first, last] for last in (0.2, 0.3)]
    effects = [Effect("task.linked.s0", first, end, 0.01, 0.01) for end in ends]
    assert list(by_size(effects).values()) == effects


def test_significant_effects_have_another_symbol_than_the_others() -> None:
    """Two errors from zero, or fewer."""
    sure, unsure = effects_chart(FOUND.effects)["data"]
    assert (sure["y"], sure["marker"]["symbol"]) == ([2], "circle")
    assert (unsure["y"], unsure["marker"]["symbol"]) == ([1, 0], "circle-open")
    assert sure["name"] != unsure["name"]
    (only,) = effects_chart(FOUND.effects[:1])["data"]
    assert only["marker"]["symbol"] == "circle-open"


def test_equal_ends_and_long_values_keep_their_labels_apart() -> None:
    effects = [
        Effect("data.seed", 1, 2, 0.1, 0.1),
        Effect("seed", 1, 2, 0.2, 0.1),
        Effect("task.loss.mask", "a" * 50, "b", 0.3, 0.1),
    ]
    first, *others = by_size(effects)
    assert first == f"mask: {'a' * 23}… → b"
    assert others == ["seed: 1 → 2", "data.seed: 1 → 2"]


def test_a_picture_has_the_points(tmp_path: Path) -> None:
    from matplotlib.colors import to_rgb

    from lartpc_ray.report.charts import ACCENT

    path = tmp_path / "effects.png"
    draw_effects(path, FOUND)
    pixels = imread(path)[..., :3]
    accent = np.abs(pixels - to_rgb(ACCENT)).max(axis=2) < 0.05
    assert accent.sum() > 20, "the significant point"
    assert [one.name for one in tmp_path.iterdir()] == ["effects.png"]


@pytest.fixture
def search(tmp_path: Path) -> tuple[Tracking, str]:
    tracking = Tracking(tmp_path, "clustering")
    return tracking, tracking.start("a search", {"study": "a search", "kind": "search"})


def test_the_run_of_a_search_keeps_the_numbers(search: tuple[Tracking, str]) -> None:
    tracking, run = search
    assert read_effects(tracking, run) is None
    log_effects(tracking, run, FOUND.model_copy(update={"effects": []}))
    assert read_effects(tracking, run) is None
    told = FOUND.model_copy(update={"effects": [], "verdict": ["nothing better"]})
    log_effects(tracking, run, told)
    assert read_effects(tracking, run) == told
    log_effects(tracking, run, FOUND)
    assert read_effects(tracking, run) == FOUND
    names = [file.path for file in tracking.client.list_artifacts(run)]
    assert sorted(names) == ["effects.json", "effects.png"]


def test_damaged_numbers_are_a_warning(search: tuple[Tracking, str], caplog: Any) -> None:
    tracking, run = search
    tracking.log_text(run, '{"effects": 3}', FILE)
    assert read_effects(tracking, run) is None
    assert caplog.messages[-1].startswith(f"effects.json of run {run}: ")
