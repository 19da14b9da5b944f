"""The estimate of a winner's gain counts that the winner was chosen among many trials."""

import numpy as np
import pytest

from lartpc_ray.tune.history import Measurement
from lartpc_ray.tune.true_gains import Results, true_gains
from lartpc_ray.tune.winner import choose_winner

EVENTS, TRIALS, RUNGS = 40, 12, (500, 1500, 3000)
NOISE = 0.1


def race(gains: list[float], seed: int) -> Results:
    """Return the results of a race of trials of known true gains: a third passes each rung.

    Half of the variance of the noise of a trial's event is the same at all rungs.
    """
    random = np.random.default_rng(seed)
    difficulty = random.normal(0.6, 0.2, EVENTS)
    lasting = random.normal(size=(len(gains), EVENTS))
    going, results = list(range(len(gains))), {}
    for rung in RUNGS:
        values = {}
        for trial in going:
            noise = NOISE * np.sqrt(0.5) * (lasting[trial] + random.normal(size=EVENTS))
            scores = dict(enumerate(map(float, difficulty + gains[trial] + noise)))
            values[trial] = Measurement(float(np.mean(list(scores.values()))), {"MIP": scores})
        results[rung] = values
        ranked = sorted(set(going) - {0}, key=lambda trial: -values[trial].objective)
        going = [0, *ranked[: max(2, len(going) // 3)]]
    return results


def test_a_search_of_equal_trials_seldom_claims_a_better_one() -> None:
    """The paired difference of the best one alone claims it in far more than 16 % of searches."""
    winners = [choose_winner(race([0.0] * TRIALS, seed)) for seed in range(40)]
    differences = [one.difference for one in winners if one.difference]
    gains = [one.gain for one in winners if one.gain]
    assert len(gains) == len(differences) == 40
    assert np.mean([one.p_better >= 0.84 for one in differences]) > 0.3
    assert np.mean([one.number > 0 for one in winners]) <= 0.16
    measured, estimated = (
        np.mean([one.difference for one in found]) for found in (differences, gains)
    )
    assert measured > 0.015
    assert 0 <= estimated < measured / 3


def test_a_trial_that_is_truly_better_wins_by_about_its_gain() -> None:
    gains = [0.0] * TRIALS
    gains[5] = 0.08
    winners = [choose_winner(race(gains, seed)) for seed in range(20)]
    assert np.mean([one.number == 5 for one in winners]) >= 0.9
    found = [one.gain for one in winners if one.number == 5 and one.gain]
    assert np.mean([one.difference for one in found]) == pytest.approx(0.08, abs=0.02)
    pulls = [(one.difference - 0.08) / one.error for one in found]
    assert np.std(pulls) < 1.5
    assert all(one.events == EVENTS for one in found)


def test_a_choice_among_more_trials_is_worth_less() -> None:
    """One rival is chosen by nobody; among forty the same difference has another weight."""
    random = np.random.default_rng(3)
    difficulty = random.normal(0.6, 0.2, EVENTS)

    def measured(gain: float) -> Measurement:
        noise = NOISE * random.normal(size=EVENTS)
        scores = difficulty + gain + noise - noise.mean()
        return Measurement(float(scores.mean()), {"MIP": dict(enumerate(map(float, scores)))})

    default, rival = measured(0.0), measured(0.04)
    others = {number: measured(float(random.normal(0, 0.015))) for number in range(2, 40)}
    alone = true_gains({100: {0: default, 1: rival}})[1]
    among = true_gains({100: {0: default, 1: rival, **others}})[1]
    assert among.difference < 0.75 * alone.difference < 0.04
    assert among.p_better < alone.p_better


def test_settings_that_explain_the_gain_make_it_surer() -> None:
    """The trials of one setting are all better: the best of them was not lucky alone."""
    gains = [0.0] * 6 + [0.04] * 6
    columns = {trial: np.array([float(trial >= 6)]) for trial in range(12)}
    shuffled = {trial: np.array([float(trial % 2)]) for trial in range(12)}
    with_setting: list[float] = []
    with_another: list[float] = []
    for seed in range(10):
        results = race(gains, seed)
        for found, known in ((with_setting, columns), (with_another, shuffled)):
            best = choose_winner(results, known).gain
            assert best
            found.append(best.p_better)
    assert np.mean(with_setting) > np.mean(with_another) + 0.02


def test_exact_differences_stay_as_they_are() -> None:
    """Without noise over the events nothing is lucky."""
    scores = {trial: {n: 0.5 + 0.1 * trial + 0.01 * n for n in range(20)} for trial in range(3)}
    results = {7: {trial: Measurement(0.0, {"MIP": one}) for trial, one in scores.items()}}
    found = true_gains(results)
    assert found[2].difference == pytest.approx(0.2, rel=1e-3)
    assert found[2].p_better == pytest.approx(1.0)


def test_without_the_default_or_scores_at_the_last_step_there_is_no_estimate() -> None:
    results = race([0.0] * TRIALS, 0)
    assert true_gains({}) == {}
    assert true_gains({500: {0: results[500][0]}}) == {}
    assert true_gains({500: {1: results[500][1], 2: results[500][2]}}) == {}
    blind = {trial: Measurement(0.1) for trial in results[3000]}
    assert true_gains({**results, 3000: blind}) == {}


def test_correlations_that_exclude_each_other_end_no_search() -> None:
    """Of two events: each pair of rungs is measured on other trials, on few numbers."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        results = {
            rung: {
                trial: Measurement(
                    float(scores.mean()), {"MIP": dict(enumerate(map(float, scores)))}
                )
                for trial, scores in enumerate(random.uniform(size=(trials, 2)))
            }
            for rung, trials in zip((50, *RUNGS), (12, 5, 3, 3), strict=True)
        }
        gains = true_gains(results)
        assert sorted(gains) == [1, 2]
        assert all(np.isfinite(one.difference) and one.error > 0 for one in gains.values())
