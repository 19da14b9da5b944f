"""Dead regions: where they are, which voxels are candidates, what the network may not see."""

import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.dead_regions import (
    Box,
    DeadMap,
    RandomRegions,
    Slab,
    _Entries,
    _link,
    dead_region,
    distance_to_box,
    fixed_rng,
    region_of,
)
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.transforms import augment, overlay

SHAPE = (40, 40, 40)
ACROSS = np.array([[[15, 0, 0], [25, 40, 40]]], np.int32)


def track(slope: float = 0.0) -> Event:
    """Make a muon along x through all of the image, rising in y."""
    x = np.arange(40)
    coords = np.stack([x, np.rint(10 + slope * x).astype(int), np.full(40, 20)], axis=1)
    energy = 0.5 + 0.01 * x
    semantic = np.full(40, ParticleClass.MIP)
    return Event.of(coords, energy, SHAPE, semantic=semantic, cluster=np.zeros(40, int))


def test_candidates_hold_the_truth_and_the_energy_of_a_line() -> None:
    event = track()
    found = dead_region(event, ACROSS, margin=1, limit=1000)
    assert found.dead.sum() == 10 * 3 * 3, "ten voxels deep, one on each side of the ray"
    active = found.dead & (found.truth > 0)
    np.testing.assert_allclose(found.energy[active], (0.64 + 0.75) / 2, err_msg="of its two ends")
    assert (found.energy[found.dead & ~active] == 0).all()
    assert found.coords[active].tolist() == event.coords[15:25].tolist()
    np.testing.assert_array_equal(found.truth[active], event.energy[15:25])
    assert (found.semantic[active] == ParticleClass.MIP).all()
    assert (found.semantic[found.dead & ~active] == -1).all()
    assert found.coords[~found.dead].tolist() == event.coords[np.r_[:15, 25:40]].tolist()
    assert found.regions is not None
    np.testing.assert_array_equal(found.regions.truth.coords, event.coords[15:25])


def test_a_wide_track_gives_one_line_along_its_middle() -> None:
    one = track()
    wide = [one.coords + np.array((0, step, 0)) for step in (-1, 0, 1)]
    energy = [one.energy * weight for weight in (0.5, 1.0, 0.5)]
    event = Event.of(np.concatenate(wide), np.concatenate(energy), SHAPE)
    found = dead_region(event, ACROSS, margin=1, limit=1000)
    drawn = found.coords[found.dead & (found.energy > 0)]
    assert drawn.tolist() == one.coords[15:25].tolist()


def test_two_tracks_side_by_side_give_a_line_each_and_none_between() -> None:
    one = track()
    coords = np.concatenate([one.coords, one.coords + np.array((0, 6, 0))])
    event = Event.of(coords, np.tile(one.energy, 2), SHAPE)
    found = dead_region(event, ACROSS, margin=1, limit=1000)
    drawn = found.coords[found.dead & (found.energy > 0)]
    assert sorted(drawn[:, 1].tolist()) == [10] * 10 + [16] * 10


def test_two_that_point_to_the_same_one_are_not_both_linked_to_it() -> None:
    start = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0]])
    away = np.array([[1.0, 0.0], [10.0, -2.0], [-1.0, 0.0]])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    links = _link(_Entries(start, away, np.ones(3), np.array([0, 0, 1])))
    assert [places[0].tolist() for places, _ in links] == [[0, 0]]


def test_candidates_do_not_depend_on_what_is_inside() -> None:
    whole = track(0.5)
    inside = region_of(whole.coords, ACROSS) >= 0
    full = dead_region(whole, ACROSS, margin=2, limit=9999)
    empty = dead_region(whole.select(~inside), ACROSS, margin=2, limit=9999)
    np.testing.assert_array_equal(full.coords, empty.coords)
    assert (empty.truth[empty.dead] == 0).all()
    at = voxel_keys(full.coords[full.dead], SHAPE)
    assert np.isin(voxel_keys(whole.coords[inside], SHAPE), at).all(), "a straight track is covered"


def test_what_only_touches_a_region_or_is_far_gives_no_candidate() -> None:
    along = track()
    beside = np.array([[[0, 11, 0], [40, 21, 40]]], np.int32)
    found = dead_region(along, beside, margin=0, limit=9999)
    assert not found.dead.any(), "it runs along the face and never points into the region"
    far = np.array([[[0, 30, 0], [40, 40, 40]]], np.int32)
    assert len(dead_region(along, far, margin=2, limit=9999)) == 40


def test_too_many_candidates_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="90 candidate voxels in 1 dead regions, more than max_c"):
        dead_region(track(), ACROSS, margin=1, limit=89)


@pytest.mark.parametrize("axes", [2, 3])
def test_dense_candidates_are_all_places_of_a_region(axes: int) -> None:
    whole = track()
    event = Event.of(whole.coords[:, :axes], whole.energy, SHAPE[:axes])
    box = np.array([[[15, 9, 19], [18, 12, 22]]], np.int32)[:, :, :axes]
    found = dead_region(event, box, margin=2, limit=3**axes, candidates="dense")
    assert found.dead.sum() == 3**axes
    places = np.stack(np.meshgrid(*[np.arange(3)] * axes, indexing="ij"), -1).reshape(-1, axes)
    np.testing.assert_array_equal(found.coords[found.dead], places + box[0, 0])
    active = found.dead & (found.truth > 0)
    assert found.coords[active].tolist() == event.coords[15:18].tolist()
    assert (found.energy[active] > 0).all(), "the line between the two ends"
    assert (found.energy[found.dead & ~active] == 0).all()
    far = np.full((1, 2, axes), 30, np.int32)
    far[:, 1] += 3
    both = dead_region(
        event, np.concatenate([box, box + 1, far]), margin=0, limit=99, candidates="dense"
    )
    once = 2 * 3**axes - 2**axes
    assert both.dead.sum() == once + 3**axes, "once where regions overlap, and where nothing enters"


def test_dense_regions_that_are_too_large_are_refused_with_advice() -> None:
    wrong = r"a dead region of 10 x 40 x 40 voxels, more than max_candidates 15999: make regions"
    with pytest.raises(ValueError, match=rf"{wrong} smaller, take candidates near"):
        dead_region(track(), ACROSS, margin=1, limit=15_999, candidates="dense")
    huge = np.array([[[0, 0, 0], [2**20, 2**20, 2**20]]], np.int32)
    with pytest.raises(ValueError, match="1048576 x 1048576 x 1048576 voxels"):
        dead_region(track(), huge, margin=1, limit=10**6, candidates="dense")
    two = np.array([[[0, 0, 0], [3, 3, 3]], [[9, 9, 9], [12, 12, 12]]], np.int32)
    with pytest.raises(ValueError, match=r"54 candidate voxels in 2 .*, take candidates near"):
        dead_region(track(), two, margin=1, limit=53, candidates="dense")


def test_regions_are_the_same_for_the_same_event_and_lie_on_tracks(
    rng: np.random.Generator,
) -> None:
    event, settings = track(), RandomRegions(number=20, on_track_fraction=1.0)
    corners = settings.corners(event, fixed_rng(event))
    np.testing.assert_array_equal(corners, settings.corners(event, fixed_rng(event)))
    assert (settings.corners(event, rng) != corners).any()
    sides = corners[:, 1] - corners[:, 0]
    assert (np.sort(sides, axis=1)[:, 1:] == 40).all(), "a slab is as wide as the image"
    assert (sides.min(axis=1) <= 10).all()
    assert (sides.min(axis=1) >= 5).all(), "3 cm are 10 voxels; the image's face cuts some"
    touched = [(distance_to_box(event.coords, box) <= 0).any() for box in corners]
    assert all(touched)
    boxes = RandomRegions(kind="box", width=(0.9, 0.9), number=5).corners(event, rng)
    assert ((boxes[:, 1] - boxes[:, 0]) <= 3).all()
    with pytest.raises(ValueError, match="give the smaller width first"):
        RandomRegions(width=(3.0, 1.0))


def test_a_map_in_cm_becomes_voxels() -> None:
    box = Box(low=(0.0, 3.0, 0.0), high=(1.5, 6.0, 30.0))
    found = DeadMap(slabs=(Slab(axis=0, position=4.5, width=3.0),), boxes=(box,))
    corners = found.corners(SHAPE).tolist()
    assert corners == [[[0, 10, 0], [5, 20, 40]], ACROSS[0].tolist()]
    with pytest.raises(ValueError, match="no dead region in the map"):
        DeadMap()
    with pytest.raises(ValueError, match="dead slab across axis 2: the image has 2 axes"):
        DeadMap(slabs=(Slab(axis=2, position=0.0, width=1.0),)).corners((40, 40))
    with pytest.raises(ValueError, match=r"dead box \(0.0, 3.0, 0.0\) to .*: the image has 2 axes"):
        DeadMap(boxes=(box,)).corners((40, 40))
    with pytest.raises(ValueError, match="no voxel of it is in the image"):
        DeadMap(slabs=(Slab(axis=0, position=99.0, width=1.0),)).corners(SHAPE)


def test_the_mark_survives_batches_and_turns(rng: np.random.Generator) -> None:
    found = dead_region(track(), ACROSS, margin=1, limit=1000)
    turned = augment(found, rng)
    assert turned.regions is None
    batch = VoxelBatch.of([turned, make_event(rng, 9, side=40)])
    assert int(batch.dead.sum()) == 90
    assert batch.truth[batch.dead].sum().item() == pytest.approx(found.truth[found.dead].sum())
    with pytest.raises(ValueError, match="events with dead regions share no image"):
        overlay(track(), found)
