"""The section about mistakes: true clusters that are split or merged, counted and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.views import Panel, match_colours, views
from lartpc_ray.metrics.clustering import PART
from lartpc_ray.report.document import EventFigure, Page, Row, Table
from lartpc_ray.report.gallery import subsample
from lartpc_ray.tasks.task import Prediction, Task, Thresholds

DRAWN = {"split": "in several pieces", "merged": "one with another"}
"""Outcomes of a true cluster that are drawn, with a description."""
MARGIN = 5
"""Voxels around the drawn clusters; other clusters within this margin are grey."""


@dataclass
class Outcome:
    """The number of true clusters of a class with one outcome, and the largest of them."""

    count: int = 0
    voxels: int = 0
    event: int = -1
    cluster: int = -1


@dataclass
class ClassOutcomes:
    """The number of true clusters of a class, and their outcomes."""

    clusters: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def write(
    page: Page, task: Task, predictions: Sequence[Prediction], count: int, thresholds: Thresholds
) -> None:
    """Write the section; nothing if the task has no true clusters.

    Args:
        page: to write on.
        task: with the reconstruction that makes the clusters.
        predictions: of the test split.
        count: number of events to read, the first of them.
        thresholds: class to thresholds of the reconstruction.
    """
    classes = count_outcomes(task, thresholds, (predictions[number] for number in range(count)))
    if not classes:
        return
    text = (
        f"What became of the true clusters of the first {count} test events, by the better "
        f"way to read the network (--method {task.active_method.name}). A predicted cluster has a "
        "part of a true one if it has a tenth of its voxels. Split: several have one. Merged: of "
        "such a cluster a tenth or more is of other true ones. Missed: no cluster has the tenth. "
        "Below is the largest of each: on the left the true clusters that are concerned, on the "
        "right what was made of their voxels, all others in grey."
    )
    figures = [
        EventFigure(
            draw_mistake(task, predictions[outcome.event], thresholds, name, outcome.cluster),
            f"{name} {label}, {DRAWN[label]}: {outcome.count} of {of_class.clusters}, the largest "
            f"with {outcome.voxels} voxels in event {outcome.event}",
        )
        for name, of_class in classes.items()
        for label in DRAWN
        if (outcome := of_class.outcomes[label]).count
    ]
    page.add("Mistakes", text, _table(classes), *figures)


def _table(classes: Mapping[str, ClassOutcomes]) -> Table:
    labels = list(dict.fromkeys(label for row in classes.values() for label in row.outcomes))
    rows = [
        Row("", name, [str(row.clusters), *(str(row.outcomes[label].count) for label in labels)])
        for name, row in classes.items()
    ]
    return Table("true clusters", ["all", *labels], rows)


def count_outcomes(
    task: Task, thresholds: Thresholds, predictions: Iterable[Prediction]
) -> dict[str, ClassOutcomes]:
    """Count the outcomes of each class with a true cluster."""
    classes: dict[str, ClassOutcomes] = {}
    for number, (event, outputs) in enumerate(predictions):
        for name, clusters in task.cluster_outcomes(event, outputs, thresholds).items():
            row = classes.setdefault(name, ClassOutcomes())
            row.clusters += len(clusters.voxels)
            for label, mask in clusters.outcomes.items():
                outcome = row.outcomes.setdefault(label, Outcome())
                outcome.count += int(mask.sum())
                largest = int((clusters.voxels * mask).argmax())
                if mask[largest] and clusters.voxels[largest] > outcome.voxels:
                    outcome.voxels, outcome.event = int(clusters.voxels[largest]), number
                    outcome.cluster = int(clusters.cluster[largest])
    return {name: classes[name] for name in task.scored_classes if name in classes}


def draw_mistake(
    task: Task, prediction: Prediction, thresholds: Thresholds, name: str, cluster: int
) -> list[Panel]:
    """Draw a true cluster, the true clusters merged with it, and the predicted clusters."""
    event, outputs = prediction
    labels = task.reconstruct(event, outputs, thresholds).cluster
    of_class = event.semantic == CLASS_NAMES.index(name)
    own = of_class & (event.cluster == cluster)
    pieces, counts = np.unique(labels[own & (labels >= 0)], return_counts=True)
    parts = pieces[counts >= PART * own.sum()]
    merged = np.unique(event.cluster[of_class & np.isin(labels, parts)])
    shown = own | (of_class & np.isin(event.cluster, merged[merged >= 0]))
    low = event.coords[shown].min(axis=0) - MARGIN
    high = event.coords[shown].max(axis=0) + MARGIN
    box = ((event.coords >= low) & (event.coords <= high)).all(axis=1)
    event, labels, shown = event.select(box), labels[box], shown[box]
    truth = views(event)[2]
    truth = replace(truth, value=np.where(shown, truth.value, -1))
    predicted = match_colours(truth, event, np.where(shown, labels, -1))
    return [subsample(Panel(view, event.coords), event) for view in (truth, predicted)]
