"""The worst and the best events of a trained network, and their drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.data.views import Panel
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.tasks.task import Prediction, Task, Thresholds

MOST_VOXELS = 8_000
"""Voxels of an event that are drawn: those of most energy. The page stays below 10 MB."""


@dataclass(frozen=True, eq=False)
class EventDrawing:
    """An event of the gallery: its number in the split, its scores by class, and its panels."""

    number: int
    scores: dict[str, float]
    voxels: int
    panels: list[Panel]


@dataclass(frozen=True, eq=False)
class EventScan:
    """Scores and cluster sizes of some events of a split.

    Attributes:
        scores: number of an event to its scores by class; events without a score are absent.
        true: class to (event,) true clusters of the events that have the class.
        values: metric to class to (event,) values of the same events.
        sizes: class to (cluster, 2) extent and mean margin of each true cluster.
    """

    scores: dict[int, dict[str, float]]
    true: dict[str, np.ndarray]
    values: dict[str, dict[str, np.ndarray]]
    sizes: dict[str, np.ndarray]


def scan_events(
    task: Task,
    predictions: Sequence[Prediction],
    count: int,
    thresholds: Thresholds,
    metric: str,
    names: Sequence[str],
) -> EventScan:
    """Score the first events of a split.

    Args:
        task: of the network.
        predictions: of the split.
        count: number of events to score.
        thresholds: class to thresholds.
        metric, names: the score of an event is this metric of these classes.
    """
    rows: list[Row] = []
    sizes: dict[str, list[np.ndarray]] = {}
    for number in range(count):
        event, outputs = predictions[number]
        rows += task.evaluate(number, event, outputs, thresholds).rows
        for name, clusters in task.cluster_sizes(event, outputs).items():
            rows.append(Row(number, name, "true", float(len(clusters))))
            sizes.setdefault(name, []).append(clusters)
    scores: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.metric == metric and row.name in names:
            scores.setdefault(row.event, {})[row.name] = row.value
    true, values = _by_class(Metrics(rows), ("true", "n_clusters", metric))
    return EventScan(scores, true, values, {name: np.concatenate(sizes[name]) for name in true})


def extreme_events(
    scores: Mapping[int, dict[str, float]], count: int
) -> tuple[list[int], list[int]]:
    """Return the events of lowest and of highest mean score, the extreme first, none in both.

    Of equal means the one over more classes is better.

    Example:
        >>> extreme_events({0: {"MIP": 0.5}, 1: {"MIP": 0.9, "HIP": 0.7}, 2: {"MIP": 0.1}}, 3)
        ([2], [1])
    """

    def rank(number: int) -> tuple[float, int, int]:
        values = list(scores[number].values())
        return float(np.mean(values)), len(values), number

    order = sorted(scores, key=rank)
    count = min(count, len(order) // 2)
    return order[:count], order[::-1][:count]


def draw_events(
    task: Task,
    predictions: Sequence[Prediction],
    scan: EventScan,
    numbers: Sequence[int],
    thresholds: Thresholds,
) -> list[EventDrawing]:
    """Draw the panels of some of the scanned events."""
    drawings = []
    for number in numbers:
        event, outputs = predictions[number]
        panels = [subsample(panel, event) for panel in task.panels(event, outputs, thresholds)]
        drawings.append(EventDrawing(number, scan.scores[number], len(event), panels))
    return drawings


def _by_class(
    metrics: Metrics, names: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Return the first and the other metrics of the events that have all of them, by class."""
    cells = {(row.name, row.metric, row.event): row.value for row in metrics.rows}
    true: dict[str, np.ndarray] = {}
    values: dict[str, dict[str, np.ndarray]] = {name: {} for name in names[1:]}
    for label in CLASS_NAMES:
        events = sorted({key[2] for key in cells if key[:2] == (label, names[0])})
        rows = [[cells.get((label, name, event)) for name in names] for event in events]
        kept = np.array([row for row in rows if None not in row], float)
        if len(kept):
            true[label] = kept[:, 0].astype(int)
            for column, name in enumerate(names[1:], 1):
                values[name][label] = kept[:, column]
    return true, values


def subsample(panel: Panel, event: Event) -> Panel:
    """Return the panel with at most `MOST_VOXELS` voxels.

    They are the event's voxels of most energy. Of a panel with other voxels every n-th is kept.
    """
    count = len(panel.coords)
    if count <= MOST_VOXELS:
        return panel
    same = count == len(event)
    order = np.argsort(-event.energy, kind="stable") if same else np.arange(0, count)
    step = 1 if same else -(-count // MOST_VOXELS)
    keep = order[::step][:MOST_VOXELS]
    view = replace(panel.view, value=panel.view.value[keep], hover=panel.view.hover[keep])
    return replace(panel, view=view, coords=panel.coords[keep])
