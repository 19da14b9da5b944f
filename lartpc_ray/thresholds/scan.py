"""Score a split at every point of a grid of thresholds, here or by Ray tasks.

Shards of (event, class) go to Ray tasks, a few at a time, as they are read; each task returns the
scores at every point of the grid, or sums over its events. Where Ray does not run, this process
scores them. Neither the shards nor the order of their results depends on the number of workers.
Ray repeats a task if its worker dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from lartpc_ray.reconstruct.grid import objective_scores
from lartpc_ray.reconstruct.reconstructions import Voxels
from lartpc_ray.reconstruct.resampling import ChoiceSettings, ScoreSums
from lartpc_ray.runtime.cluster import cluster_resources
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.screen import ProgressBar
from lartpc_ray.thresholds.source import ClassVoxels

SHARD_VOXELS = 20_000
"""Voxels of a shard: some tens of milliseconds of work, far above the 2 ms that a task costs."""
SUM_VOXELS = 400_000
"""Voxels of a shard whose scores are summed: its result has some ten megabytes."""
Key = tuple[int, str]
"""Event and class."""
Work = Callable[..., Any]
Means = dict[str, dict[str, np.ndarray]]
"""Class to metric to the mean over the events at each point."""


def score_grid(
    parts: Iterable[ClassVoxels],
    task: Task,
    metrics: Sequence[str] | None = None,
    *,
    events: int = 1,
) -> dict[str, dict[str, np.ndarray]]:
    """Score all parts at all points, by Ray tasks where Ray runs.

    Args:
        parts: the scores of a class come in their order.
        task: with the method to tune.
        metrics: scores to compute; all scores of the method by default.
        events: number of events, for the progress bar.

    Returns:
        class to metric to (event, point...).
    """
    metrics = list(metrics or task.active_method.metrics)
    rows: dict[str, dict[str, list[np.ndarray]]] = {}
    for keys, shard in run_shards(_shards(parts, SHARD_VOXELS), task, events, score_shard, metrics):
        for (_, name), values in zip(keys, shard, strict=True):
            of_class = rows.setdefault(name, {metric: [] for metric in metrics})
            for metric in metrics:
                of_class[metric].append(values[metric])
    return {
        name: {metric: np.stack(of_class[metric]) for metric in metrics}
        for name, of_class in rows.items()
    }


def sum_grid(
    parts: Iterable[ClassVoxels],
    task: Task,
    objectives: Mapping[str, str],
    metrics: Sequence[str],
    settings: ChoiceSettings,
    *,
    events: int = 1,
) -> tuple[dict[str, ScoreSums], Means]:
    """Score all parts at all points, and sum over the events where they are scored.

    Args:
        parts, task, metrics, events: as for `score_grid`.
        objectives: class to its objective, which is resampled.
        settings: of the resamples.

    Returns:
        class to the sums of its objective, and the means of all metrics.
    """
    sums: dict[str, ScoreSums] = {}
    totals: Means = {}
    arguments = (list(metrics), dict(objectives), settings.model_dump_json())
    shards = _shards(parts, SUM_VOXELS)
    for _, shard in run_shards(shards, task, events, _summed, *arguments):
        for name, (of_class, of_metrics) in shard.items():
            sums[name] = sums[name] + of_class if name in sums else of_class
            known = totals.setdefault(name, dict.fromkeys(of_metrics, np.zeros(())))
            totals[name] = {metric: known[metric] + of_metrics[metric] for metric in known}
    means = {
        name: {metric: total / sums[name].events.sum() for metric, total in of_class.items()}
        for name, of_class in totals.items()
    }
    return sums, means


def _shards(parts: Iterable[ClassVoxels], most: int) -> Iterator[list[ClassVoxels]]:
    shard: list[ClassVoxels] = []
    voxels = 0
    for part in parts:
        shard.append(part)
        voxels += len(part.voxels["truth"])
        if voxels >= most:
            yield shard
            shard, voxels = [], 0
    if shard:
        yield shard


def run_shards(
    shards: Iterator[list[ClassVoxels]], task: Task, events: int, work: Work, *arguments: Any
) -> Iterator[tuple[list[Key], Any]]:
    """Yield the keys and the result of each shard in order.

    Ray tasks compute them where Ray runs, see `run_in_order`, else this process.
    """
    keys: deque[list[Key]] = deque()

    def calls(put: Callable[[Any], Any]) -> Iterator[tuple[Any, ...]]:
        for shard in shards:
            keys.append([(part.event, part.name) for part in shard])
            arrays = put([part.voxels for part in shard])
            yield arrays, keys[-1], task.model_dump_json(), *arguments

    results: Iterator[Any] = (work(*call) for call in calls(lambda arrays: arrays))
    if cluster_resources() is not None:
        import ray

        from lartpc_ray.runtime.ray_tasks import run_in_order

        results = run_in_order(work, calls(ray.put))
    with _Progress(task, events) as progress:
        for result in results:
            progress.advance(keys[0])
            yield keys.popleft(), result


class _Progress:
    """Show the progress of a scan on the terminal and in the live metrics."""

    def __init__(self, task: Task, events: int) -> None:
        self._bar = ProgressBar("thresholds: event", max(1, events))
        self._method = task.active_method
        self._points = prod(len(axis) for axis in self._method.axes().values())
        self._events = events
        self._ended = 0

    def __enter__(self) -> _Progress:
        self._bar.__enter__()
        self._record()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:  # the last events may have nothing to score
            self._count(self._events)
        self._bar.__exit__(*error)

    def advance(self, keys: Sequence[Key]) -> None:
        """Count a shard as done: all events up to its last one."""
        self._log("total", self._points * len(keys))
        self._count(keys[-1][0] + 1)

    def _count(self, ended: int) -> None:
        before, self._ended = self._ended, max(self._ended, ended)
        self._bar.advance(self._ended - before)
        self._record()

    def _record(self) -> None:
        self._log("left", self._points * max(0, self._events - self._ended))

    def _log(self, name: str, points: int) -> None:
        """Record a live metric, where Ray runs."""
        if cluster_resources() is not None:
            from lartpc_ray.runtime import live_metrics as live

            live.record(f"lartpc_threshold_points_{name}", points, method=self._method.name)


def score_shard(
    shard: list[Voxels], _: list[Key], settings: str, metrics: list[str]
) -> list[dict[str, np.ndarray]]:
    task: Task = TypeAdapter(AnyTask).validate_json(settings)
    return [task.scores(voxels, metrics) for voxels in shard]


def _summed(
    shard: list[Voxels],
    keys: list[Key],
    settings: str,
    metrics: list[str],
    objectives: dict[str, str],
    choice: str,
) -> dict[str, tuple[ScoreSums, dict[str, np.ndarray]]]:
    """Score a shard, and sum its scores."""
    return sum_scores(score_shard(shard, keys, settings, metrics), keys, objectives, choice)


def sum_scores(
    scored: Sequence[Mapping[str, np.ndarray]],
    keys: Sequence[Key],
    objectives: Mapping[str, str],
    choice: str,
) -> dict[str, tuple[ScoreSums, dict[str, np.ndarray]]]:
    """Return for each class the sums of its objective, and of all its metrics.

    Args:
        scored: metric to the scores at each point, of each key.
        keys: events and classes.
        objectives: class to its objective.
        choice: `ChoiceSettings` as JSON.
    """
    result = {}
    for name in dict.fromkeys(name for _, name in keys):
        rows = [number for number, (_, of) in enumerate(keys) if of == name]
        stacked = {metric: np.stack([scored[row][metric] for row in rows]) for metric in scored[0]}
        events = np.array([keys[row][0] for row in rows])
        values = objective_scores(stacked, objectives[name])
        sums = ScoreSums.of(events, values, ChoiceSettings.model_validate_json(choice))
        totals = {metric: np.nan_to_num(rows).sum(axis=0) for metric, rows in stacked.items()}
        result[name] = sums, totals
    return result
