import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

sys.path.insert(0, str(Path(__file__).parent))
from reference import numpy_cluster, plain_cluster

from lartpc_ray.metrics.clustering import CHEAP_SCORES, SCORES, scores
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.first_come import sweep_first_come
from lartpc_ray.reconstruct.grid import ThresholdGrid, choose
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.reconstruct.sweep import BLOCK, sweep, sweep_exactly
from lartpc_ray.runtime.resources import Meter

GRID = np.linspace(0, 1, 5)


def outputs(seed: int, count: int, ties: bool) -> tuple[np.ndarray, ...]:
    """Clouds around a few centres; with `ties`, equal points and equal seediness abound."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 3, count)
    position = rng.normal(size=(4, 3))[truth] + 0.3 * rng.normal(size=(count, 3))
    margin = np.exp(rng.normal(size=count) * rng.choice([0.1, 3.0]))
    seediness = rng.random(count)
    if ties:
        position, seediness = np.round(position), np.round(seediness, 1)
    return position, margin, seediness, truth


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans())
def test_labels_and_scores_equal_the_reference_on_the_whole_grid(
    seed: int, count: int, ties: bool
) -> None:
    position, margin, seediness, truth = outputs(seed, count, ties)
    grid = sweep(position, margin, seediness, truth, GRID, GRID, min_voxels=2, metrics=SCORES)
    for row, s0 in enumerate(GRID):
        for column, p0 in enumerate(GRID):
            labels = cluster(position, margin, seediness, s0, p0)
            wanted = plain_cluster(position, margin, seediness, s0, p0)
            np.testing.assert_array_equal(labels, wanted)
            values = scores(truth, labels, min_voxels=2)
            for name in SCORES:
                np.testing.assert_allclose(
                    grid[name][row, column], values[name], atol=1e-12, err_msg=name
                )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(BLOCK + 1, 5 * BLOCK), st.booleans())
def test_seeds_pass_over_far_blocks_without_a_difference(seed: int, count: int, ties: bool) -> None:
    position, margin, seediness, truth = outputs(seed, count, ties)
    grid = sweep(position, margin, seediness, truth, GRID, GRID, min_voxels=2, metrics=SCORES)
    for row, s0 in enumerate(GRID):
        for column, p0 in enumerate(GRID):
            labels = cluster(position, margin, seediness, s0, p0)
            for name, value in scores(truth, labels, min_voxels=2).items():
                np.testing.assert_allclose(grid[name][row, column], value, atol=1e-12, err_msg=name)


@pytest.mark.slow
@settings(deadline=None, max_examples=1000)
@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_labels_equal_the_reference_in_a_thousand_events(seed: int, count: int, ties: bool) -> None:
    position, margin, seediness, _ = outputs(seed, count, ties)
    for s0 in GRID:
        for p0 in GRID:
            np.testing.assert_array_equal(
                cluster(position, margin, seediness, s0, p0),
                plain_cluster(position, margin, seediness, s0, p0),
            )


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(0, 40), st.booleans(), st.sampled_from([0, 0.3, 1]))
def test_no_step_of_s0_is_missed(seed: int, count: int, ties: bool, p0: float) -> None:
    position, margin, seediness, truth = outputs(seed, count, ties)
    steps, grid = sweep_exactly(position, margin, seediness, truth, p0, metrics=SCORES)
    assert steps[-1] == 1
    fine = np.union1d(np.linspace(0, 1, 101), np.nextafter(steps[:-1], 1))
    wanted = sweep(position, margin, seediness, truth, fine, np.array([p0]), metrics=SCORES)
    step = np.searchsorted(steps, fine)
    for name in SCORES:
        np.testing.assert_array_equal(grid[name][step], wanted[name][:, 0])


def test_by_hand() -> None:
    position = np.array([[0.0], [1.0], [1.5], [9.0]])
    margin = np.ones(4)
    seediness = np.array([0.9, 0.3, 0.8, 0.7])
    # seed 0 reaches exp(-1/2) = 0.61 of 1, exp(-1.125) = 0.32 of 2; at p0 = 0.5 seed 2 follows
    assert cluster(position, margin, seediness, 0.5, 0.5).tolist() == [0, 1, 1, 2]
    assert cluster(position, margin, seediness, 0.5, 0.3).tolist() == [0, 0, 0, 1]
    assert cluster(position, margin, seediness, 0.75, 0.5).tolist() == [0, 1, 1, 1]
    assert cluster(position, margin, seediness, 0.95, 0.5).tolist() == [-1] * 4
    assert cluster(position, margin, seediness, 0.0, 0.0).tolist() == [0] * 4
    assert cluster(position, margin, seediness, 0.0, 1.0).tolist() == [0, 3, 1, 2]


def test_no_voxel() -> None:
    empty = np.empty((0, 3))
    assert cluster(empty, np.empty(0), np.empty(0), 0.5, 0.5).tolist() == []
    grid = sweep(empty, np.empty(0), np.empty(0), np.empty(0, int), GRID, GRID)
    assert np.isnan(grid["ari"]).all()
    assert dbscan(np.empty((0, 3), np.int32)).tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": np.array([[np.nan]])}, "position holds NaN"),
        ({"margin": np.array([0.0])}, "margin 0.0: must be above 0"),
        ({"seediness": np.array([0.5, 0.5])}, "one row per voxel"),
        ({"s0": 1.5}, r"s0 = 1.5: must be from 0 to 1"),
        ({"p0": -0.1}, r"p0 = -0.1: must be from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    good = {"position": np.zeros((1, 1)), "margin": np.ones(1), "seediness": np.ones(1)}
    with pytest.raises(ValueError, match=message):
        cluster(**{**good, "s0": 0.5, "p0": 0.5, **change})


def test_thresholds_must_ascend() -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"s0 .*ascending"):
        sweep(np.zeros((1, 1)), one, one, np.zeros(1, int), np.array([0.5, 0.5]), GRID)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_the_loop_of_the_benchmarks_gives_the_same_labels(
    seed: int, count: int, ties: bool
) -> None:
    position, margin, seediness, _ = outputs(seed, count, ties)
    for s0, p0 in ((0.1, 0.0), (0.3, 0.5), (0.0, 1.0)):
        wanted = numpy_cluster(position, margin, seediness, s0, p0)
        np.testing.assert_array_equal(cluster(position, margin, seediness, s0, p0), wanted)


def test_a_sweep_has_ami_only_if_asked() -> None:
    position, margin, seediness, truth = outputs(3, 30, False)
    given = (position, margin, seediness, truth)
    for method in (sweep, sweep_first_come):
        found = method(*given, GRID, GRID)
        assert tuple(found) == CHEAP_SCORES
        assert "ami" not in found
        asked = method(*given, GRID, GRID, metrics=["ami", "ari"])
        assert list(asked) == ["ami", "ari"]
        assert np.isfinite(asked["ami"]).any()
        np.testing.assert_array_equal(asked["ari"], found["ari"])
    assert "ami" not in sweep_exactly(*given, 0.5)[1]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 200),
    st.sampled_from([2, 3]),
    st.sampled_from([0.5, 1, 2**0.5, 3**0.5, 1.8, 5**0.5, 2.8, 8**0.5, 3.7]),
)
def test_dbscan_of_one_point_gives_the_labels_of_scikit_learn(
    seed: int, count: int, axes: int, eps: float
) -> None:
    side = np.random.default_rng(seed).integers(3, 60)
    coords = np.random.default_rng(seed).integers(0, side, (count, axes)).astype(np.int32)
    coords = np.unique(coords, axis=0)
    np.random.default_rng(seed).shuffle(coords)
    wanted = DBSCAN(eps=eps, min_samples=1).fit_predict(coords.astype(float))
    np.testing.assert_array_equal(dbscan(coords, eps=eps), wanted)


def test_dbscan_joins_what_touches() -> None:
    coords = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 5]], np.int32)
    assert dbscan(coords).tolist() == [0, 0, 1]


def test_the_best_point_is_the_middle_of_equal_ones() -> None:
    score = np.zeros((5, 5))
    score[1:4, 1:4] = 0.7
    grid = ThresholdGrid({"s0": GRID, "p0": GRID}, {"MIP": score[None]})
    assert grid.best("MIP") == {"s0": 0.5, "p0": 0.5}
    assert grid.best_score("MIP") == 0.7


def made_grid(events: int, noise: float, peak: float = 0.5) -> ThresholdGrid:
    """Events that agree on a hill around (peak, 0.5) up to noise of their own at every point."""
    rng = np.random.default_rng(0)
    hill = 1 - (GRID[:, None] - peak) ** 2 - (GRID[None, :] - 0.5) ** 2
    hard = 0.3 * rng.normal(size=(events, 1, 1))
    scores = hill + hard + noise * rng.normal(size=(events, 5, 5))
    return ThresholdGrid({"s0": GRID, "p0": GRID}, {"MIP": scores})


@pytest.mark.parametrize("rule", ["best", "robust"])
def test_a_clear_hill_is_found_and_its_plateau_is_small(rule: Literal["best", "robust"]) -> None:
    choice = choose(made_grid(200, 0.01), "MIP", ChoiceSettings(rule=rule))
    assert choice.thresholds == {"s0": 0.5, "p0": 0.5}
    assert choice.interval == {"s0": (0.5, 0.5), "p0": (0.5, 0.5)}
    assert choice.plateau.sum() == 1
    assert choice.held_out == pytest.approx(choice.score)


def test_the_error_is_that_of_a_mean_and_says_how_many_events_are_enough() -> None:
    grid = made_grid(100, 0.0)
    choice = choose(grid, "MIP", ChoiceSettings(precision=0.01, resamples=4000))
    spread = grid.scores["MIP"][:, 2, 2].std(ddof=1) / np.sqrt(100)
    assert choice.error == pytest.approx(spread, rel=0.05)
    assert choice.enough == pytest.approx(100 * (spread / 0.01) ** 2, rel=0.1)
    assert choose(grid, "MIP", ChoiceSettings(precision=0.1)).enough is None


def test_hard_events_do_not_widen_the_plateau() -> None:
    # all points of an event share its difficulty, ten times the hill's height at the first step
    assert choose(made_grid(50, 0.01), "MIP", ChoiceSettings()).plateau.sum() == 1
    assert choose(made_grid(50, 1.0), "MIP", ChoiceSettings()).plateau.sum() > 5


def test_where_all_is_noise_the_held_out_score_says_so() -> None:
    rng = np.random.default_rng(1)
    choices = [
        choose(
            ThresholdGrid({"s0": GRID, "p0": GRID}, {"MIP": rng.normal(size=(30, 5, 5))}),
            "MIP",
            ChoiceSettings(rule="best", resamples=10),
        )
        for _ in range(40)
    ]
    # true score: 0; the best of 25 means of 30 is about 2 / sqrt(30) = 0.36 above it
    assert np.mean([choice.score for choice in choices]) > 0.3
    assert abs(np.mean([choice.held_out for choice in choices])) < 0.1


def test_one_event_gives_a_choice_without_a_held_out_score() -> None:
    choice = choose(made_grid(1, 0.0), "MIP", ChoiceSettings())
    assert choice.thresholds == {"s0": 0.5, "p0": 0.5}
    assert choice.held_out is None
    assert choice.events == 1


def test_refined_points_lie_on_both_sides_of_the_best() -> None:
    cut = SeedClustering(grid_points=3, extra_p0=(0.1,))
    assert cut.axes()["p0"].tolist() == [0, 0.1, 0.5, 1]
    finer = cut.refined([0.5], 1)
    assert finer.axes()["p0"] == pytest.approx([0, 0.1, 0.3, 0.5, 0.75, 1])
    assert cut.refined([0.0], 1).axes()["p0"] == pytest.approx([0, 0.05, 0.1, 0.5, 1])


@pytest.mark.slow
def test_fifty_thousand_voxels_and_a_thousand_seeds_fit_into_little_memory() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 1000, 50_000)
    given: dict[str, Any] = {
        "position": rng.uniform(-1, 1, (1000, 3))[truth] + 0.005 * rng.normal(size=(50_000, 3)),
        "margin": np.full(50_000, 0.01),
        "seediness": rng.uniform(size=50_000),
        "truth": truth,
    }
    points = np.array([0.1, 0.5])
    sweep(**given, s0=points, p0=points)  # compiles
    with Meter("cpu") as meter:
        found = sweep(**given, s0=points, p0=points)
    clusters = int(found["n_clusters"].max())
    assert clusters > 1000
    assert meter.peak_gib < 0.1 * 8 * 50_000 * clusters / 2**30, "no table of voxels and clusters"
