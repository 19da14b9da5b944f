"""Crossing tracks, the line, and the counted voxels, by hand."""

import numpy as np
import pytest

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.dead_regions import dead_region, line_voxels
from lartpc_ray.data.event import Event
from lartpc_ray.metrics.infill import (
    assign_crossings,
    counts,
    crossing_voxels,
    crossings,
    shape_scores,
)

SHAPE = (40, 40, 40)
SLAB = np.array([[[15, 0, 0], [25, 40, 40]]], np.int32)
CORNER = np.array([[[15, 5, 15], [25, 15, 25]]], np.int32)


def two_tracks(end: int = 40) -> Event:
    """Draw a muon along x at y = 10 up to `end`, a shower of two voxels, a proton at y = 30."""
    muon = [[x, 10, 20] for x in range(end)]
    shower = [[18, 12, 20], [19, 12, 20]]
    proton = [[x, 30, 20] for x in range(40)]
    sizes = [len(muon), 2, 40]
    kinds = [ParticleClass.MIP, ParticleClass.SHOWER, ParticleClass.HIP]
    return Event.of(
        np.array(muon + shower + proton),
        np.ones(sum(sizes)),
        SHAPE,
        semantic=np.repeat(kinds, sizes),
        cluster=np.repeat([0, 1, 2], sizes),
    )


def test_a_track_crosses_where_it_is_seen_on_both_sides() -> None:
    found = crossings(dead_region(two_tracks(), SLAB, margin=1, limit=9999))
    assert [one.name for one in found] == ["HIP", "MIP"]
    assert sorted(found[1].ends[:, 0].tolist()) == [14, 25]
    assert len(found[1].truth) == 10
    stopped = crossings(dead_region(two_tracks(20), SLAB, margin=1, limit=9999))
    assert [one.name for one in stopped] == ["HIP"], "the muon ends inside"
    assert crossings(two_tracks()) == [], "no dead region"


def test_a_box_may_be_left_by_another_face() -> None:
    bent = [[x, 10, 20] for x in range(20)] + [[20, y, 20] for y in range(10, 30)]
    event = Event.of(
        np.array(bent), np.ones(40), SHAPE,
        semantic=np.full(40, ParticleClass.MIP), cluster=np.zeros(40, int),
    )  # fmt: skip
    (one,) = crossings(dead_region(event, CORNER, margin=0, limit=9999))
    assert sorted(one.ends.tolist()) == [[14, 10, 20], [20, 15, 20]]


def test_a_line_passes_every_voxel_once() -> None:
    straight = line_voxels(np.array([0, 0, 0]), np.array([0, 0, 3]))
    assert straight.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]]
    passed = line_voxels(np.array([0, 0]), np.array([7, 3]))
    assert len(passed) == 10, "eight columns, two of which it leaves for the next row"


def test_voxels_belong_to_the_nearest_track_and_other_truth_to_none() -> None:
    event = dead_region(two_tracks(), SLAB, margin=1, limit=9999)
    each = crossings(event)
    places = np.array([[17, 10, 20], [17, 11, 20], [18, 12, 20], [17, 20, 20], [17, 29, 21]])
    assert assign_crossings(event, each, places).tolist() == [1, 1, -1, -1, 0]


def test_scores_by_hand() -> None:
    """The muon has 10 voxels, 4 found and 1 more wrong: F1 8/15. The proton: nothing found."""
    event = dead_region(two_tracks(), SLAB, margin=1, limit=9999)
    each = crossings(event)
    right = [[x, 10, 20] for x in range(15, 19)]
    places = np.array([*right, [17, 11, 20], [18, 12, 20]])
    rows = crossing_voxels(event, each, places, np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.7]))
    points = np.array([-0.5, 0.5, 0.8, 0.95])
    hits, found, true = counts(rows["owner"], rows["truth"], rows["score"], points)
    assert hits.tolist() == [[0, 0, 0, 0], [4, 4, 4, 0]]
    assert found.tolist() == [[0, 0, 0, 0], [5, 5, 4, 0]]
    assert true.tolist() == [[10] * 4, [10] * 4]
    scores = shape_scores(hits, found, true)
    assert scores["f1"][1].tolist() == pytest.approx([8 / 15, 8 / 15, 8 / 14, 0])
    assert scores["iou"][1, 1] == pytest.approx(4 / 11)
    assert scores["precision"][1, 1] == pytest.approx(4 / 5)
    assert scores["recall"][1, 1] == pytest.approx(4 / 10)
    assert np.isnan(scores["precision"][0]).all(), "nothing found has no precision"
