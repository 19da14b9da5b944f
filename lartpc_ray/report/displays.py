"""Draw events of a trained network: pages to turn with the mouse, and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.draw import brightest, write_drawing
from lartpc_ray.data.event import Event
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.tasks.segmentation import AS
from lartpc_ray.tasks.task import Means, Thresholds
from lartpc_ray.tracking.runs import Tracking

MAX_EVENTS = 50
"""The first test events, of which three are drawn."""


@dataclass(frozen=True, eq=False)
class ScoredEvent:
    """An event, its reconstruction, and its score."""

    number: int
    event: Event
    reconstructed: Event
    score: float


def log_displays(
    tracking: Tracking, run: str, evaluation: Evaluation, result: EvaluationResult
) -> None:
    """Log three events and, of a segmentation, the confusion table to a run."""
    with tempfile.TemporaryDirectory() as scratch:
        draw_displays(Path(scratch), evaluation, result.thresholds)
        draw_confusion_of(Path(scratch) / "confusion.png", result.best)
        tracking.log_artifacts(run, Path(scratch), "pictures")


def draw_displays(folder: Path, evaluation: Evaluation, thresholds: Thresholds) -> None:
    """Draw the worst, the middle and the best of the first test events, a page and a picture each.

    Args:
        folder: to write into.
        evaluation: of the trained network.
        thresholds: class to thresholds.
    """
    events = sorted(_scored_events(evaluation, thresholds), key=lambda scored: scored.score)
    ranks = {"worst": 0, "middle": len(events) // 2, "best": -1} if events else {}
    for rank, index in ranks.items():
        scored = events[index]
        title = f"{rank} of {len(events)} test events: "
        title += f"number {scored.number}, score {scored.score:.3f}"
        event, shown = evaluation.task.views(
            brightest(scored.event), brightest(scored.reconstructed)
        )
        write_drawing(folder / f"{rank}-event-{scored.number}.html", event, title, shown)


def _scored_events(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[ScoredEvent]:
    """Yield the first test events that have something to score."""
    task = evaluation.task
    for number, (event, outputs) in enumerate(evaluation.predictions("test")[:MAX_EVENTS]):
        rows = task.evaluate(number, event, outputs, thresholds).rows
        scores = [row.value for row in rows if row.metric == task.metric]
        scores = scores or [row.value for row in rows if row.metric == "accuracy"]
        if scores:
            reconstructed = task.reconstruct(event, outputs, thresholds)
            yield ScoredEvent(number, event, reconstructed, float(np.mean(scores)))


def draw_confusion_of(path: Path, best: Means) -> bool:
    """Draw the confusion table in the means of a segmentation; return False for another task."""
    rows = {
        name: [best[name][AS + other] for other in CLASS_NAMES]
        for name in CLASS_NAMES
        if AS + name in best.get(name, {})
    }
    if rows:
        draw_confusion(path, np.array(list(rows.values())), list(rows), list(CLASS_NAMES))
    return bool(rows)


def draw_confusion(
    path: Path,
    shares: Float[np.ndarray, "true predicted"],
    true: Sequence[str],
    predicted: Sequence[str],
) -> None:
    """Draw the share of the voxels of each true class that is predicted as each class."""
    figure = Figure(figsize=(5.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the true class")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(predicted)), predicted)
    axes.set_yticks(range(len(true)), true)
    axes.set(xlabel="predicted", ylabel="true", title="confusion, test split")
    figure.savefig(path, dpi=110)
