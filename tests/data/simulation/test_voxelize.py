"""Paths drawn by hand, and the voxels they must give."""

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.simulation.physics import Particles, Steps
from lartpc_ray.data.simulation.voxelize import cut_at_faces, image

HIP, MIP, SHOWER, DELTA, MICHEL = ParticleClass


def draw(*rows: tuple[ParticleClass, int, bool, int, int, int, float]) -> Event:
    """Lines along x: (class, cluster, at its start, first x, y, voxels, MeV per voxel)."""
    count = len(rows)
    particles = Particles(
        kind=np.zeros(count, int),
        energy=np.ones(count),
        start=np.zeros((count, 3)),
        direction=np.zeros((count, 3)),
        cluster=np.array([row[1] for row in rows]),
        semantic=np.array([int(row[0]) for row in rows]),
        first=np.array([row[2] for row in rows]),
        pending_radiation=np.zeros(count),
    )
    lines = [
        (number, x, y, energy)
        for number, (_, _, _, first, y, voxels, energy) in enumerate(rows)
        for x in range(first, first + voxels)
    ]
    particle = np.array([line[0] for line in lines])
    begin = np.array([[0.3 * x, 0.3 * y + 0.15, 0.15] for _, x, y, _ in lines])
    end = begin + np.array([0.3, 0.0, 0.0])
    steps = Steps(
        particle, begin, end, begin, np.ones(len(lines)), np.array([line[3] for line in lines])
    )
    return image(particles, steps, side=64, pitch=0.3, threshold=0.05)


def at(event: Event, x: int, y: int) -> tuple[int, float]:
    """Class and energy of the voxel there."""
    (row,) = np.flatnonzero((event.coords == [x, y, 0]).all(axis=1))
    return int(event.semantic[row]), round(float(event.energy[row]), 4)


def test_a_step_is_cut_where_it_passes_a_face() -> None:
    begin = np.array([[0.5, 0.5, 0.5], [2.2, 2.2, 2.2]])
    end = np.array([[1.25, 1.0, 0.5], [2.4, 2.3, 2.2]])
    step, voxel, share = cut_at_faces(begin, end)
    # x reaches 1 after two thirds of the way; y ends on a face, which belongs to the next step
    assert step.tolist() == [0, 0, 1]
    assert voxel.tolist() == [[0, 0, 0], [1, 0, 0], [2, 2, 2]]
    np.testing.assert_allclose(share, [2 / 3, 1 / 3, 1])


def test_a_shared_voxel_adds_up_and_is_the_track_s() -> None:
    event = draw((MIP, 0, True, 0, 5, 10, 0.5), (DELTA, 1, True, 4, 5, 1, 2.0))
    assert at(event, 4, 5) == (MIP, 2.5)
    assert at(event, 3, 5) == (MIP, 0.5)
    assert len(event) == 10


def test_among_equals_it_is_the_one_of_most_energy() -> None:
    event = draw((HIP, 0, True, 0, 5, 10, 0.5), (MIP, 1, True, 5, 5, 10, 0.7))
    assert at(event, 4, 5)[0] == HIP
    assert at(event, 5, 5) == (MIP, 1.2)


def test_what_is_small_and_off_is_a_low_energy_deposit() -> None:
    event = draw(
        (SHOWER, 0, True, 0, 5, 3, 0.5),  # the start is kept, however small
        (SHOWER, 0, False, 20, 5, 9, 0.5),
        (SHOWER, 0, False, 40, 5, 10, 0.5),
        (MIP, 1, True, 0, 30, 4, 0.5),
        (HIP, 2, True, 0, 40, 5, 0.5),
    )
    assert at(event, 0, 5)[0] == SHOWER
    assert at(event, 20, 5)[0] == -1
    assert at(event, 40, 5)[0] == SHOWER
    assert at(event, 0, 30)[0] == -1
    assert at(event, 0, 40)[0] == HIP
    assert ((event.cluster < 0) == (event.semantic < 0)).all()


def test_a_michel_electron_s_photons_are_shower() -> None:
    event = draw((MICHEL, 0, True, 0, 5, 12, 0.5), (MICHEL, 0, False, 30, 5, 12, 0.5))
    assert at(event, 0, 5)[0] == MICHEL
    assert at(event, 30, 5)[0] == SHOWER
    assert len(np.unique(event.cluster)) == 1


def test_without_its_start_the_first_piece_keeps_the_class() -> None:
    event = draw((MICHEL, 0, False, 0, 5, 1, 0.5), (MICHEL, 0, False, 30, 5, 3, 0.5))
    assert at(event, 0, 5)[0] == MICHEL
    assert at(event, 30, 5)[0] == -1


def test_what_is_weak_or_outside_is_left_out() -> None:
    event = draw((MIP, 0, True, 58, 5, 10, 0.5), (HIP, 1, True, 0, 20, 8, 0.04))
    assert sorted(event.coords[:, 0].tolist()) == [58, 59, 60, 61, 62, 63]
