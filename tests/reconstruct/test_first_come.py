"""SPINE's rule: worked out by hand, and the sweep against the plain reference."""

from functools import partial

import numpy as np
import pytest

from lartpc_ray.metrics.clustering import SCORES, scores
from lartpc_ray.reconstruct.first_come import cluster_first_come, sweep_first_come

LINE = np.array([[0.0], [0.5], [1.0], [4.0]])
"""Margins 1: p between neighbours at 0.5 is exp(-1/8) = 0.88, at 1.0 exp(-1/2) = 0.61."""


def test_a_seed_keeps_its_members_and_the_rest_goes_to_the_highest_probability() -> None:
    seediness = np.array([0.9, 0.3, 0.8, 0.1])
    labels = cluster_first_come(LINE, np.ones(4), seediness, 0.5, 0.7, min_size=1)
    assert labels.tolist() == [0, 0, 1, 1], "the last voxel is nearest to the seed at 1.0"
    labels = cluster_first_come(LINE, np.ones(4), seediness, 0.5, 0.7, min_size=1, assign_all=False)
    assert labels.tolist() == [0, 0, 1, -1]


def test_a_member_has_at_least_p0() -> None:
    seediness, p0 = np.array([0.9, 0.1]), np.float32(np.exp(-0.5))
    pair = np.array([[0.0], [1.0]])
    assert cluster_first_come(pair, np.ones(2), seediness, 0.5, float(p0)).tolist() == [0, 0]
    more = float(np.nextafter(p0, np.float32(1)))
    assert cluster_first_come(pair, np.ones(2), seediness, 0.5, more).tolist() == [-1, -1]
    near = np.array([[0.0], [1e-5]])  # p = 1 - 5e-11 is 1 in float32
    assert cluster_first_come(near, np.ones(2), seediness, 0.5, 1.0).tolist() == [0, 0]


def test_a_rejected_seed_stays_without_a_cluster() -> None:
    seediness = np.array([0.5, 0.4, 0.3, 0.9])
    labels = cluster_first_come(LINE, np.ones(4), seediness, 0.0, 0.5)
    assert labels.tolist() == [0, 0, 0, -1]


def test_fewer_voxels_than_the_smallest_cluster_give_none() -> None:
    labels = cluster_first_come(LINE[:1], np.ones(1), np.ones(1), 0.0, 0.5)
    assert labels.tolist() == [-1]


@pytest.mark.parametrize("min_size", [1, 2, 5])
@pytest.mark.parametrize("assign_all", [True, False])
def test_the_sweep_scores_every_point_as_the_reference_does(
    rng: np.random.Generator, min_size: int, assign_all: bool
) -> None:
    s0, p0 = np.linspace(0, 1, 6), np.array([0.0, 1e-4, 0.1, 0.5, 0.9, 1.0])
    for voxels in (0, 1, 4, 90):
        position = rng.normal(size=(voxels, 3)).round(1)
        margin, seediness = rng.uniform(0.1, 1, voxels), rng.random(voxels).round(1)
        truth = rng.integers(-1, 4, voxels)
        outputs = (position, margin, seediness)
        cluster = partial(cluster_first_come, *outputs, min_size=min_size, assign_all=assign_all)
        sweep = partial(sweep_first_come, *outputs, min_size=min_size, assign_all=assign_all)
        grid = sweep(truth, s0, p0, min_voxels=3, metrics=SCORES)
        for row, column in np.ndindex(len(s0), len(p0)):
            labels = cluster(float(s0[row]), float(p0[column]))
            for name, value in scores(truth, labels, min_voxels=3).items():
                assert grid[name][row, column] == pytest.approx(value, nan_ok=True), (
                    name,
                    voxels,
                    s0[row],
                    p0[column],
                )
