"""The pure parts of benchmarks/search.py: the plan, the table, the surrogate, the simulation."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from search_study.choice import choice, summary
from search_study.points import LONGER, decode, encode, plan, random_point
from search_study.rivals import RIVALS
from search_study.simulate import Outcome, longer
from search_study.surrogate import Basis, Surrogate, fit
from search_study.trainings import (
    SPACE,
    Training,
    class_means,
    gather,
    load,
    save,
    tuned_scores,
)
from search_study.world import World, gains

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.trials.space_file import read_space

STUDY = read_space(SPACE, "laptop")
RATE = list(STUDY.search).index("optimizer.learning_rate")
EVENTS = 30


def synthetic(count: int = 60, effect: float = 0.1, noise: float = 0.05) -> list[Training]:
    """Return trainings whose score rises with the learning rate and the length, and no more."""
    rng = np.random.default_rng(0)
    difficulty = 0.1 * rng.normal(size=(EVENTS, 5))
    trainings = []
    for index in range(count):
        planned = plan(STUDY.search, STUDY.first, index)
        rate = encode(STUDY.search, planned.settings)[RATE]
        true = 0.5 + 0.05 * np.arange(5) + effect * rate
        scores = true[:, None, None] + difficulty + noise * rng.normal(size=(5, EVENTS, 5))
        seconds = np.arange(1.0, 6.0)
        kind, settings, seed = planned.kind, planned.settings, planned.seed
        steps = 80 * planned.factor * np.arange(1, 6)
        trainings.append(Training(index, kind, settings, seed, steps, seconds, scores))
    return trainings


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return fit(STUDY.search, STUDY.first, synthetic())


def test_a_position_gives_its_settings_back() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        settings = decode(STUDY.search, random_point(STUDY.search, rng))
        again = decode(STUDY.search, encode(STUDY.search, settings))
        assert again == pytest.approx(settings)


def test_the_plan_is_the_same_each_time_and_mixes_the_kinds() -> None:
    plans = [plan(STUDY.search, STUDY.first, index) for index in range(120)]
    assert plans == [plan(STUDY.search, STUDY.first, index) for index in range(120)]
    kinds = Counter(planned.kind for planned in plans)
    assert kinds["default"] + kinds["longer"] == 15
    assert kinds["random"] == kinds["design"] == 30
    assert kinds["near"] == 45
    assert all(plans[index].factor == factor for index, factor in LONGER.items() if index < 120)


def test_the_designs_are_balanced() -> None:
    designs = [plan(STUDY.search, STUDY.first, index) for index in range(96)]
    points = [one.settings for one in designs if one.kind == "design"]
    assert len(points) == 24
    for path in STUDY.search:
        counts = Counter(str(point[path]) for point in points)
        assert sorted(counts.values()) == [12, 12], path


def test_rows_are_gathered_into_one_table(tmp_path: Path) -> None:
    trainings = synthetic(3)
    for one in trainings:
        save([one], tmp_path / f"{one.index:04d}.npz")
    assert gather(tmp_path, tmp_path / "table.npz") == 3
    for one, again in zip(trainings, load(tmp_path / "table.npz"), strict=True):
        assert (again.kind, again.settings, again.seed) == (one.kind, one.settings, one.seed)
        np.testing.assert_allclose(again.scores, one.scores, atol=1e-3)
        np.testing.assert_allclose(again.seconds, one.seconds)


def test_the_surrogate_finds_the_effect_and_the_noise(surrogate: Surrogate) -> None:
    basis = surrogate.basis
    high = dict(STUDY.first) | {"optimizer.learning_rate": 1e-2}
    change = basis.features(encode(STUDY.search, high)) - basis.features(basis.default)
    expected = 0.1 * (1 - basis.default[RATE])
    assert (change @ surrogate.mean)[-1] == pytest.approx(expected, abs=0.01)
    noise = surrogate.noise
    assert noise.event == pytest.approx(0.05, rel=0.1)
    assert np.sqrt(noise.seed[-1, -1]) < 0.004  # there is none


def test_the_default_has_only_the_intercept() -> None:
    basis = Basis(STUDY.search, encode(STUDY.search, STUDY.first))
    assert basis.features(basis.default).tolist() == [1.0] + [0.0] * (len(basis.groups()) - 1)


def test_the_paired_noise_of_a_world_is_the_measured_one(surrogate: Surrogate) -> None:
    world = World(surrogate, 0, events=400)
    runs = [world.train(world.first) for _ in range(30)]
    measured = np.std([one.objectives[-1] - one.true[-1] for one in runs])
    assert measured == pytest.approx(0.05 / (4 * 400) ** 0.5, rel=0.5)


def test_a_search_is_judged_by_what_it_returned_before_its_cost_was_spent(
    surrogate: Surrogate,
) -> None:
    world = World(surrogate, 1, events=20)
    runs = [world.train(world.first) for _ in range(3)]
    pieces = iter([(1.0, (runs[0], 5)), (1.0, (runs[1], 5)), (1.5, (runs[2], 5))])
    found = gains(lambda _world, _budget: pieces, world, [0.5, 1, 3, 9])
    assert found == [0.0, *(world.gain(run, 5) for run in runs)]


@pytest.mark.parametrize("name", list(RIVALS))
def test_each_search_runs_in_a_world(name: str, surrogate: Surrogate) -> None:
    found = gains(RIVALS[name], World(surrogate, 2, events=20), [1, 4])
    assert found == gains(RIVALS[name], World(surrogate, 2, events=20), [1, 4])
    assert len(found) == 2


def test_outcomes() -> None:
    outcome = Outcome.of(np.array([0.01, 0.03, -0.01, 0.01]))
    assert outcome.gain == pytest.approx(0.01)
    assert outcome.error == pytest.approx(np.std([1, 3, -1, 1], ddof=1) / 200)
    assert outcome.worse == 0.25


def test_a_longer_training_follows_a_power_law() -> None:
    missing = {1: [0.7], 2: [1 - 0.3 / 2**0.5], 4: [0.85]}
    assert longer(missing, [1, 4, 16]) == pytest.approx([0, 0.15, 0.225])


class TwoPointTask:
    """A task with two points of the thresholds: the voxels of an event are its scores there."""

    metric = "ari"

    def class_voxels(self, event: dict[str, list[float]], outputs: None) -> dict[str, np.ndarray]:
        return {name: np.array(scores) for name, scores in event.items()}

    def scores(self, voxels: np.ndarray, metrics: list[str]) -> dict[str, np.ndarray]:
        return {"ari": voxels}


def test_events_are_scored_at_the_best_thresholds_of_the_tune_events() -> None:
    events = [{"MIP": [0.2, 0.8]}, {"MIP": [0.5, 0.4], "HIP": [0.3, 0.1]}, {"MIP": [0.9, 0.7]}]
    predictions = [(event, None) for event in events]
    scores = tuned_scores(TwoPointTask(), predictions, tune_events=2)  # type: ignore[arg-type]
    mip, hip = CLASS_NAMES.index("MIP"), CLASS_NAMES.index("HIP")
    assert scores[:, mip].tolist() == [0.8, 0.4, 0.7]
    assert scores[1, hip] == 0.3
    assert np.isnan(scores).sum() == 3 * len(CLASS_NAMES) - 4


def test_class_means() -> None:
    scores = np.array([[[1.0, 0.0], [np.nan, 0.5]]])
    assert class_means(scores) == pytest.approx([(1 + 0.25) / 2])


def test_the_estimated_gain_of_a_winner_is_compared_with_the_true_one(surrogate: Surrogate) -> None:
    """Two searches of equal trials: the true gain is zero, the measured one of the best is not."""
    found = [choice(surrogate, seed, 6, 20, shrink=0.0, seeds=0.0) for seed in (1, 2)]
    known = [one for one in found if one]
    assert known
    assert all(abs(one.true) < 1e-12 for one in known)
    assert all(abs(one.estimated) < abs(one.measured) for one in known)
    assert summary(found)[0].startswith(f"2 searches, {len(known)} with a rival: true gain ")
