"""Events -> batches: prepared, shuffled by seed and epoch, shared over ranks by voxels."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from queue import Queue
from threading import Event as Flag
from threading import Thread

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.splits import Splits
from lartpc_ray.data.transforms import augment, crop, overlay, rescale, shift
from lartpc_ray.settings import Settings

Prepare = Callable[[Event, np.random.Generator], Event]
Place = tuple[int, int]
"""(epoch, event): one reading of one event."""


class DataSettings(Settings):
    """Which events a trial sees, and how."""

    splits: Splits = Splits()
    batch_events: NonNegativeInt = Field(
        default=6, description="events a step, over all workers; 0: as many as batch_voxels hold"
    )
    batch_voxels: PositiveInt = Field(
        default=60_000, description="voxels a step and worker at most; what is over is left out"
    )
    augment: bool = Field(default=True, description="rotations and flips of the cube")
    shift: NonNegativeInt = Field(default=0, description="voxels an event is moved by at most")
    energy_spread: float = Field(
        default=0.0, ge=0, lt=1, description="of a common factor on an event's energies"
    )
    overlay: float = Field(
        default=0.0, ge=0, le=1, description="share of the steps whose events lie two in an image"
    )
    crop: NonNegativeInt = Field(default=0, description="side of a random box in voxels; 0: none")
    prefetch: NonNegativeInt = Field(
        default=0, description="batches prepared ahead, in a thread of their own"
    )
    seed: int = Field(
        default=0, ge=0, description="of the events' order and of what is random about them"
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
    """Training batches without end, the same for the same seed from any starting step.

    Every epoch is a new order of all events. A step takes the next `batch_events` of them, and
    they are shared over the ranks so that each has as many events and nearly as many voxels; with
    `batch_events` 0 it takes as many as the ranks' `batch_voxels` hold, and the ranks share the
    voxels, however many events that are. What is random about an event depends on (seed, epoch,
    event) alone, so neither the number of ranks nor a restart changes it; which events share an
    image depends on the ranks too.

    Args:
        events: the training split.
        settings: batch sizes, augmentation and seed.
        prepare: the task's preparation.
        start: the step to begin at.
        rank: this worker.
        ranks: all workers.

    Raises:
        ValueError: for fewer events a step than workers.
    """
    if 0 < settings.batch_events < ranks:
        raise ValueError(
            f"data.batch_events {settings.batch_events} for {ranks} workers: at least one each"
        )

    def made() -> Iterator[VoxelBatch]:
        for step, places in islice(enumerate(_steps(events, settings, ranks)), start, None):
            share = _shared(events, places, ranks, even=settings.batch_events > 0)[rank]
            yield _batch(events, settings, prepare, step, share)

    return _ahead(made(), settings.prefetch) if settings.prefetch else made()


def _steps(events: Events, settings: DataSettings, ranks: int) -> Iterator[list[Place]]:
    """The places of each step."""
    if settings.batch_events:
        places = _epochs(len(events), settings.seed)
        while True:
            yield list(islice(places, settings.batch_events))
    sizes = np.array([events.voxels(index) for index in range(len(events))])
    step: list[Place] = []
    budget, total = settings.batch_voxels * ranks, 0
    for place in _epochs(len(events), settings.seed):
        size = sizes[place[1]]
        if len(step) >= ranks and total + size > budget:
            yield step
            step, total = [], 0
        step.append(place)
        total += size


def _epochs(count: int, seed: int) -> Iterator[Place]:
    epoch = 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(count)
        yield from ((epoch, int(index)) for index in order)
        epoch += 1


def _shared(events: Events, places: list[Place], ranks: int, *, even: bool) -> list[list[Place]]:
    """The places of each rank: the largest event first, each to the rank of fewest voxels.

    With `even` no rank takes more than its share of the events, so that a mean over the ranks is
    a mean over the events.
    """
    if ranks == 1:
        return [places]
    sizes = [events.voxels(index) for _, index in places]
    most = -(-len(places) // ranks) if even else len(places)
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0, rank) for rank in range(ranks)]
    for place in sorted(range(len(places)), key=lambda place: -sizes[place]):
        load, rank = heapq.heappop(loads)
        shares[rank].append(place)
        if len(shares[rank]) < most:
            heapq.heappush(loads, (load + sizes[place], rank))
    return [[places[place] for place in sorted(share)] for share in shares]


def _batch(
    events: Events, settings: DataSettings, prepare: Prepare, step: int, places: Sequence[Place]
) -> VoxelBatch:
    mine = [_prepared(events, settings, prepare, place) for place in places]
    if np.random.default_rng((settings.seed, step, 0, 0)).random() < settings.overlay:
        mine = _overlaid(mine)
    return VoxelBatch.of(_within(mine, settings.batch_voxels))


def _prepared(events: Events, settings: DataSettings, prepare: Prepare, place: Place) -> Event:
    rng = np.random.default_rng((settings.seed, *place))
    event = prepare(events[place[1]], rng)
    event = crop(event, settings.crop, rng) if settings.crop else event
    event = augment(event, rng) if settings.augment else event
    event = shift(event, settings.shift, rng) if settings.shift else event
    return rescale(event, settings.energy_spread, rng) if settings.energy_spread else event


def _overlaid(events: list[Event]) -> list[Event]:
    """Neighbours in the list two by two; an odd one out stays alone."""
    pairs = [overlay(*two) for two in zip(events[::2], events[1::2], strict=False)]
    return pairs + events[len(pairs) * 2 :]


def _within(events: list[Event], budget: int) -> list[Event]:
    """The first events that fit into the budget of voxels; never fewer than one."""
    total = np.cumsum([len(event) for event in events])
    return events[: max(1, int(np.searchsorted(total, budget, side="right")))]


def _ahead(source: Iterator[VoxelBatch], count: int) -> Iterator[VoxelBatch]:
    """The same batches, `count` of them made ahead in a thread, which ends with the iterator."""
    ready: Queue[VoxelBatch | Exception] = Queue(count)
    wanted = Flag()
    wanted.set()

    def make() -> None:
        try:
            for batch in source:
                ready.put(batch)
                if not wanted.is_set():
                    return
        except Exception as error:  # whatever it is, it belongs to whom the batch was for
            ready.put(error)

    thread = Thread(target=make, daemon=True, name="batches")
    thread.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        wanted.clear()
        while thread.is_alive():
            while not ready.empty():
                ready.get()
            thread.join(0.05)
