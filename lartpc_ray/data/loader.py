"""Make training batches: prepare, shuffle by seed and epoch, share over ranks by voxels."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from queue import Queue
from threading import Event as Flag
from threading import Thread
from typing import TypeVar, cast

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.splits import Splits
from lartpc_ray.data.transforms import augment, crop, overlay, rescale, shift
from lartpc_ray.settings import Settings

Prepare = Callable[[Event, np.random.Generator], Event]
Item = TypeVar("Item")
Reading = tuple[int, int]
"""Epoch and number of an event that is read."""


class DataSettings(Settings):
    """Events, batches and augmentation of a trial."""

    splits: Splits = Splits()
    batch_events: NonNegativeInt = Field(
        default=6, description="events per step, over all workers; 0: as many as batch_voxels hold"
    )
    batch_voxels: PositiveInt = Field(
        default=60_000,
        description="most voxels per step and worker; further events are left out",
    )
    augment: bool = Field(default=True, description="random rotations and flips of the image")
    shift: NonNegativeInt = Field(default=0, description="largest random shift per axis, voxels")
    energy_spread: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="spread of a random factor on an event's energies",
    )
    overlay: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the steps with two events per image",
    )
    crop: NonNegativeInt = Field(default=0, description="side of a random box, voxels; 0: no crop")
    prefetch: NonNegativeInt = Field(default=0, description="batches prepared ahead, in a thread")
    seed: int = Field(
        default=0, ge=0, description="seed of the order and the augmentation of the events"
    )


def batches(
    events: Events,
    settings: DataSettings,
    prepare: Prepare,
    *,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[VoxelBatch]:
    """Make training batches without end; a seed gives the same batches from any first step.

    Every epoch orders all events anew. A step takes the next `batch_events` events. Each rank gets
    the same number of events and nearly the same number of voxels. With `batch_events` 0, a step
    takes as many events as the `batch_voxels` of all ranks hold. The augmentation of an event
    depends on (seed, epoch, event) alone, not on ranks or restarts; overlays depend on the ranks.

    Args:
        events: the training split.
        settings: batch sizes, augmentation and seed.
        prepare: the task's preparation.
        start: the first step.
        rank: number of this worker.
        ranks: number of workers.

    Raises:
        ValueError: for fewer events per step than workers.
    """
    if 0 < settings.batch_events < ranks:
        raise ValueError(
            f"data.batch_events {settings.batch_events} for {ranks} workers: at least one each"
        )

    def make() -> Iterator[VoxelBatch]:
        for step, readings in islice(enumerate(_steps(events, settings, ranks)), start, None):
            share = _share(events, readings, ranks, even=settings.batch_events > 0)[rank]
            yield _make_batch(events, settings, prepare, step, share)

    return prefetch(make(), settings.prefetch) if settings.prefetch else make()


def _steps(events: Events, settings: DataSettings, ranks: int) -> Iterator[list[Reading]]:
    """Yield the readings of each step."""
    readings = _epochs(len(events), settings.seed)
    if settings.batch_events:
        while True:
            yield list(islice(readings, settings.batch_events))
    sizes = np.array([events.voxels(index) for index in range(len(events))])
    step: list[Reading] = []
    budget, total = settings.batch_voxels * ranks, 0
    for reading in readings:
        size = sizes[reading[1]]
        if len(step) >= ranks and total + size > budget:
            yield step
            step, total = [], 0
        step.append(reading)
        total += size


def _epochs(count: int, seed: int) -> Iterator[Reading]:
    epoch = 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(count)
        yield from ((epoch, int(index)) for index in order)
        epoch += 1


def _share(
    events: Events, readings: list[Reading], ranks: int, *, even: bool
) -> list[list[Reading]]:
    """Share readings over ranks, with nearly the same number of voxels each.

    With `even`, no rank takes more than its share of the events, so that a mean over the ranks is
    a mean over the events.
    """
    if ranks == 1:
        return [readings]
    sizes = [events.voxels(index) for _, index in readings]
    most = -(-len(readings) // ranks) if even else None
    return [[readings[number] for number in share] for share in balance(sizes, ranks, most)]


def balance(sizes: Sequence[int], count: int, most: int | None = None) -> list[list[int]]:
    """Share items over `count` shares: the largest item first, to the share with the least.

    Args:
        sizes: of the items.
        count: number of shares.
        most: items of a share at most; there must be room for all.

    Returns:
        the numbers of the items of each share, ascending.

    Example:
        >>> balance([5, 3, 3, 1], 2)
        [[0, 3], [1, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
        load, number = heapq.heappop(loads)
        shares[number].append(item)
        if most is None or len(shares[number]) < most:
            heapq.heappush(loads, (load + sizes[item], number))
    return [sorted(share) for share in shares]


def _make_batch(
    events: Events, settings: DataSettings, prepare: Prepare, step: int, readings: Sequence[Reading]
) -> VoxelBatch:
    prepared = [_prepare(events, settings, prepare, reading) for reading in readings]
    if np.random.default_rng((settings.seed, step, 0, 0)).random() < settings.overlay:
        prepared = _overlay_pairs(prepared)
    return VoxelBatch.of(_fit(prepared, settings.batch_voxels))


def _prepare(events: Events, settings: DataSettings, prepare: Prepare, reading: Reading) -> Event:
    rng = np.random.default_rng((settings.seed, *reading))
    event = prepare(events[reading[1]], rng)
    event = crop(event, settings.crop, rng) if settings.crop else event
    event = augment(event, rng) if settings.augment else event
    event = shift(event, settings.shift, rng) if settings.shift else event
    return rescale(event, settings.energy_spread, rng) if settings.energy_spread else event


def _overlay_pairs(events: list[Event]) -> list[Event]:
    """Overlay neighbours in the list; the last event of an odd number stays alone."""
    pairs = [overlay(*pair) for pair in zip(events[::2], events[1::2], strict=False)]
    return pairs + events[len(pairs) * 2 :]


def _fit(events: list[Event], budget: int) -> list[Event]:
    """Return the first events that fit into the budget of voxels, at least one."""
    total = np.cumsum([len(event) for event in events])
    return events[: max(1, int(np.searchsorted(total, budget, side="right")))]


def prefetch(source: Iterator[Item], count: int) -> Iterator[Item]:
    """Make `count` items ahead in a thread, which ends with the iterator.

    Example:
        >>> list(prefetch(iter("abc"), 1))
        ['a', 'b', 'c']
    """
    ready: Queue[tuple[Item | None, BaseException | None]] = Queue(count)
    wanted = Flag()
    wanted.set()

    def make() -> None:
        try:
            for item in source:
                ready.put((item, None))
                if not wanted.is_set():
                    return
            ready.put((None, StopIteration()))
        except Exception as error:  # raised again where the item is used
            ready.put((None, error))

    thread = Thread(target=make, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error:
                raise error
            yield cast("Item", item)
    finally:
        wanted.clear()
        while thread.is_alive():
            while not ready.empty():
                ready.get()
            thread.join(0.05)
