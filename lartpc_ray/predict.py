"""A network and events -> outputs event by event: the one path to every metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.tasks import AnyTask
from lartpc_ray.tasks.task import Outputs

BATCH_VOXELS = 20_000
"""Voxels at a time: enough to keep the cores busy, little enough to stay in memory."""


def predict(
    network: UResNet, task: AnyTask, events: Iterable[Event], *, device: str = "cpu"
) -> Iterator[tuple[Event, Outputs]]:
    """Stream the prepared events and what the network says of them.

    Args:
        network: in any mode; it is evaluated with its running averages and left as it was.
        task: prepares the events and reads the outputs.
        events: as they come from a file; an empty one gives empty outputs.
        device: where the network is.
    """
    for group in _groups(task.prepare(event) for event in events):
        batch = VoxelBatch.of(group).to(device)
        outputs = {name: batch.split(rows) for name, rows in _run(network, task, batch).items()}
        for place, event in enumerate(group):
            yield event, {name: parts[place] for name, parts in outputs.items()}


@torch.inference_mode()
def _run(network: UResNet, task: AnyTask, batch: VoxelBatch) -> dict[str, torch.Tensor]:
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
