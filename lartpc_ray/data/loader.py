"""Events -> batches: prepared, shuffled by seed and epoch, shared over ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pydantic import Field, PositiveInt

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import Splits
from lartpc_ray.data.steps import augment, crop, overlay
from lartpc_ray.settings import Settings

Prepare = Callable[[Event, np.random.Generator], Event]


class DataSettings(Settings):
    """Which events a trial sees, and how."""

    splits: Splits = Splits()
    batch_events: PositiveInt = Field(default=6, description="events a step, over all workers")
    batch_voxels: PositiveInt = Field(
        default=60_000, description="voxels a step and worker at most; what is over is left out"
    )
    augment: bool = Field(default=True, description="rotations and flips of the cube")
    overlay: float = Field(
        default=0.0, ge=0, le=1, description="share of the steps whose events lie two in an image"
    )
    crop: int = Field(default=0, ge=0, description="side of a random box in voxels; 0: none")
    seed: int = Field(default=0, ge=0)


def batches(
    events: Sequence[Event],
    settings: DataSettings,
    prepare: Prepare,
    *,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[VoxelBatch]:
    """Training batches without end, the same for the same seed from any starting step.

    Every epoch is a new order of all events; a step takes the next `batch_events` of them, rank r
    every `ranks`-th. What is random about an event depends on (seed, epoch, event) alone, so
    neither the number of ranks nor a restart changes it; which events share an image depends on
    the ranks too.

    Args:
        events: the training split.
        settings: batch sizes, augmentation and seed.
        prepare: the task's preparation.
        start: the step to begin at.
        rank: this worker.
        ranks: all workers.
    """
    if settings.batch_events < ranks:
        raise ValueError(
            f"data.batch_events {settings.batch_events} for {ranks} workers: at least one each"
        )
    step = start
    while True:
        mine = [
            _prepared(events, settings, prepare, epoch, index)
            for epoch, index in _step(len(events), settings, step)[rank::ranks]
        ]
        if np.random.default_rng((settings.seed, step, 0, 0)).random() < settings.overlay:
            mine = _overlaid(mine)
        yield VoxelBatch.of(_within(mine, settings.batch_voxels))
        step += 1


def _step(count: int, settings: DataSettings, step: int) -> list[tuple[int, int]]:
    """(epoch, event) of each place of a step, over all ranks."""
    first = step * settings.batch_events
    places = range(first, first + settings.batch_events)
    orders = {
        epoch: np.random.default_rng((settings.seed, epoch)).permutation(count)
        for epoch in {place // count for place in places}
    }
    return [(place // count, int(orders[place // count][place % count])) for place in places]


def _prepared(
    events: Sequence[Event], settings: DataSettings, prepare: Prepare, epoch: int, index: int
) -> Event:
    rng = np.random.default_rng((settings.seed, epoch, index))
    event = prepare(events[index], rng)
    if settings.crop:
        event = crop(event, settings.crop, rng)
    return augment(event, rng) if settings.augment else event


def _overlaid(events: list[Event]) -> list[Event]:
    """Neighbours in the list two by two; an odd one out stays alone."""
    pairs = [overlay(*two) for two in zip(events[::2], events[1::2], strict=False)]
    return pairs + events[len(pairs) * 2 :]


def _within(events: list[Event], budget: int) -> list[Event]:
    """The first events that fit into the budget of voxels; never fewer than one."""
    total = np.cumsum([len(event) for event in events])
    return events[: max(1, int(np.searchsorted(total, budget, side="right")))]
