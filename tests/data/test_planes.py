"""SparseSSNet's pixel weights on a drawn plane, by hand."""

import numpy as np
import pytest

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.transforms import PLANE_SHAPE, Wires, box, project, window
from lartpc_ray.data.weights import balanced, cluster_and_vertex


def plane() -> Event:
    """Make a track of 100 pixels, a shower of 10 that begins 3 beyond its end, 3 pixels alone."""
    track = [[x, 10] for x in range(100)]
    shower = [[102 + x, 10] for x in range(10)]
    alone = [[300, y] for y in range(3)]
    return Event.of(
        np.array(track + shower + alone),
        np.full(113, 50.0),
        (512, 512),
        semantic=np.array([ParticleClass.MIP] * 100 + [ParticleClass.SHOWER] * 10 + [-1] * 3),
        cluster=np.array([0] * 100 + [0] * 10 + [-1] * 3),
    )


def test_small_clusters_and_meeting_classes_weigh_more() -> None:
    weight = cluster_and_vertex(plane()).weight
    assert weight[50] == pytest.approx(1 / 100), "a class of its own makes a cluster of its own"
    assert weight[99] == pytest.approx(1 / 100 + 0.02), "3 from the shower"
    assert weight[98] == pytest.approx(1 / 100), "4 from the shower"
    assert weight[100] == pytest.approx(0.02 + 0.02), "1/10 is cut to 2e-2"
    assert weight[105] == pytest.approx(0.02)
    assert weight[112] == pytest.approx(2e-4), "in no cluster"


def test_balanced_classes_weigh_the_same() -> None:
    event = plane()
    weight = balanced(event).weight
    track, shower = (weight[event.semantic == one].sum() for one in (1, 2))
    assert track == pytest.approx(shower)
    assert weight[event.semantic >= 0].mean() == pytest.approx(1)


def test_the_window_cuts_below_and_limits_above() -> None:
    event = Event.of(np.array([[0, 0], [0, 1], [0, 2]]), np.array([9.9, 10.0, 400.0]), (4, 4))
    assert window(event, 10.0, 300.0).energy.tolist() == [10, 300]


def test_a_plane_sees_wires_and_ticks() -> None:
    event = Event.of(
        np.array([[0, 0, 0], [0, 9, 0], [1, 0, 7], [1, 9, 7]]),
        np.array([1.0, 2.0, 3.0, 4.0]),
        (10, 10, 10),
        semantic=np.array([0, 1, 2, 3]),
        cluster=np.array([0, 1, 2, 3]),
    )
    seen = project(event, "Y")
    assert seen.shape == PLANE_SHAPE
    first = (3456 - 10) // 2
    assert seen.coords.tolist() == [[first, 499], [first + 7, 500]], "height is not seen"
    assert seen.energy.tolist() == [240, 560]
    assert seen.semantic.tolist() == [1, 3], "of the larger deposit"
    across = 9 * np.cos(np.pi / 3) + 9 * np.sin(np.pi / 3) + 1
    low = (3456 - across) / 2
    wires = sorted(int(low + y * np.sin(np.pi / 3) + z / 2) for y in (0, 9) for z in (0, 7))
    found = project(event, "U").coords[:, 0]
    assert sorted(set(found)) == sorted(set(wires))
    coarse = project(event, "Y", Wires(pitch=2.0, adc_per_mev=10.0, Y=0.0))
    middle = (3456 - (9 / 2 + 1)) / 2
    assert coarse.coords[:, 0].tolist() == [int(middle), int(middle + 3.5)]
    assert coarse.energy.tolist() == [30, 70]
    with pytest.raises(ValueError, match="does not fit a plane"):
        project(Event.of(np.zeros((0, 3), int), np.zeros(0), (2000, 10, 10)), "V")


def test_a_box_is_an_image_of_its_own_around_the_median_voxel() -> None:
    coords = np.array([[100, 100], [101, 99], [102, 98], [5, 5]])
    seen = box(Event.of(coords, np.ones(4), (512, 512)), 8)
    assert seen.shape == (8, 8)
    assert seen.coords.tolist() == [[4, 6], [5, 5], [6, 4]], "medians 100 and 98"
    corner = box(Event.of(np.array([[0, 1]]), np.ones(1), (512, 512)), 8)
    assert corner.coords.tolist() == [[0, 1]]
    assert box(Event.of(np.zeros((0, 2), int), np.zeros(0), (512, 512)), 8).shape == (8, 8)
