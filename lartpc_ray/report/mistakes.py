"""What a clustering still gets wrong: true clusters that are split or merged, counted and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.draw import match_colours, views
from lartpc_ray.data.event import Event, Events
from lartpc_ray.metrics.clustering import PART, true_cluster_outcomes, true_index
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.report.document import EventFigure, Page, Panel, Row, Table
from lartpc_ray.report.gallery import subsample
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.tasks.task import Outputs, Thresholds

DRAWN = {"split": "in several pieces", "merged": "one with another"}
"""Which fates of a true cluster are drawn, and what they are called."""
AROUND = 5
"""Voxels around the drawn clusters in which the others of the event are shown, in grey."""


@dataclass
class Outcome:
    """How many true clusters of a class had a fate, and where the largest of them is."""

    count: int = 0
    voxels: int = 0
    event: int = -1
    cluster: int = -1


@dataclass
class ClassOutcomes:
    """The true clusters of a class: how many there are, and their fates."""

    clusters: int = 0
    fates: dict[str, Outcome] = field(default_factory=dict)


def write(
    page: Page, network: UResNet, task: ClusteringTask, events: Events, most: int, at: Thresholds
) -> None:
    """The section; nothing where there is no true cluster.

    Args:
        page: to write on.
        network: trained, in evaluation mode.
        task: with the cut that makes the clusters.
        events: of the test split.
        most: of these, the first that are looked at.
        at: class to thresholds of the cut.
    """
    tallies = count_outcomes(task, at, _predicted(network, task, events, range(most)))
    if not tallies:
        return
    names = list(dict.fromkeys(name for each in tallies.values() for name in each.fates))
    rows = [
        Row("", name, [str(each.clusters), *(str(each.fates[fate].count) for fate in names)])
        for name, each in tallies.items()
    ]
    text = (
        f"What became of the true clusters of the first {most} test events, by the better "
        f"way to read the network (--method {task.active_method.name}). A predicted cluster has a "
        "part of a true one if it has a tenth of its voxels. Split: several have one. Merged: of "
        "such a cluster a tenth or more is of other true ones. Missed: no cluster has the tenth. "
        "Below is the largest of each: on the left the true clusters that are concerned, on the "
        "right what was made of their voxels, all others in grey."
    )
    cases = [
        (name, fate, each.fates[fate])
        for name, each in tallies.items()
        for fate in DRAWN
        if each.fates[fate].count
    ]
    found = _predicted(network, task, events, [case.event for _, _, case in cases])
    body = [
        EventFigure(
            _panels(task, event, outputs, at, name, case.cluster),
            f"{name} {fate}, {DRAWN[fate]}: {case.count} of {tallies[name].clusters}, the largest "
            f"with {case.voxels} voxels in event {case.event}",
        )
        for (name, fate, case), (event, outputs) in zip(cases, found, strict=True)
    ]
    page.add("Mistakes", text, Table("true clusters", ["all", *names], rows), *body)


def count_outcomes(
    task: ClusteringTask, at: Thresholds, predictions: Iterator[tuple[Event, Outputs]]
) -> dict[str, ClassOutcomes]:
    """Class to its tally, for the classes with a true cluster."""
    least = task.seeds.min_voxels
    found = {name: ClassOutcomes() for name in CLASS_NAMES}
    for number, (event, outputs) in enumerate(predictions):
        labels = task.clusters(event, outputs, at)
        for place, name in enumerate(CLASS_NAMES):
            mask = event.semantic == place
            truth = event.cluster[mask]
            index = true_index(truth, least)
            sizes = np.bincount(index[index >= 0])
            found[name].clusters += len(sizes)
            for fate, which in true_cluster_outcomes(truth, labels[mask], min_voxels=least).items():
                mine = found[name].fates.setdefault(fate, Outcome())
                mine.count += int(which.sum())
                hit = sizes * which
                if len(hit) and hit.max() > mine.voxels:
                    largest = int(hit.argmax())
                    mine.voxels, mine.event = int(hit.max()), number
                    mine.cluster = int(truth[index == largest][0])
    return {name: each for name, each in found.items() if each.clusters}


def _predicted(
    network: UResNet, task: ClusteringTask, events: Events, numbers: Sequence[int]
) -> Iterator[tuple[Event, Outputs]]:
    return predict(network, task, (events[number] for number in numbers))


def _panels(
    task: ClusteringTask,
    event: Event,
    outputs: Outputs,
    at: Thresholds,
    name: str,
    cluster: int,
) -> list[Panel]:
    """A true cluster, and those that its predicted ones reach into, beside what was found."""
    labels = task.clusters(event, outputs, at)
    of_class = event.semantic == CLASS_NAMES.index(name)
    mine = of_class & (event.cluster == cluster)
    pieces, counts = np.unique(labels[mine & (labels >= 0)], return_counts=True)
    parts = pieces[counts >= PART * mine.sum()]
    reached = np.unique(event.cluster[of_class & np.isin(labels, parts)])
    shown = mine | (of_class & np.isin(event.cluster, reached[reached >= 0]))
    low = event.coords[shown].min(axis=0) - AROUND
    high = event.coords[shown].max(axis=0) + AROUND
    box = ((event.coords >= low) & (event.coords <= high)).all(axis=1)
    event, labels, shown = event.select(box), labels[box], shown[box]
    truth = views(event)[2]
    truth = replace(truth, value=np.where(shown, truth.value, -1))
    found = match_colours(truth, event, np.where(shown, labels, -1))
    return [subsample(Panel(view, event.coords), event) for view in (truth, found)]
