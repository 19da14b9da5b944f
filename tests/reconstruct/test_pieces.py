"""Pieces, the features of their pairs, and their joining, against plain loops."""

from itertools import combinations

import numpy as np
import pytest

from lartpc_ray.metrics.clustering import ari
from lartpc_ray.reconstruct import pieces as module
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.pieces import (
    FEATURES,
    Pieces,
    all_pairs,
    find_pieces,
    join_pieces,
    joined,
    pair_features,
)
from lartpc_ray.reconstruct.reconstructions import PiecesClustering, Voxels


def made(seed: int, count: int, axes: int = 3) -> Voxels:
    """Return random voxels of one class, with the embedding of three clusters."""
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, 14, (count, axes)), axis=0).astype(np.int32)
    truth = rng.integers(0, 3, len(coords))
    return {
        "coords": coords,
        "truth": truth,
        "energy": rng.random(len(coords)).astype(np.float32),
        "position": (truth[:, None] + rng.normal(0, 0.3, coords.shape)).astype(np.float32),
        "margin": rng.uniform(0.2, 0.5, len(coords)).astype(np.float32),
        "seediness": rng.random(len(coords)).astype(np.float32),
    }


def test_a_piece_is_a_connected_part_of_one_cluster_of_seeds() -> None:
    voxels = made(0, 250)
    piece = find_pieces(voxels)
    rows = voxels["position"], voxels["margin"], voxels["seediness"]
    seeded, near = cluster(*rows, 0.0, 0.5), dbscan(voxels["coords"], eps=1.8)
    assert len(set(seeded)) > 1
    assert len(set(near)) > 1
    wanted = np.unique(np.stack([seeded, near]), axis=1, return_inverse=True)[1].ravel()
    assert ari(wanted, piece) == pytest.approx(1.0)
    assert sorted(set(piece)) == list(range(len(set(wanted))))


def test_more_pieces_than_the_limit_go_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = made(1, 250)
    whole = find_pieces(voxels)
    sizes = np.sort(np.bincount(whole))[::-1]
    limit = 6
    assert len(sizes) > limit
    assert sizes[0] > sizes[limit]
    monkeypatch.setattr(module, "MAX_PIECES", limit)
    few = find_pieces(voxels)
    assert 1 <= few.max() + 1 <= limit
    assert sorted(set(few)) == list(range(few.max() + 1))
    kept = np.bincount(whole)[whole] > sizes[limit]
    assert ari(whole[kept], few[kept]) == pytest.approx(1.0), "the larger ones stay apart"


def test_equal_pieces_beyond_the_limit_go_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the first of equal pieces: single voxels far from each other."""
    voxels = made(2, 9)
    voxels["coords"] = np.arange(len(voxels["coords"]))[:, None].repeat(3, 1) * 5
    monkeypatch.setattr(module, "MAX_PIECES", 4)
    assert sorted(set(find_pieces(voxels))) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
def test_distances_and_directions_are_those_of_plain_loops(axes: int) -> None:
    voxels = made(3, 120, axes)
    pieces = Pieces.of(find_pieces(voxels))
    first, second = all_pairs(pieces)
    features = pair_features(voxels, pieces)
    assert features.shape == (len(first), FEATURES)
    assert np.isfinite(features).all()
    assert (pieces.size[first] >= pieces.size[second]).all()
    coords, position, margin = (
        voxels[name].astype(float) for name in ("coords", "position", "margin")
    )
    for row, one, other in zip(features, first, second, strict=True):
        own, rest = (np.flatnonzero(pieces.labels == piece) for piece in (one, other))
        between = np.linalg.norm(coords[own][:, None] - coords[rest][None], axis=-1)
        centres = np.linalg.norm(coords[own].mean(axis=0) - coords[rest].mean(axis=0))
        apart = np.linalg.norm(position[own].mean(axis=0) - position[rest].mean(axis=0))
        margins = np.sqrt(margin[own].mean() * margin[rest].mean())
        energy = voxels["energy"][own].astype(float).sum()
        assert row[0] == pytest.approx(np.log1p(len(own)), rel=1e-5)
        assert row[1] == pytest.approx(np.log1p(energy), rel=1e-5)
        assert row[10] == pytest.approx(np.log1p(between.min()), rel=1e-5)
        assert row[11] == pytest.approx(np.log1p(centres), rel=1e-5, abs=1e-6)
        assert row[27] == pytest.approx(np.log1p(apart / margins), rel=1e-5)


def test_the_link_is_that_of_the_nearest_voxels() -> None:
    coords = np.array([[0, 0], [1, 0], [4, 0], [5, 0]], np.int32)
    position = np.array([[0.0, 0], [0, 0], [2, 0], [9, 0]], np.float32)
    voxels = {"coords": coords, "position": position, "energy": np.ones(4, np.float32)}
    voxels |= {"margin": np.full(4, 0.5, np.float32), "seediness": np.ones(4, np.float32)}
    pieces = Pieces.of(np.array([0, 0, 1, 1]))
    assert pair_features(voxels, pieces)[0, 28] == pytest.approx(np.log1p(2 / 0.5))


def plain_joined(pieces: Pieces, logit: np.ndarray, threshold: float) -> np.ndarray:
    """Join the two groups of highest mean logit until none reaches the threshold."""
    score = {frozenset(pair): value for *pair, value in zip(*all_pairs(pieces), logit, strict=True)}
    groups = [{piece} for piece in range(len(pieces.size))]
    while len(groups) > 1:
        means = {}
        for one, other in combinations(range(len(groups)), 2):
            pairs = [(a, b) for a in groups[one] for b in groups[other]]
            weights = [pieces.size[a] * pieces.size[b] for a, b in pairs]
            values = [score[frozenset(pair)] for pair in pairs]
            means[one, other] = np.average(values, weights=weights)
        one, other = max(means, key=means.__getitem__)
        if 1 / (1 + np.exp(-means[one, other])) < threshold:
            break
        groups[one] |= groups.pop(other)
    group = {piece: number for number, own in enumerate(groups) for piece in own}
    return np.array([group[piece] for piece in pieces.labels])


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_cut_at_any_threshold_is_average_linkage(seed: int) -> None:
    pieces = Pieces.of(find_pieces(made(seed, 30, axes=2)))
    count = len(pieces.size)
    assert 5 < count < 40, "the plain loops take long"
    logit = np.random.default_rng(seed).normal(0, 2, count * (count - 1) // 2)
    parent, probability = join_pieces(pieces, logit)
    clusters = []
    for threshold in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        rows = parent[pieces.labels], probability[pieces.labels]
        labels = joined(pieces.labels, *rows, threshold)
        assert ari(plain_joined(pieces, logit, threshold), labels) == pytest.approx(1.0)
        assert sorted(set(labels)) == list(range(labels.max() + 1))
        clusters.append(int(labels.max()) + 1)
    assert clusters[0] == 1
    assert clusters[-1] == count
    assert clusters == sorted(clusters)
    assert len(set(clusters)) > 3


def test_no_voxels_and_one_piece() -> None:
    none = np.empty(0, np.int64)
    assert joined(none, none, np.empty(0), 0.5).shape == (0,)
    one = Pieces.of(np.zeros(3, np.int64))
    assert pair_features(made(0, 3), one).shape == (0, FEATURES)
    parent, probability = join_pieces(one, np.empty(0))
    assert (parent.tolist(), probability.tolist()) == ([0], [0.0])


def test_the_grid_is_the_labels_of_each_point() -> None:
    voxels = made(5, 150)
    pieces = Pieces.of(find_pieces(voxels))
    count = len(pieces.size)
    logit = np.random.default_rng(5).normal(0, 2, count * (count - 1) // 2)
    parent, probability = join_pieces(pieces, logit)
    voxels["piece"], voxels["piece_parent"] = pieces.labels, parent[pieces.labels]
    voxels["piece_probability"] = probability[pieces.labels]
    method = PiecesClustering(join_probability=(0.2, 0.5, 0.8), min_cluster_voxels=(1, 4))
    grid = method.scores(voxels, ["ari"], min_voxels=2)["ari"]
    axes = method.axes()
    points = np.meshgrid(*axes.values(), indexing="ij")
    assert grid.shape == (3, 2)
    assert len(set(grid.ravel())) > 2
    for index in np.ndindex(3, 2):
        at = {name: float(values[index]) for name, values in zip(axes, points, strict=True)}
        assert grid[index] == pytest.approx(ari(voxels["truth"], method.labels(voxels, **at)))
