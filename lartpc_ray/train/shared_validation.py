"""A validation that the workers of a data-parallel trial share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed

from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.loader import balance
from lartpc_ray.networks.batchnorm import Norm
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.inference import CHUNK_EVENTS, predict
from lartpc_ray.predict.job import apply, cut
from lartpc_ray.tasks.task import Task


def share(events: Events, rank: int, world_size: int, device: str) -> list[int]:
    """Return the numbers of the events that a rank validates: whole chunks, with voxels balanced.

    The last bits of an output depend on the other events of its batch, and no batch holds events
    of two chunks. So the outputs do not depend on the number of ranks.

    Args:
        events: of a split.
        rank, world_size: of the worker.
        device: where it validates.
    """
    if world_size == 1:  # need not read the events
        return list(range(len(events)))
    chunks = cut(range(len(events)), CHUNK_EVENTS[torch.device(device).type])
    voxels = [sum(events.voxels(number) for number in chunk) for chunk in chunks]
    return [number for place in balance(voxels, world_size)[rank] for number in chunks[place]]


def share_averages(network: UResNet) -> None:
    """Give all ranks rank 0's averages of BatchNorm and its values that no gradient reaches."""
    for parameter in network.parameters():
        if not parameter.requires_grad:
            distributed.broadcast(parameter.data, 0)
    for module in network.modules():
        if isinstance(module, Norm):
            for values in module.buffers():
                distributed.broadcast(values, 0)


def own_parts(
    network: UResNet, task: Task, events: Sequence[Event], numbers: Sequence[int], device: str
) -> dict[int, Any]:
    """Return number to part of the validation, for some events of a split."""
    chosen = (events[number] for number in numbers)
    pairs = predict(network, task, chosen, device=device, numbers=numbers)
    return dict(zip(numbers, apply(task.validation_part, numbers, pairs), strict=True))


def gather_parts(own: dict[int, Any], rank: int, world_size: int) -> list[Any]:
    """Return the parts of all events in their order on rank 0; nothing on the other ranks."""
    if world_size == 1:
        return [own[number] for number in sorted(own)]
    received: list[Any] | None = None if rank else [None] * world_size
    distributed.gather_object(own, received)
    joined: dict[int, Any] = {}
    for parts in received or []:
        joined |= parts
    return [joined[number] for number in sorted(joined)]
