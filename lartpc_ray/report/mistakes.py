"""The section about mistakes: clusters split or merged, and the paper's kinds, with drawings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.views import Panel, match_colours, views
from lartpc_ray.metrics.clustering import PART
from lartpc_ray.metrics.mistake_kinds import KINDS
from lartpc_ray.report.document import EventFigure, Page, Row, Table
from lartpc_ray.report.gallery import subsample
from lartpc_ray.tasks.task import Prediction, Task, Thresholds

DRAWN = {"split": "in several pieces", "merged": "one with another"}
"""Outcomes of a true cluster that are drawn, with a description."""
MARGIN = 5
"""Voxels around the drawn clusters; other clusters within this margin are grey."""


@dataclass
class Outcome:
    """The number of true clusters of a class with one outcome, and the largest of each event.

    Attributes:
        count: number of true clusters.
        largest: event to voxels and number of the largest of its clusters with the outcome.
    """

    count: int = 0
    largest: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, event: int, voxels: int, cluster: int, count: int = 1) -> None:
        """Count clusters with the outcome, of which the largest is given."""
        self.count += count
        if voxels > self.largest.get(event, (0, 0))[0]:
            self.largest[event] = voxels, cluster

    def take(self, drawn: set[int]) -> int | None:
        """Return the event with the largest cluster that is not drawn yet, and add it."""
        free = {event: size for event, (size, _) in self.largest.items() if event not in drawn}
        if not free:
            return None
        event = max(free, key=free.__getitem__)
        drawn.add(event)
        return event


@dataclass
class ClassOutcomes:
    """The number of true clusters of a class, and their outcomes."""

    clusters: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def write(
    page: Page,
    task: Task,
    predictions: Sequence[Prediction],
    count: int,
    thresholds: Thresholds,
    without: Collection[int] = (),
) -> None:
    """Write the section; nothing if the task has no true clusters.

    Args:
        page: to write on.
        task: with the reconstruction that makes the clusters.
        predictions: of the test split.
        count: number of events to read, the first of them.
        thresholds: class to thresholds of the reconstruction.
        without: events that the page draws elsewhere.
    """
    classes = count_outcomes(task, thresholds, (predictions[number] for number in range(count)))
    if not classes:
        return
    kinds = count_kinds(task, thresholds, (predictions[number] for number in range(count)))
    text = (
        f"What became of the true clusters of the first {count} test events, in the clusters of "
        f"the thresholds above (--method {task.active_method.name}). A predicted cluster has a "
        "part of a true one if it has a tenth of its voxels. Split: several have one. Merged: of "
        "such a cluster a tenth or more is of other true ones. Missed: no cluster has the tenth. "
        "Below is the largest of each in an event that the page draws nowhere else: on the left "
        "the true clusters that are concerned, on the right what was made of their voxels, all "
        "others in grey. The second table counts the six kinds of mistakes of Koh et al. 2020, "
        "section IV.B, by rules of our own; a mistake may be of several kinds. One of each is "
        "drawn, too."
    )
    chosen = [
        (
            name,
            of_class.outcomes[label],
            f" {label}, {meaning}: {of_class.outcomes[label].count} of {of_class.clusters}",
        )
        for name, of_class in classes.items()
        for label, meaning in DRAWN.items()
    ]
    for kind, outcomes in kinds.items():
        for name, outcome in sorted(outcomes.items(), key=lambda item: -item[1].count)[:1]:
            chosen.append((name, outcome, f", {kind}: {KINDS[kind]}; {outcome.count} in all"))
    figures = _draw(task, predictions, thresholds, chosen, set(without))
    page.add("Mistakes", text, _table(classes), _kinds_table(kinds, classes), *figures)


def _draw(
    task: Task,
    predictions: Sequence[Prediction],
    thresholds: Thresholds,
    chosen: Iterable[tuple[str, Outcome, str]],
    drawn: set[int],
) -> list[EventFigure]:
    """Draw the largest cluster of each class and outcome in an event that is not drawn yet."""
    figures = []
    for name, outcome, caption in chosen:
        if (event := outcome.take(drawn)) is None:
            continue
        voxels, cluster = outcome.largest[event]
        panels = draw_mistake(task, predictions[event], thresholds, name, cluster)
        where = f"here with {voxels} voxels in event {event}"
        figures.append(EventFigure(panels, f"{name}{caption}; {where}"))
    return figures


def _table(classes: Mapping[str, ClassOutcomes]) -> Table:
    labels = list(dict.fromkeys(label for row in classes.values() for label in row.outcomes))
    rows = [
        Row("", name, [str(row.clusters), *(str(row.outcomes[label].count) for label in labels)])
        for name, row in classes.items()
    ]
    return Table("true clusters", ["all", *labels], rows)


def _kinds_table(
    kinds: Mapping[str, Mapping[str, Outcome]], classes: Mapping[str, ClassOutcomes]
) -> Table:
    none = Outcome()
    rows = [
        Row("", f"{kind}: {KINDS[kind]}", [str(found.get(name, none).count) for name in classes])
        for kind, found in kinds.items()
    ]
    return Table("kinds of mistakes", list(classes), rows)


def count_kinds(
    task: Task, thresholds: Thresholds, predictions: Iterable[Prediction]
) -> dict[str, dict[str, Outcome]]:
    """Count the mistakes of each of the paper's kinds by class; find the largest of each event."""
    kinds: dict[str, dict[str, Outcome]] = {kind: {} for kind in KINDS}
    for number, (event, outputs) in enumerate(predictions):
        for name, mistakes in task.cluster_mistakes(event, outputs, thresholds).items():
            for mistake in mistakes:
                outcome = kinds[mistake.kind].setdefault(name, Outcome())
                outcome.add(number, mistake.voxels, mistake.clusters[0])
    return kinds


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
                sizes = clusters.voxels * mask
                largest = int(sizes.argmax())
                cluster = int(clusters.cluster[largest])
                outcome.add(number, int(sizes[largest]), cluster, int(mask.sum()))
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
