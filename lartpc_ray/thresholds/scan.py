"""Score a split at every point of a grid of thresholds, by Ray tasks.

Shards of (event, class) go to Ray tasks, a few at a time; each task returns the scores at every
point of the grid. Neither the shards nor the order of their scores depends on the number of
workers. Ray repeats a task if its worker dies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import ray
from pydantic import TypeAdapter

from lartpc_ray.reconstruct.reconstructions import Voxels
from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Prediction, Task
from lartpc_ray.terminal.screen import ProgressBar

SHARD_VOXELS = 20_000
"""Voxels of a shard: some tens of milliseconds of work, far above the 2 ms that a task costs."""
RETRIES = 5


@dataclass(frozen=True, eq=False)
class ClassVoxels:
    """The voxels of one class of one event."""

    event: int
    name: str
    voxels: Voxels


def collect(task: Task, predictions: Sequence[Prediction]) -> list[ClassVoxels]:
    """Return the voxels of each class of each event, in the order of the events."""
    parts: list[ClassVoxels] = []
    with ProgressBar("network: event", len(predictions)) as bar:
        for number, (event, outputs) in enumerate(predictions):
            classes = task.class_voxels(event, outputs).items()
            parts += [ClassVoxels(number, name, voxels) for name, voxels in classes]
            bar.advance()
    return parts


def score_grid(
    parts: Sequence[ClassVoxels], task: Task, metrics: Sequence[str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Score all parts at all points, by Ray tasks.

    Args:
        parts: the scores of a class come in their order.
        task: with the method to tune.
        metrics: scores to compute; all scores of the method by default.

    Returns:
        class to metric to (event, point...).
    """
    shards = list(_shards(parts))
    metrics = metrics or task.active_method.metrics
    done = _in_parallel(shards, task, metrics)
    rows: dict[str, dict[str, list[np.ndarray]]] = {}
    for number, shard in enumerate(shards):
        for part, values in zip(shard, done[number], strict=True):
            of_class = rows.setdefault(part.name, {metric: [] for metric in metrics})
            for metric in metrics:
                of_class[metric].append(values[metric])
    return {
        name: {metric: np.stack(of_class[metric]) for metric in metrics}
        for name, of_class in rows.items()
    }


def _shards(parts: Sequence[ClassVoxels]) -> Iterator[list[ClassVoxels]]:
    shard: list[ClassVoxels] = []
    voxels = 0
    for part in parts:
        shard.append(part)
        voxels += len(part.voxels["truth"])
        if voxels >= SHARD_VOXELS:
            yield shard
            shard, voxels = [], 0
    if shard:
        yield shard


def _in_parallel(
    shards: Sequence[Sequence[ClassVoxels]], task: Task, metrics: Sequence[str]
) -> dict[int, list[dict[str, np.ndarray]]]:
    """Return the scores of each shard; Ray has two shards per core at a time."""
    method = task.active_method
    remote = ray.remote(max_retries=RETRIES)(_score)
    room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    done: dict[int, list[dict[str, np.ndarray]]] = {}
    flying: dict[Any, int] = {}
    waiting = list(enumerate(shards))[::-1]
    points = prod(len(axis) for axis in method.axes().values())
    left = points * sum(len(shard) for shard in shards)
    live.record("lartpc_threshold_points_left", left, method=method.name)
    with ProgressBar("grid: class of an event", sum(len(shard) for shard in shards)) as bar:
        while waiting or flying:
            while waiting and len(flying) < room:
                number, shard = waiting.pop()
                arrays = ray.put([part.voxels for part in shard])
                flying[remote.remote(arrays, task.model_dump_json(), list(metrics))] = number
            (ended,), _ = ray.wait(list(flying), num_returns=1)
            number = flying.pop(ended)
            done[number] = ray.get(ended)
            bar.advance(len(shards[number]))
            ready = points * len(shards[number])
            left -= ready
            live.record("lartpc_threshold_points_total", ready, method=method.name)
            live.record("lartpc_threshold_points_left", left, method=method.name)
    return done


def _score(shard: list[Voxels], settings: str, metrics: list[str]) -> list[dict[str, np.ndarray]]:
    task: Task = TypeAdapter(AnyTask).validate_json(settings)
    return [task.scores(voxels, metrics) for voxels in shard]
