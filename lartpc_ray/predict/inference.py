"""Run a trained network over events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.tasks.task import Prediction, Task, Thresholds
from lartpc_ray.trials.checkpoint import Checkpoint

BATCH_VOXELS = 20_000
"""Voxels at a time: enough to keep the cores busy, little enough to stay in memory."""


def predict(
    network: UResNet, task: Task, events: Iterable[Event], *, device: str = "cpu"
) -> Iterator[Prediction]:
    """Yield the prepared events, each with the outputs of the network.

    Args:
        network: in any mode; it runs in evaluation mode and keeps its own.
        task: prepares the events and reads the outputs.
        events: as they come from a file; an empty one gives empty outputs.
        device: where the network is.
    """
    for group in _groups(task.prepare(event) for event in events):
        batch = VoxelBatch.of(group).to(device)
        outputs = {name: batch.split(rows) for name, rows in _run(network, task, batch).items()}
        for number, event in enumerate(group):
            yield event, {name: parts[number] for name, parts in outputs.items()}


@torch.inference_mode()
def _run(network: UResNet, task: Task, batch: VoxelBatch) -> dict[str, torch.Tensor]:
    training = network.training
    network.eval()
    try:
        raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
        return task.outputs(raw, batch)
    finally:
        network.train(training)


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    group: list[Event] = []
    voxels = 0
    for event in events:
        if group and voxels + len(event) > BATCH_VOXELS:
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
    task = state.trial.task
    seen = (state.trial.data.splits.seen(event) for event in events)
    for event, outputs in predict(state.restored(), task, seen):
        yield task.reconstruct(event, outputs, thresholds)
