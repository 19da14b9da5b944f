"""Links against a search of all paths, and against DBSCAN if the embedding has no limit."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from reference import plain_merged

from lartpc_ray.metrics.clustering import ari, scores
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.links import (
    absorb_small,
    cluster_by_links,
    linked_labels,
    merge_overlapping,
    nearest_voxels,
    split,
)
from lartpc_ray.reconstruct.reconstructions import LinkedClustering


def made(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 12, (count, 3)), axis=0).astype(np.int32)
    return coords, rng.normal(size=coords.shape), rng.uniform(0.1, 3.0, len(coords))


def walked(
    coords: np.ndarray, position: np.ndarray, margin: np.ndarray, eps: float, reach: float
) -> np.ndarray:
    """Join the voxels by looking at every pair."""
    labels = np.full(len(coords), -1)
    for first in range(len(coords)):
        if labels[first] >= 0:
            continue
        labels[first] = labels.max() + 1
        waiting = [first]
        while waiting:
            one = waiting.pop()
            for other in range(len(coords)):
                width = np.sqrt((margin[one] ** 2 + margin[other] ** 2) / 2)
                near = np.linalg.norm(coords[one] - coords[other]) <= eps
                like = np.linalg.norm(position[one] - position[other]) / width <= reach
                if labels[other] < 0 and near and like:
                    labels[other] = labels[first]
                    waiting.append(other)
    return labels


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(1, 8), st.floats(0.05, 5))
def test_links_are_the_paths_of_short_steps(
    seed: int, count: int, eps: float, reach: float
) -> None:
    rows = made(seed, count)
    found, wanted = cluster_by_links(*rows, eps, reach), walked(*rows, eps, reach)
    assert ari(wanted, found) == pytest.approx(1.0)
    assert found.max() == wanted.max()


def test_the_pieces_of_many_limits_are_those_of_each() -> None:
    rows = made(1, 200)
    eps, lengths = [6.0, 1.0, 2.5, 40.0], [0.8, 0.3, 1000.0]
    pieces = linked_labels(*rows, eps, lengths)
    for row, column in np.ndindex(4, 3):
        alone = cluster_by_links(*rows, eps[row], lengths[column])
        np.testing.assert_array_equal(pieces[row, column], alone)
        np.testing.assert_array_equal(alone, walked(*rows, eps[row], lengths[column]))
    assert len({piece.tobytes() for piece in pieces.reshape(12, -1)}) > 6


def test_without_a_limit_in_the_embedding_it_is_dbscan() -> None:
    coords, position, margin = made(2, 200)
    for eps in (1.0, 1.5, 2.0):
        found = cluster_by_links(
            coords, position, margin, eps, LinkedClustering().max_embedding_distance[-1]
        )
        np.testing.assert_array_equal(found, dbscan(coords, eps=eps, min_points=1))


def test_voxels_of_one_place_in_the_embedding_are_linked() -> None:
    coords = np.array([[0, 0], [1, 0], [5, 0]])
    labels = cluster_by_links(coords, np.zeros((3, 2)), np.ones(3), eps=1.0, max_length=0.1)
    assert labels.tolist() == [0, 0, 1]


def test_no_voxels_no_clusters() -> None:
    assert cluster_by_links(
        np.empty((0, 3), int), np.empty((0, 3)), np.empty(0), 1.0, 1.0
    ).shape == (0,)


def test_the_grid_is_the_labels_of_each_point() -> None:
    coords, position, margin = made(3, 150)
    rng = np.random.default_rng(4)
    voxels = {"coords": coords, "position": position, "margin": margin}
    voxels |= {"seediness": rng.random(len(coords)), "truth": rng.integers(-1, 4, len(coords))}
    method = LinkedClustering(
        s0=(0.0, 0.9),
        p0=(0.0, 0.2, 1.0),
        kernel_overlap=(0.1, 0.6, 1.0),
        max_voxel_distance=(1.5, 0.0, 6.0),
        max_embedding_distance=(0.3, 1.0),
        min_cluster_voxels=(1, 3, 9),
    )
    grids = method.scores(voxels, ["ari", "n_clusters"], min_voxels=2)
    for index in np.ndindex(2, 3, 3, 3, 2, 3):
        axes = zip(method.axes().items(), index, strict=True)
        thresholds = {name: axis[number] for (name, axis), number in axes}
        wanted = scores(voxels["truth"], method.labels(voxels, **thresholds), min_voxels=2)
        for name, grid in grids.items():
            assert grid[index] == wanted[name], name
    assert len(np.unique(grids["n_clusters"])) > 6


@given(st.integers(0, 10**6), st.integers(0, 30))
def test_a_cluster_is_split_where_its_pieces_differ(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels, pieces = rng.integers(-1, 4, count), rng.integers(0, 5, count)
    cut = split(labels, pieces)
    pairs = list(zip(labels, pieces, strict=True))
    for one, other in np.ndindex(count, count):
        same = labels[one] >= 0 and pairs[one] == pairs[other]
        assert (cut[one] >= 0 and cut[one] == cut[other]) == same
    assert set(cut[cut >= 0]) == set(range(len({pair for pair in pairs if pair[0] >= 0})))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 9), st.integers(1, 60))
def test_small_clusters_go_to_the_nearest_large_one(
    seed: int, count: int, least: int, near: int
) -> None:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 30, (count, 3)), axis=0)
    labels = rng.integers(-1, 12, len(coords))
    sizes = np.bincount(labels[labels >= 0], minlength=13)
    large = (labels >= 0) & (sizes[labels] >= least)
    absorbed = absorb_small(labels, coords, nearest_voxels(coords)[:, :near], least)
    if least == 1 or not large.any():
        np.testing.assert_array_equal(absorbed, labels)
        return
    np.testing.assert_array_equal(absorbed[large], labels[large])
    for voxel in np.flatnonzero(~large):
        away = np.linalg.norm(coords - coords[voxel], axis=1)
        assert away[large & (labels == absorbed[voxel])].min() == away[large].min()


def test_one_stray_voxel_costs_an_event_all_of_its_ari() -> None:
    coords = np.array([[x, 0] for x in range(10)] + [[30, 0]])
    truth, labels = np.zeros(11, int), np.array([0] * 10 + [1])
    assert ari(truth, labels) == 0
    assert ari(truth, absorb_small(labels, coords, nearest_voxels(coords), 2)) == 1


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_overlapping_kernels_are_one_cluster(seed: int, count: int, overlap: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, rng.integers(1, 10), count)
    labels[labels >= 0] = np.unique(labels[labels >= 0], return_inverse=True)[1]
    position, margin = rng.normal(size=(count, 3)), rng.uniform(0.1, 2.0, count)
    found = merge_overlapping(labels, position, margin, overlap)
    np.testing.assert_array_equal(found, plain_merged(labels, position, margin, overlap))


def test_overlap_by_hand() -> None:
    """exp(-1² / (2 · 0.5 · 2)) = 0.607 between the first two, nearly 0 from both to the third."""
    labels, position = np.array([2, 0, 1, -1]), np.array([[9.0], [0.0], [1.0], [0.5]])
    margin = np.array([1.0, 0.5, 2.0, 1.0])
    assert merge_overlapping(labels, position, margin, 0.60).tolist() == [1, 0, 0, -1]
    assert merge_overlapping(labels, position, margin, 0.61).tolist() == [2, 0, 1, -1]
    with pytest.raises(ValueError, match=r"overlap = 1\.5: must be from 0 to 1"):
        merge_overlapping(labels, position, margin, 1.5)


def test_seeds_alone_links_alone_and_both() -> None:
    """Two pairs of voxels, far apart; the embedding joins one of each pair to one of the other."""
    coords = np.array([[0, 0], [1, 0], [9, 0], [10, 0]])
    position = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    voxels = {"coords": coords, "position": position, "margin": np.full(4, 0.1)}
    voxels["seediness"] = np.array([0.9, 0.8, 0.7, 0.6])
    thresholds = {
        "s0": 0.5,
        "p0": 0.5,
        "kernel_overlap": 1.0,
        "max_voxel_distance": 20.0,
        "max_embedding_distance": 1000.0,
        "min_cluster_voxels": 1,
    }
    labels = {
        name: LinkedClustering().labels(voxels, **(thresholds | change)).tolist()
        for name, change in {
            "seeds": {"max_voxel_distance": 0.0},
            "far links": {},
            "one kernel": {"max_voxel_distance": 0.0, "kernel_overlap": 1e-30},
            "links": {"p0": 0.0, "max_voxel_distance": 2.0},
            "both": {"max_voxel_distance": 2.0},
            "large": {"max_voxel_distance": 2.0, "p0": 0.0, "s0": 0.65, "min_cluster_voxels": 2},
            "none": {"s0": 0.95},
        }.items()
    }
    assert labels == {
        "seeds": [0, 1, 0, 1],
        "far links": [0, 1, 0, 1],
        "one kernel": [0, 0, 0, 0],
        "links": [0, 0, 1, 1],
        "both": [0, 2, 1, 3],
        "large": [0, 0, 1, 1],
        "none": [-1, -1, -1, -1],
    }
