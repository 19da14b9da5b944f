import threading
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.loader import DataSettings, batches
from lartpc_ray.data.splits import sample
from lartpc_ray.predict.inference import CHUNK_EVENTS
from lartpc_ray.train.shared_validation import share


class Listed(Events):
    """Events in memory."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        return self._events[index]


def test_the_ranks_of_a_validation_have_nearly_the_same_number_of_voxels(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By turns, one rank had all the large events."""
    monkeypatch.setitem(CHUNK_EVENTS, "cpu", 2)
    sizes = [90, 60, 10, 20] * 3
    events = Listed([make_event(rng, voxels) for voxels in sizes])
    shares = [share(events, rank, 2, "cpu") for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(12))
    loads = [sum(sizes[number] for number in own) for own in shares]
    assert sorted(loads) == [240, 300], "three chunks of 150 and three of 30"
    assert share(events, 0, 1, "cpu") == list(range(12))


def test_overlaid_steps_hold_the_same_voxels(rng: np.random.Generator) -> None:
    events = Listed([make_event(rng) for _ in range(4)])
    settings = DataSettings(batch_events=3, augment=False)
    plain = next(batches(events, settings, lambda event, _: event))
    laid = next(
        batches(events, settings.model_copy(update={"overlay": 1.0}), lambda event, _: event)
    )
    assert int(plain.event.max()) == 2
    assert int(laid.event.max()) == 1
    assert laid.energy.sum().item() == pytest.approx(plain.energy.sum().item())


def stream(events: Events, steps: int, **more: int) -> list[VoxelBatch]:
    settings = DataSettings(batch_events=4, seed=3)
    source = batches(events, settings, lambda event, _: event, **more)
    return [next(source) for _ in range(steps)]


def test_batches_repeat_resume_and_share(rng: np.random.Generator) -> None:
    events = Listed([make_event(rng, 10 + count) for count in range(7)])
    first, again = stream(events, 5), stream(events, 5)
    resumed = stream(events, 2, start=3)
    for a, b in zip(first, again, strict=True):
        assert a.coords.equal(b.coords)
    assert first[3].coords.equal(resumed[0].coords)
    left, right = stream(events, 1, rank=0, ranks=2)[0], stream(events, 1, rank=1, ranks=2)[0]
    assert len(left.energy) + len(right.energy) == len(first[0].energy)
    in_one_epoch = sum(len(batch.energy) for batch in stream(events, 7)) / 4
    assert in_one_epoch == sum(len(event) for event in events)


def test_a_batch_fits_its_budget_of_voxels(rng: np.random.Generator) -> None:
    events = Listed([make_event(rng, 50) for _ in range(4)])
    settings = DataSettings(batch_events=4, batch_voxels=120)
    batch = next(batches(events, settings, lambda event, _: event))
    assert len(batch.energy) == 100
    with pytest.raises(ValueError, match="for 5 workers: at least one each"):
        next(batches(events, settings, lambda event, _: event, ranks=5))


def test_ranks_share_voxels_evenly_and_every_event_once(rng: np.random.Generator) -> None:
    sizes = [100, 10, 10, 10, 60, 50, 20, 40]  # 100 + 40 + 10 + 10 and 60 + 50 + 20 + 10
    events = Listed([make_event(rng, size) for size in sizes])
    settings = DataSettings(batch_events=8, augment=False)
    shares = [
        next(batches(events, settings, lambda event, _: event, rank=rank, ranks=2))
        for rank in range(2)
    ]
    assert [share.events for share in shares] == [4, 4]
    assert [len(share.energy) for share in shares] == [160, 140]
    found = np.concatenate([share.energy.numpy() for share in shares])
    every = np.concatenate([event.energy for event in events])
    np.testing.assert_array_equal(np.sort(found), np.sort(every))


def test_a_budget_of_voxels_instead_of_a_number_of_events(rng: np.random.Generator) -> None:
    events = Listed([make_event(rng, size) for size in (40, 40, 40, 90, 10, 10)])
    settings = DataSettings(batch_events=0, batch_voxels=100, augment=False)
    source = batches(events, settings, lambda event, _: event)
    steps = [next(source) for _ in range(40)]
    assert max(len(step.energy) for step in steps) <= 100
    assert max(step.events for step in steps) >= 3
    resumed = next(batches(events, settings, lambda event, _: event, start=7))
    assert resumed.coords.equal(steps[7].coords)
    total, epochs = sum(len(step.energy) for step in steps), 230
    assert total / epochs > 10, "every event of an epoch is seen"


def test_batches_made_ahead_are_the_same_and_the_thread_ends(rng: np.random.Generator) -> None:
    events = Listed([make_event(rng, 10 + count) for count in range(7)])
    plain = stream(events, 5)
    source = batches(
        events, DataSettings(batch_events=4, seed=3, prefetch=2), lambda event, _: event
    )
    assert all(next(source).coords.equal(batch.coords) for batch in plain)
    assert isinstance(source, Generator)
    source.close()
    assert not [one for one in threading.enumerate() if one.name == "batches"]


def test_an_error_in_the_thread_reaches_the_loop(rng: np.random.Generator) -> None:
    def refuse(event: Event, rng: np.random.Generator) -> Event:
        raise ValueError("event 3: no such voxel")

    events = Listed([make_event(rng)])
    with pytest.raises(ValueError, match="event 3"):
        next(batches(events, DataSettings(prefetch=1), refuse))


def test_sizes_come_from_the_table_of_clusters() -> None:
    with EventFile(sample("tune")) as events:
        assert [events.voxels(index) for index in range(5)] == [len(events[i]) for i in range(5)]


def test_a_batch_splits_into_its_events(rng: np.random.Generator) -> None:
    events = [make_event(rng, 5), make_event(rng, 0), make_event(rng, 3)]
    batch = VoxelBatch.of(events)
    assert [len(part) for part in batch.split(batch.energy)] == [5, 0, 3]
    np.testing.assert_array_equal(batch.split(batch.coords)[2], events[2].coords)
    with pytest.raises(ValueError, match="several shapes"):
        VoxelBatch.of([events[0], make_event(rng, 5, side=8)])
