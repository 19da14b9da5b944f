"""Run a trained network over events in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Literal

import torch

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.data.loader import prefetch
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.tasks.task import Prediction, Task, Thresholds
from lartpc_ray.trials.checkpoint import Checkpoint

Precision = Literal["float32", "bfloat16", "float16"]
BATCH_VOXELS = {"cpu": 20_000, "cuda": 200_000}
"""Voxels of a batch: enough to keep the cores or the GPU busy, few enough for the memory."""
CHUNK_EVENTS = {"cpu": 8, "cuda": 128}
"""Events of a chunk, the work that a worker receives. No batch holds events of two chunks.

The last bits of an output depend on the other events of its batch. Chunks are counted from the
first event of a file, so the batches do not depend on the number of workers.
"""
PREFETCHED = 1
"""Batches that a thread prepares while the network computes."""


def predict(
    network: UResNet,
    task: Task,
    events: Iterable[Event],
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    numbers: Iterable[int] | None = None,
) -> Iterator[Prediction]:
    """Yield the prepared events, each with the outputs of the network.

    Args:
        network: in any mode; it runs in evaluation mode and keeps its own.
        task: prepares the events and reads the outputs.
        events: as they come from a file; an empty one gives empty outputs.
        device: where the network is.
        precision: of the convolutions; the outputs are float32.
        numbers: of the events in their file or split; by default from 0.
    """
    prepared = (task.prepare(event) for event in events)
    groups = _groups(prepared, torch.device(device).type, count() if numbers is None else numbers)
    for group, batch in prefetch(((group, VoxelBatch.of(group)) for group in groups), PREFETCHED):
        yield from _outputs(network, task, group, batch.to(device), precision)


def _outputs(
    network: UResNet, task: Task, group: list[Event], batch: VoxelBatch, precision: Precision
) -> Iterator[Prediction]:
    raw = _run(network, task, batch, precision)
    outputs = {name: batch.split(rows) for name, rows in raw.items()}
    for number, event in enumerate(group):
        yield event, {name: parts[number] for name, parts in outputs.items()}


@torch.inference_mode()
def _run(
    network: UResNet, task: Task, batch: VoxelBatch, precision: Precision
) -> dict[str, torch.Tensor]:
    training = network.training
    network.eval()
    try:
        with autocast(batch.coords.device.type, precision):
            raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
        return task.outputs({name: values.float() for name, values in raw.items()}, batch)
    finally:
        network.train(training)


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Return a context that computes convolutions in a precision."""
    lower = precision != "float32"
    dtype = getattr(torch, precision) if lower else None
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=lower)


def _groups(events: Iterable[Event], device: str, numbers: Iterable[int]) -> Iterator[list[Event]]:
    """Yield the events of each batch: of one chunk, with at most so many voxels."""
    group: list[Event] = []
    voxels = 0
    for event, number in zip(events, numbers, strict=False):
        full = voxels + len(event) > BATCH_VOXELS[device] or number % CHUNK_EVENTS[device] == 0
        if group and full:
            yield group
            group, voxels = [], 0
        group.append(event)
        voxels += len(event)
    if group:
        yield group


def reconstruct_events(
    state: Checkpoint, events: Iterable[Event], thresholds: Thresholds
) -> Iterator[Event]:
    """Yield the prepared events with the reconstruction of a trained run in place of the truth.

    Args:
        state: of a trained run.
        events: as they come from a file; clustering needs their classes.
        thresholds: class to thresholds; voxels of another class stay in no cluster.
    """
    state = state.to_predict()
    task = state.trial.task
    seen = (state.trial.data.splits.seen(event) for event in events)
    for event, outputs in predict(state.restored(), task, seen):
        yield task.reconstruct(event, outputs, thresholds)
