import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.event import Event
from lartpc_ray.data.transforms import (
    above,
    augment,
    crop,
    overlay,
    poster_classes,
    rescale,
    shift,
)


def test_augmentation_keeps_distances_and_the_image(rng: np.random.Generator) -> None:
    event = make_event(rng)
    seen = set()
    for seed in range(400):
        turned = augment(event, np.random.default_rng(seed))
        distance = np.linalg.norm(np.diff(turned.coords, axis=0), axis=1)
        np.testing.assert_allclose(distance, np.linalg.norm(np.diff(event.coords, axis=0), axis=1))
        seen.add(turned.coords.tobytes())
    assert len(seen) == 48


def test_an_overlay_adds_energies_and_keeps_clusters_apart() -> None:
    def two_voxels(
        place: int, energy: list[float], semantic: list[int], cluster: list[int]
    ) -> Event:
        return Event.of(
            np.array([[place, place], [1, 1]]),
            np.array(energy),
            (4, 4),
            semantic=np.array(semantic),
            cluster=np.array(cluster),
        )

    one = two_voxels(0, [1.0, 2.0], [0, 1], [0, 3])
    two = two_voxels(3, [4.0, 5.0], [2, 3], [0, -1])
    both = overlay(one, two)
    found = {
        tuple(row): value
        for row, *value in zip(
            both.coords.tolist(), both.energy, both.semantic, both.cluster, strict=True
        )
    }
    assert found == {(0, 0): [1, 0, 0], (1, 1): [7, 3, -1], (3, 3): [4, 2, 4]}
    with pytest.raises(ValueError, match="over one of"):
        overlay(one, Event.of(np.zeros((0, 2), int), np.zeros(0), (5, 5)))


def test_threshold_and_crop(rng: np.random.Generator) -> None:
    event = make_event(rng)
    assert (above(event, 0.5).energy > 0.5).all()
    assert 0 < len(above(event, 0.5)) < len(event)
    boxed = crop(event, 8, rng)
    assert 0 < len(boxed) < len(event)
    assert (np.ptp(boxed.coords, axis=0) < 8).all()
    assert boxed.shape == event.shape


def test_the_poster_has_tracks_and_shower_fragments() -> None:
    coords = np.array([[0, 0], [0, 1], [5, 5], [9, 9], [2, 2], [3, 3]])
    event = Event.of(
        coords,
        np.ones(6),
        (12, 12),
        semantic=np.array([2, 2, 2, 2, 0, 3]),
        cluster=np.array([7, 7, 7, -1, 2, 7]),
    )
    merged = poster_classes(event)
    assert merged.semantic.tolist() == [2, 2, 2, 2, 1, 3]
    first, again, apart, none, track, delta = merged.cluster.tolist()
    assert first == again != apart
    assert (none, track, delta) == (-1, 2, 7), "only showers are cut"


def test_a_shift_stays_in_the_image(rng: np.random.Generator) -> None:
    event = Event.of(np.array([[0, 4], [1, 6]]), np.ones(2), (8, 8))
    moved = {tuple(shift(event, 3, rng).coords[0].tolist()) for _ in range(200)}
    assert moved == {(x, y) for x in range(4) for y in range(1, 6)}


def test_a_common_factor_on_energy_and_truth(rng: np.random.Generator) -> None:
    event = make_event(rng)
    scaled = [rescale(event, 0.1, np.random.default_rng(seed)) for seed in range(300)]
    factors = np.array([one.energy[0] / event.energy[0] for one in scaled])
    assert factors.mean() == pytest.approx(1, abs=0.02)
    assert factors.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(scaled[0].truth / event.truth, factors[0], rtol=1e-5)
