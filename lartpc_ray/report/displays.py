"""What a trained network found, to look at: events to turn with the mouse, the confusion table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.draw import brightest, views, write_drawing
from lartpc_ray.data.event import Event
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.inference import predict
from lartpc_ray.tasks import SegmentationTask
from lartpc_ray.tasks.segmentation import AS
from lartpc_ray.tasks.task import Means, Thresholds
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint

MAX_EVENTS = 50
"""The first test events, of which three are shown."""


@dataclass(frozen=True, eq=False)
class ScoredEvent:
    """An event, what was found in it, and how good that is."""

    number: int
    event: Event
    found: Event
    score: float


def log_displays(tracking: Tracking, run: str, state: Checkpoint, result: EvaluationResult) -> None:
    """Keep three events and, of a segmentation, the confusion table in a run."""
    with tempfile.TemporaryDirectory() as scratch:
        draw_displays(Path(scratch), state, result.thresholds)
        draw_confusion_of(Path(scratch) / "confusion.png", result.best)
        tracking.log_artifacts(run, Path(scratch), "pictures")


def draw_displays(folder: Path, state: Checkpoint, at: Thresholds) -> None:
    """Draw the worst, the middle and the best of the first test events, a page and a picture each.

    Args:
        folder: to write into.
        state: of the trained run.
        at: class to thresholds.
    """
    judged = sorted(_scored_events(state, at), key=lambda one: one.score)
    ranks = {"worst": 0, "middle": len(judged) // 2, "best": -1} if judged else {}
    for rank, place in ranks.items():
        one = judged[place]
        title = f"{rank} of {len(judged)} test events: number {one.number}, score {one.score:.3f}"
        event, found = brightest(one.event), brightest(one.found)
        if len(found) != len(event):  # an infill finds voxels, too
            shown = views(found, predicted=True)
            event = found
        elif isinstance(state.trial.task, SegmentationTask):
            shown = views(event, classes=found.semantic)
        else:
            shown = views(event, clusters=found.cluster)
        write_drawing(folder / f"{rank}-event-{one.number}.html", event, title, shown)


def draw_confusion_of(path: Path, best: Means) -> bool:
    """Draw the confusion table of a segmentation's means; False for another task's."""
    rows = {
        name: [best[name][AS + other] for other in CLASS_NAMES]
        for name in CLASS_NAMES
        if AS + name in best.get(name, {})
    }
    if not rows:
        return False
    draw_confusion(path, np.array(list(rows.values())), list(rows), list(CLASS_NAMES))
    return True


def _scored_events(state: Checkpoint, at: Thresholds) -> Iterator[ScoredEvent]:
    """The first test events that have something to score."""
    task = state.trial.task
    events = islice(state.trial.data.splits.events("test"), MAX_EVENTS)
    for number, (event, outputs) in enumerate(predict(state.restored(), task, events)):
        rows = task.evaluate(number, event, outputs, at).rows
        scores = [row.value for row in rows if row.metric == task.metric]
        scores = scores or [row.value for row in rows if row.metric == "accuracy"]
        if scores:
            yield ScoredEvent(
                number, event, task.reconstruct(event, outputs, at), float(np.mean(scores))
            )


def draw_confusion(
    path: Path, shares: Float[np.ndarray, "true found"], true: Sequence[str], found: Sequence[str]
) -> None:
    """Draw which share of the voxels of each true class was found as which."""
    figure = Figure(figsize=(5.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the true class")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(found)), found)
    axes.set_yticks(range(len(true)), true)
    axes.set(xlabel="found", ylabel="true", title="confusion, test split")
    figure.savefig(path, dpi=110)
