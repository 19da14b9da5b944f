"""The scores of a split at every point of a grid of thresholds, by Ray tasks.

The network runs once an event. Shards of (event, class) then go to Ray tasks, a few at a time; each
gives the scores at every point of the grid. Shards do not depend on the number of workers and their
scores are put together in their order, so the answer does not either; a task whose worker dies runs
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import ray
from pydantic import TypeAdapter

from lartpc_ray.data.event import Event
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.reconstructions import Reconstruction, Voxels
from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.tasks.task import ThresholdTask
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


def collect(network: UResNet, task: ThresholdTask, events: Sequence[Event]) -> list[ClassVoxels]:
    """The parts of a split in the order of its events, by one pass of the network."""
    found: list[ClassVoxels] = []
    with ProgressBar("network: event", len(events)) as bar:
        for number, (event, outputs) in enumerate(predict(network, task, events)):
            found += [
                ClassVoxels(number, *part) for part in task.class_voxels(event, outputs).items()
            ]
            bar.advance()
    return found


def score_grid(
    found: Sequence[ClassVoxels], method: Reconstruction, metrics: Sequence[str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """The scores of all parts at all points, by Ray tasks.

    Args:
        found: the parts; a class's scores come in their order.
        method: what is tuned.
        metrics: which scores; all that the method has by default.

    Returns:
        class to metric to (event, point...).
    """
    shards = list(_shards(found))
    metrics = metrics or method.metrics
    done = _in_parallel(shards, method, metrics)
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


def _shards(found: Sequence[ClassVoxels]) -> Iterator[list[ClassVoxels]]:
    shard: list[ClassVoxels] = []
    voxels = 0
    for part in found:
        shard.append(part)
        voxels += len(part.voxels["truth"])
        if voxels >= SHARD_VOXELS:
            yield shard
            shard, voxels = [], 0
    if shard:
        yield shard


def _in_parallel(
    shards: Sequence[Sequence[ClassVoxels]], method: Reconstruction, metrics: Sequence[str]
) -> dict[int, list[dict[str, np.ndarray]]]:
    """The scores of each shard; two shards a core are on their way at a time."""
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
                flying[remote.remote(arrays, method.model_dump_json(), list(metrics))] = number
            (ended,), _ = ray.wait(list(flying), num_returns=1)
            number = flying.pop(ended)
            done[number] = ray.get(ended)
            bar.advance(len(shards[number]))
            ready = points * len(shards[number])
            left -= ready
            live.record("lartpc_threshold_points_total", ready, method=method.name)
            live.record("lartpc_threshold_points_left", left, method=method.name)
    return done


def _score(shard: list[Voxels], method: str, metrics: list[str]) -> list[dict[str, np.ndarray]]:
    read: Reconstruction = TypeAdapter(Reconstruction).validate_json(method)
    return [read.scores(voxels, metrics) for voxels in shard]
