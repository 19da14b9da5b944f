"""The rule of the paper as lartpc_mlreco3d computes it: by hand, and against the plain loop."""

import numpy as np
import pytest

from lartpc_ray.metrics.clustering import SCORES, scores
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.counted import cluster_counted, sweep_counted

LINE = np.array([[0.0], [0.5], [1.0], [1.5], [9.0]])
"""Margins 1: p between neighbours at 0.5 is 0.88, at 1.0 it is 0.61, at 1.5 it is 0.32."""
SEEDINESS = np.array([0.9, 0.1, 0.2, 0.8, 0.7])


def test_the_list_ends_once_the_counts_reach_the_number_of_voxels() -> None:
    outputs = (LINE, np.ones(5), SEEDINESS)
    # the seed at 0 counts three voxels, the one at 1.5 three too: six of five, so 9 has no seed
    assert cluster(*outputs, 0.5, 0.5).tolist() == [0, 0, 1, 1, 2]
    assert cluster_counted(*outputs, 0.5, 0.5).tolist() == [0, 0, 1, 1, 1]
    # with 0.7 each counts two, four in all, and 9 has its own
    assert cluster_counted(*outputs, 0.5, 0.7).tolist() == [0, 0, 1, 1, 2]


def test_without_a_seed_all_voxels_are_one_cluster() -> None:
    assert cluster_counted(LINE, np.ones(5), SEEDINESS, 0.95, 0.5).tolist() == [0] * 5


def test_a_probability_that_is_0_in_float32_joins_the_first_seed() -> None:
    far = np.array([[0.0], [90.0], [60.0]])
    found = cluster_counted(far, np.ones(3), np.array([0.9, 0.8, 0.1]), 0.5, 0.5)
    assert found.tolist() == [0, 1, 0], "exp(-450) and exp(-1800) are both 0"
    assert cluster(far, np.ones(3), np.array([0.9, 0.8, 0.1]), 0.5, 0.5).tolist() == [0, 1, 1]


@pytest.mark.parametrize("p0", [1.0, 1 - 1e-12])
def test_a_p0_with_which_that_program_never_ends_is_refused(p0: float) -> None:
    with pytest.raises(ValueError, match="never ends with it; give less than 1"):
        cluster_counted(LINE, np.ones(5), SEEDINESS, 0.5, p0)


@pytest.mark.slow
def test_the_sweep_scores_every_point_as_the_plain_loop_does(rng: np.random.Generator) -> None:
    s0, p0 = np.linspace(0, 1, 6), np.array([0.0, 1e-4, 0.1, 0.5, 0.9])
    early = 0
    for voxels in (0, 1, 4, 90):
        position = rng.normal(size=(voxels, 3)).round(1)
        margin, seediness = rng.uniform(0.1, 1, voxels), rng.random(voxels).round(1)
        truth = rng.integers(-1, 4, voxels)
        outputs = (position, margin, seediness)
        grid = sweep_counted(*outputs, truth, s0, p0, min_voxels=3, metrics=SCORES)
        for row, column in np.ndindex(len(s0), len(p0)):
            point = float(s0[row]), float(p0[column])
            labels = cluster_counted(*outputs, *point)
            early += labels.max(initial=-1) < cluster(*outputs, *point).max(initial=-1)
            for name, value in scores(truth, labels, min_voxels=3).items():
                found = grid[name][row, column]
                assert found == pytest.approx(value, nan_ok=True), (name, voxels, point)
    assert early > 5, "the list of seeds ended early"
