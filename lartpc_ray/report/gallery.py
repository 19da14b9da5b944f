"""The worst and the best events of a trained network, and what is drawn of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES, ParticleClass
from lartpc_ray.data.draw import View, match_colours, views
from lartpc_ray.data.event import Event, Events
from lartpc_ray.metrics.clustering import true_index
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.predict.inference import predict
from lartpc_ray.report.document import Panel
from lartpc_ray.tasks import AnyTask, ClusteringTask, InfillTask, MichelTask, SegmentationTask
from lartpc_ray.tasks.task import Outputs, Thresholds
from lartpc_ray.trials.checkpoint import Checkpoint

MOST_VOXELS = 8_000
"""Voxels of an event that are drawn: those of most energy. The page stays below 10 MB."""
RIGHT, WRONG = "#8a94a6", "#e03131"


@dataclass(frozen=True, eq=False)
class EventDrawing:
    """An event of the gallery: its number in the split, its scores by class, and its panels."""

    number: int
    scores: dict[str, float]
    voxels: int
    panels: list[Panel]


@dataclass(frozen=True, eq=False)
class EventScan:
    """What a pass over some events of a split found.

    Attributes:
        events: how many were looked at.
        scores: number of an event to its scores by class; events without any are absent.
        true: class to (event,) true clusters of the events that have the class.
        values: metric to class to (event,) values of the same events.
        sizes: class to (cluster, 2) extent and mean margin of each true cluster of clustering.
    """

    events: int
    scores: dict[int, dict[str, float]]
    true: dict[str, np.ndarray]
    values: dict[str, dict[str, np.ndarray]]
    sizes: dict[str, np.ndarray]


def scan_events(
    state: Checkpoint, events: Events, at: Thresholds, metric: str, names: Sequence[str], most: int
) -> EventScan:
    """Score the first events of a split.

    Args:
        state: of a trained run.
        events: of the split.
        at: class to thresholds.
        metric, names: the score of an event is this metric of these classes.
        most: events that are looked at.
    """
    task = state.trial.task
    count = min(most, len(events))
    rows: list[Row] = []
    sizes: dict[str, list[tuple[float, float]]] = {}
    for number, pair in enumerate(_predicted(state, events, range(count))):
        rows += task.evaluate(number, *pair, at).rows
        if isinstance(task, ClusteringTask):
            for name, found in _true_clusters(*pair, task.seeds.min_voxels).items():
                rows.append(Row(number, name, "true", float(len(found))))
                sizes.setdefault(name, []).extend(found)
    scores: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.metric == metric and row.name in names:
            scores.setdefault(row.event, {})[row.name] = row.value
    true, values = _by_class(Metrics(rows), ("true", "n_clusters", metric))
    return EventScan(count, scores, true, values, {name: np.array(sizes[name]) for name in true})


def extreme_events(
    scores: Mapping[int, dict[str, float]], each: int
) -> tuple[list[int], list[int]]:
    """The events of least and of highest mean score, the extreme first; none is in both.

    Of equal scores that over more classes is the better one.

    Example:
        >>> chosen({0: {"MIP": 0.5}, 1: {"MIP": 0.9, "HIP": 0.7}, 2: {"MIP": 0.1}}, 3)
        ([2], [1])
    """

    def rank(number: int) -> tuple[float, int, int]:
        values = list(scores[number].values())
        return float(np.mean(values)), len(values), number

    order = sorted(scores, key=rank)
    each = min(each, len(order) // 2)
    return order[:each], order[::-1][:each]


def draw_events(
    state: Checkpoint, events: Events, looked: EventScan, numbers: Sequence[int], at: Thresholds
) -> list[EventDrawing]:
    """The panels of some of the events that were looked at."""
    made = []
    for number, (event, outputs) in zip(numbers, _predicted(state, events, numbers), strict=True):
        panels = [
            subsample(panel, event) for panel in _panels(state.trial.task, event, outputs, at)
        ]
        made.append(EventDrawing(number, looked.scores[number], len(event), panels))
    return made


def _predicted(
    state: Checkpoint, events: Events, numbers: Sequence[int]
) -> Iterator[tuple[Event, Outputs]]:
    return predict(state.restored(), state.trial.task, (events[number] for number in numbers))


def _true_clusters(
    event: Event, outputs: Outputs, least: int
) -> dict[str, list[tuple[float, float]]]:
    """Class to extent and mean margin of each true cluster; classes without one are absent.

    The extent is the largest distance of two voxels along an axis, in the units of the embedding:
    the image spans -1 to 1.
    """
    found = {}
    for particle in ParticleClass:
        mask = event.semantic == particle
        index = true_index(event.cluster[mask], least)
        coords, margin = 2 * event.coords[mask] / np.array(event.shape), outputs["margin"][mask]
        each = (index == number for number in range(index.max(initial=-1) + 1))
        pairs = [(np.ptp(coords[one], axis=0).max(), margin[one].mean()) for one in each]
        if pairs:
            found[particle.name] = [(float(extent), float(mean)) for extent, mean in pairs]
    return found


def _by_class(
    metrics: Metrics, names: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Of the events that have all of these metrics: the first, and the others, class by class."""
    cells = {(row.name, row.metric, row.event): row.value for row in metrics.rows}
    true: dict[str, np.ndarray] = {}
    values: dict[str, dict[str, np.ndarray]] = {name: {} for name in names[1:]}
    for label in CLASS_NAMES:
        events = sorted({key[2] for key in cells if key[:2] == (label, names[0])})
        rows = [[cells.get((label, name, event)) for name in names] for event in events]
        kept = np.array([row for row in rows if None not in row], float)
        if len(kept):
            true[label] = kept[:, 0].astype(int)
            for place, name in enumerate(names[1:], 1):
                values[name][label] = kept[:, place]
    return true, values


def _panels(task: AnyTask, event: Event, outputs: Outputs, at: Thresholds) -> list[Panel]:
    """What is true and what is found, in the same colours."""
    truth = views(event)
    if isinstance(task, ClusteringTask):
        found = match_colours(truth[2], event, task.clusters(event, outputs, at))
        embedded = replace(truth[2], title="embedding space, in the colours of the truth")
        return [
            Panel(truth[2], event.coords),
            Panel(found, event.coords),
            Panel(embedded, outputs["position"], image=False),
        ]
    if isinstance(task, SegmentationTask):
        classes = task.classes(outputs)
        wrong = np.where(event.semantic < 0, -1, (classes != event.semantic).astype(np.int32))
        compared = View("right or wrong", wrong, wrong, (RIGHT, WRONG), ("right", "wrong"))
        found = replace(truth[1], title="predicted class", value=classes, hover=classes)
        true = replace(truth[1], title="true class")
        return [Panel(view, event.coords) for view in (true, found, compared)]
    if isinstance(task, InfillTask):
        return _filled(event, task.reconstruct(event, outputs, at))
    return _michels(task, event, task.reconstruct(event, outputs, at), truth[2])


def _filled(event: Event, filled: Event) -> list[Panel]:
    """What was seen in grey; in the dead regions the truth beside what was put there."""
    assert event.regions is not None
    seen, hidden = event.select(~event.dead), event.regions.truth
    panels = []
    for title, coords, mine in (
        ("truth", np.concatenate([seen.coords, hidden.coords]), np.arange(len(hidden)) * 0),
        ("filled in", filled.coords, None),
    ):
        place = (
            np.where(filled.dead, 0, -1) if mine is None else np.r_[np.full(len(seen), -1), mine]
        )
        view = View(title, place, place, (WRONG,), ("in a dead region",))
        panels.append(Panel(view, coords))
    return panels


def _michels(task: MichelTask, event: Event, found: Event, truth: View) -> list[Panel]:
    """True Michel electrons beside those found; all other voxels grey."""
    true = np.where(event.semantic == ParticleClass.MICHEL, truth.value, -1)
    shown = replace(truth, title="true Michel electrons", value=true)
    labels = replace(views(found)[2], title="found Michel electrons")
    return [Panel(shown, event.coords), Panel(labels, event.coords)]


def subsample(panel: Panel, event: Event) -> Panel:
    """The panel, or its voxels of most energy; of others than the event's, every so many."""
    count = len(panel.coords)
    if count <= MOST_VOXELS:
        return panel
    same = count == len(event)
    order = np.argsort(-event.energy, kind="stable") if same else np.arange(0, count)
    step = 1 if same else -(-count // MOST_VOXELS)
    keep = order[::step][:MOST_VOXELS]
    view = replace(panel.view, value=panel.view.value[keep], hover=panel.view.hover[keep])
    return replace(panel, view=view, coords=panel.coords[keep])
