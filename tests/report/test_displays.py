"""Pictures of what a network found: which events, which colours."""

from pathlib import Path

import numpy as np
import pytest

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report import displays as display
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "colour"), [("clustering", "predicted cluster"), ("segmentation", "predicted class")]
)
def test_worst_middle_and_best_are_drawn(
    tmp_path: Path, few_events: Path, task: str, colour: str
) -> None:
    small = {"network.depth": 2, "network.filters": 4, "network.blocks": 1}
    trial = make_trial({**small, "task.name": task, "data.splits.path": str(few_events)})
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [])
    at = {name: {"s0": 0.0, "p0": 0.5} for name in CLASS_NAMES}
    display.draw_displays(tmp_path, Evaluation(state), at)
    pages = sorted(tmp_path.glob("*.html"))
    assert [page.name.split("-")[0] for page in pages] == ["best", "middle", "worst"]
    assert len({page.name.split("-")[-1] for page in pages}) == 3, "three events"
    scores = {}
    for page in pages:
        text = page.read_text()
        assert colour in text
        assert len(text) < 10_000_000
        scores[page.name.split("-")[0]] = float(text.split(", score ")[1][:5])
    assert scores["worst"] <= scores["middle"] <= scores["best"]


def test_a_confusion_table_is_a_segmentations(tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    assert not display.draw_confusion_of(path, {"MIP": {"ari": 1.0}})
    shares = dict(zip(CLASS_NAMES, np.full(5, 0.2), strict=True))
    rows = {f"as_{name}": float(share) for name, share in shares.items()}
    assert display.draw_confusion_of(path, {"MIP": rows, "SHOWER": rows, "ALL": {"f1": 0.5}})
    assert path.read_bytes().startswith(b"\x89PNG")
