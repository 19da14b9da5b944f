"""One suite for all samplers and schedulers: the same promises, on results made up by a formula."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.earlier import EarlierResults, EarlierTrial
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space import Condition, Prior, Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.decisions import SAMPLERS, Decisions
from lartpc_ray.tune.history import History, Measurement, together
from lartpc_ray.tune.samplers.additive import AdditiveModel, prior_of
from lartpc_ray.tune.samplers.design import FIRST_ROWS, design, plackett_burman
from lartpc_ray.tune.samplers.screening import fitted
from lartpc_ray.tune.schedulers.racing import Racing
from lartpc_ray.tune.schedulers.scheduler import rungs

RATE, FILTERS, MASK, ALPHA = (
    "optimizer.learning_rate",
    "network.filters",
    "task.loss.mask",
    "task.loss.smoothing",
)
SEARCH = {
    RATE: FloatDistribution(1e-4, 1e-2, log=True),
    FILTERS: IntDistribution(4, 16, step=4),
    MASK: CategoricalDistribution(["bce", "focal", None]),
    ALPHA: FloatDistribution(0.1, 10.0, log=True),
}
CLIP, EVENTS, PARTS = "optimizer.clip", "data.batch_events", "optimizer.accumulate"
FIRST = {RATE: 1e-3, FILTERS: 8, MASK: "bce", ALPHA: 1.0}
FIXED = {
    "task.name": "clustering",
    "optimizer.steps": 900,
    "optimizer.evaluate_every": 100,
}


def space(**budget: Any) -> Space:
    values = {"trials": 16, "steps": 900, "min_steps": 100, "concurrent": 2, **budget}
    return Space(
        name="made-up",
        fixed=FIXED,
        search=dict(SEARCH),
        first=FIRST,
        budget=Budget(**values),
        budget_name="laptop",
        overrides={},
        priors={RATE: Prior(5e-4, 2e-3)},
        conditions={ALPHA: Condition(MASK, ("focal",))},
        starts=({**FIRST, FILTERS: 12},),
    )


def worth(point: dict[str, Any]) -> float:
    """Return the true objective: the rate, the filters and one option matter."""
    rate = np.log10(point[RATE] / 1e-3)
    return float(0.7 + 0.04 * rate + 0.005 * point[FILTERS] - 0.03 * (point[MASK] == "focal"))


def measured(point: dict[str, Any], trial: int, step: int, seed: int = 0) -> Measurement:
    """Return scores with the difficulty of each event, and noise of trial and event."""
    events = np.random.default_rng(1).normal(0, 0.1, 40)
    noise = np.random.default_rng((seed, trial, step)).normal(0, 0.03, 40)
    values = worth(point) - 10 / (step + 100) + events + noise
    return Measurement(float(values.mean()), {"MIP": dict(enumerate(map(float, values)))})


def searched(decisions: Decisions, slots: int = 2, failing: tuple[int, ...] = ()) -> list[Any]:
    """Run a search; return all assignments."""
    assignments = []
    while work := decisions.next(slots):
        for trial, until in work:
            assignments.append((trial, until))
            if trial in failing:
                decisions.fail(trial)
                continue
            point = FIRST | decisions.history.trials[trial].settings
            decisions.record(trial, until, measured(point, trial, until))
        assert len(assignments) < 200
    return assignments


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_keeps_its_promises(name: Any) -> None:
    """Trial 0 is the default, then the starts; every point is allowed, and new."""
    asked = space(sampler=name, scheduler="none", trials=13)
    decisions = Decisions.of(asked)
    searched(decisions, failing=(3,))
    points = [trial.settings for trial in decisions.history.trials]
    assert len(points) == 13
    assert points[0] == {key: FIRST[key] for key in (RATE, FILTERS, MASK)}, (
        "smoothing has no effect"
    )
    assert points[1] == {**points[0], FILTERS: 12}
    for point in points:
        assert (ALPHA in point) == (point[MASK] == "focal")
        for key, value in point.items():
            distribution = asked.search[key]
            assert distribution._contains(distribution.to_internal_repr(value)), (key, value)
        assert point[FILTERS] in (4, 8, 12, 16)
        asked.trial({key: value for key, value in point.items() if key != MASK})
    assert len({str(point) for point in points}) >= 11


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_gives_the_same_points_and_another_seed_others(name: Any) -> None:
    def points(seed: int) -> list[Any]:
        fixed = {**FIXED, "seed": seed}
        decisions = Decisions.of(replace(space(sampler=name, trials=12), fixed=fixed))
        searched(decisions)
        return [trial.settings for trial in decisions.history.trials]

    assert points(0) == points(0)
    different = [one != other for one, other in zip(points(0), points(1), strict=True)]
    assert sum(different) >= 7, "all but the starts and some chance equals"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_may_be_larger_than_those_of_numpys_earlier_generator(name: Any) -> None:
    """`--set seed=` takes any; the genetic sampler failed after the starts."""
    fixed = {**FIXED, "seed": 2**40}
    searched(Decisions.of(replace(space(sampler=name, scheduler="none", trials=4), fixed=fixed)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("trials", [2, 16])
def test_no_slot_waits_for_the_default(name: Any, trials: int) -> None:
    few = replace(space(sampler=name, trials=trials), starts=())
    begun = Decisions.of(few).next(4)
    assert len(begun) >= min(4, trials)
    low: dict[str, BaseDistribution] = {
        RATE: FloatDistribution(1e-3, 1e-2, log=True)
    }  # the default at its lower end
    alone = replace(few, search=low, first={RATE: 1e-3}, priors={}, conditions={})
    assert len(Decisions.of(alone).next(2)) == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_takes_trials_that_run_or_failed(name: Any) -> None:
    decisions = Decisions.of(space(sampler=name, deterministic=False, scheduler="halving"))
    first = decisions.next(4)
    decisions.fail(first[-1][0])
    decisions.record(0, 100, measured(FIRST, 0, 100))
    assert decisions.next(2), "trial 1 still runs"


@pytest.mark.parametrize("failing", [(), (0,)])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "random"])
def test_a_sampler_learns_also_if_the_default_has_failed(name: Any, failing: Any) -> None:
    """A sampler that takes no result proposes at random to the end."""

    def points(sign: int) -> list[Any]:
        asked = space(sampler=name, scheduler="none", trials=26)
        decisions = Decisions.of(replace(asked, starts=()))
        while work := decisions.next(2):
            for trial, until in work:
                if trial in failing:
                    decisions.fail(trial)
                    continue
                point = FIRST | decisions.history.trials[trial].settings
                objective = sign * measured(point, trial, until).objective
                decisions.record(trial, until, Measurement(objective))
        return [trial.settings for trial in decisions.history.trials]

    assert points(1)[22:] != points(-1)[22:], "they follow the results"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_stays_on_the_steps_of_a_range_and_takes_a_logarithmic_int(name: Any) -> None:
    search: dict[str, BaseDistribution] = {
        **SEARCH,
        CLIP: FloatDistribution(0.5, 2.0, step=0.5),
        EVENTS: IntDistribution(1, 32, log=True),
    }
    first = {**FIRST, CLIP: 1.0, EVENTS: 2}
    asked = replace(
        space(sampler=name, scheduler="none", trials=12), search=search, first=first, starts=()
    )
    decisions = Decisions.of(asked)
    searched(decisions)
    points = [trial.settings for trial in decisions.history.trials]
    assert {point[CLIP] for point in points} <= {0.5, 1.0, 1.5, 2.0}
    assert len({point[CLIP] for point in points}) > 1
    assert all(isinstance(point[EVENTS], int) for point in points)
    assert all(1 <= point[EVENTS] <= 32 for point in points)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_proposes_no_settings_that_do_not_fit_together(name: Any) -> None:
    """A step needs an event for each of its parts. A search ended where a trial refused that."""
    search: dict[str, BaseDistribution] = {
        EVENTS: IntDistribution(1, 8),
        PARTS: IntDistribution(1, 4),
        RATE: SEARCH[RATE],
    }
    asked = replace(
        space(sampler=name, scheduler="none", trials=9),
        search=search,
        first={EVENTS: 4, PARTS: 2, RATE: 1e-3},
        starts=(),
        priors={EVENTS: Prior(1, 6), PARTS: Prior(1, 4)},
        conditions={},
    )
    decisions = Decisions.of(asked)
    searched(decisions)
    trials = [asked.trial(trial.settings) for trial in decisions.history.trials]
    assert len(trials) == 9
    assert len({trial.optimizer.accumulate for trial in trials}) > 1, "they vary"
    again = Decisions.of(asked)
    searched(again)
    assert [one.settings for one in again.history.trials] == [
        one.settings for one in decisions.history.trials
    ]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("trials", "expected"), [(30, 12), (12, 12), (9, 9)])
def test_a_space_of_few_points_has_none_twice(name: Any, trials: int, expected: int) -> None:
    """Copies of trial 0 took the places of others at the rungs of a race."""
    masks = CategoricalDistribution(["bce", "focal", "soft_dice"])
    small: dict[str, BaseDistribution] = {FILTERS: SEARCH[FILTERS], MASK: masks}
    first = {FILTERS: 8, MASK: "bce"}
    whole = space(sampler=name, trials=trials)
    asked = replace(whole, search=small, first=first, starts=(), priors={}, conditions={})
    assert asked.trials == expected
    decisions = Decisions.of(asked)
    searched(decisions)
    points = [trial.settings for trial in decisions.history.trials]
    assert points[0] == first
    assert len(points) == len({str(point) for point in points}) == expected


def test_points_that_no_trial_takes_do_not_count() -> None:
    pairs: dict[str, BaseDistribution] = {
        EVENTS: IntDistribution(1, 2),
        PARTS: IntDistribution(1, 2),
    }
    first = {EVENTS: 2, PARTS: 1}
    asked = replace(space(), search=pairs, first=first, starts=(), priors={}, conditions={})
    assert asked.trials == 3, "one event has no two parts"
    assert replace(asked, kept=True).trials == 3, "a resumed study has as many"


def test_settings_that_do_not_fit_together_become_those_of_trial_0() -> None:
    """The fewest of them, and the settings under a condition follow."""
    asked = replace(
        space(),
        search={EVENTS: IntDistribution(1, 8), PARTS: IntDistribution(1, 4), **SEARCH},
        first={EVENTS: 4, PARTS: 2, **FIRST},
        starts=(),
    )
    point = {**FIRST, FILTERS: 16, RATE: 2e-3, EVENTS: 1, PARTS: 4}
    own = {key: value for key, value in point.items() if key != ALPHA}
    assert asked.allowed({**point, PARTS: 1}) == {**own, PARTS: 1}, "it fits"
    assert asked.allowed(point) == {**own, EVENTS: 4}
    assert asked.allowed({**point, MASK: None}) == asked.active(asked.first), "both do not"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_takes_trials_of_a_study_that_searched_more_settings(name: Any) -> None:
    """An earlier version searched a setting that is left out today, as it has no effect."""
    asked = space(sampler=name, scheduler="none", trials=12)
    decisions = Decisions.of(asked, lambda _, point: {**point, "network.depth": 5})
    searched(decisions)
    assert len(decisions.history.trials) == 12


@pytest.mark.parametrize("name", ["racing", "halving", "none"])
def test_a_scheduler_keeps_its_promises(name: Any) -> None:
    """Each trial climbs rung by rung, and the default reaches the end."""
    decisions = Decisions.of(space(scheduler=name))
    assignments = searched(decisions, failing=(5,))
    history = decisions.history
    assert len(history.trials) == 16
    assert history.trials[0].step == 900
    values = [worth(FIRST | trial.settings) for trial in history.trials]
    finished = [values[trial] for trial in history.at(900)]
    assert max(finished) > max(values) - 0.01, "little noise: nearly the best is found"
    assert max(finished) > values[0] + 0.02
    expected = [900] if name == "none" else [100, 300, 900]
    for trial in range(16):
        steps = [until for number, until in assignments if number == trial]
        assert steps == expected[: len(steps)], trial
    assert [until for number, until in assignments if number == 5] == expected[:1], "it failed"
    again = Decisions.of(space(scheduler=name))
    assert searched(again, failing=(5,)) == assignments


@pytest.mark.parametrize("trials", [2, 3, 4, 6])
def test_halving_trains_the_best_of_few_trials_to_the_end(trials: int) -> None:
    """A third of two trials is none: trial 1 never trained on, however good it was."""
    few = replace(space(scheduler="halving", trials=trials), starts=({**FIRST, FILTERS: 16},))
    decisions = Decisions.of(few)
    found = decisions.history
    while work := decisions.next(2):
        for trial, until in work:
            worse = 0.0 if trial == 1 else 0.2
            decisions.record(trial, until, Measurement(0.8 - worse - 10 / until))
    assert [number for number, one in enumerate(found.trials) if one.step == 900] == [0, 1]
    assert decisions.scheduler.passing(1) >= 2, "the plan counts both"


@pytest.mark.parametrize("name", ["racing", "halving", "none"])
def test_a_search_whose_trials_all_fail_ends(name: Any) -> None:
    decisions = Decisions.of(space(scheduler=name, sampler="random", trials=6))
    searched(decisions, failing=tuple(range(6)))
    assert len(decisions.history.trials) == 6


def test_defaults_follow_from_the_size_of_the_budget() -> None:
    assert (space().sampler, space().scheduler) == ("screening", "racing")
    assert space(trials=3).scheduler == "none"
    assert space(deterministic=False).scheduler == "halving"
    assert replace(space(), costs=("training_gib",)).sampler == "tpe"
    with pytest.raises(ValueError, match="racing decides in rounds"):
        space(deterministic=False, scheduler="racing")


def history(*objectives: list[float], steps: int = 100) -> History:
    """Return a history of scores by trial and event."""
    made = History()
    for trial, values in enumerate(objectives):
        made.start(FIRST, steps)
        scores = {"MIP": dict(enumerate(values))}
        made.record(trial, steps, Measurement(float(np.mean(values)), scores))
    return made


def test_racing_drops_only_what_the_paired_difference_drops() -> None:
    """Trial 2 is worse than trial 1 in every event; trial 3 is worse by chance."""
    made = history([0.5, 0.6, 0.7], [0.6, 0.7, 0.8], [0.5, 0.61, 0.69], [0.8, 0.5, 0.75])
    racing = Racing((100, 300), 3.0, 4)
    assert racing.leader(made) == 1
    assert racing.dropped(made) == {2}


def test_a_waiting_trial_goes_on_when_one_that_passed_turns_out_worse() -> None:
    random = np.random.default_rng(0)
    events = random.normal(0.5, 0.1, 30)

    def scores(gain: float) -> list[float]:
        return list(events + gain + random.normal(0, 0.02, 30))

    gains = [0.0, 0.02, 0.021, 0.018, -0.1]
    made = history(*(scores(gain) for gain in gains))
    racing = Racing((100, 300, 900), 3.0, 5)
    (first,) = [racing.next(made, 2)]
    assert first.continued.keys() == {0, 1, 2} or first.continued.keys() == {0, 1, 3}
    (waiting,) = {1, 2, 3} - first.continued.keys()
    for trial, gain in zip(first.continued, (0.0, 0.03, -0.05), strict=True):
        made.trials[trial].until = 300
        values = dict(enumerate(scores(gain)))
        made.record(trial, 300, Measurement(0.5 + gain, {"MIP": values}))
    assert racing.next(made, 2).continued == {0: 300} | {waiting: 300} or racing.next(
        made, 2
    ).continued == {waiting: 300}


def test_rungs_are_at_validations_and_end_at_the_end() -> None:
    assert rungs(100, 900, 3.0, 100) == (100, 300, 900)
    assert rungs(100, 1000, 3.0, 250) == (250, 500, 1000)
    assert rungs(2000, 1000, 3.0, 250) == (1000,)


@pytest.mark.parametrize("runs", FIRST_ROWS)
def test_a_design_is_balanced_and_orthogonal(runs: int) -> None:
    table = plackett_burman(runs)
    assert table.shape == (runs, runs - 1)
    assert (table.T @ table == runs * np.eye(runs - 1)).all()
    assert (table.sum(axis=0) == 0).all()


def test_a_design_for_eight_settings_has_twelve_runs() -> None:
    rng = np.random.default_rng(0)
    table = design(8, 50, rng)
    assert (table.T @ table == 12 * np.eye(8)).all()
    assert design(8, 5, rng).shape == (5, 8)


def test_two_factors_by_hand() -> None:
    """Scores 0 1 / 2 5: means 0.5 and 3.5; of the residuals ±0.5 the variance over 2 events."""
    made = history([0.0, 1.0], [2.0, 5.0])
    comparison = together(made.at(100))
    assert comparison.values == pytest.approx([-1.5, 1.5])
    assert comparison.variances == pytest.approx([0.25, 0.25])  # 2 · 0.5² / (2 - 1) / 2


def test_the_additive_model_measures_effects_with_their_errors() -> None:
    """Over 40 searches the pulls (measured - true) / error have width 1."""
    pulls = []
    for seed in range(40):
        asked = replace(space(), conditions={}, fixed={**FIXED, "seed": seed})
        decisions = Decisions.of(asked)
        decisions.next(2)
        made = decisions.history
        for trial, of_trial in enumerate(made.trials):
            point = FIRST | of_trial.settings
            made.record(trial, 100, measured(point, trial, 100, seed))
        comparison = together(made.at(100))
        points = [made.trials[trial].settings for trial in comparison.trials]
        model = AdditiveModel(asked, points, comparison)
        (found,) = [effect for effect in model.effects() if effect.setting == RATE]
        true = worth({**FIRST, RATE: found.high}) - worth({**FIRST, RATE: found.low})
        pulls.append((found.change - true) / found.error)
        assert found.error < 0.02
    assert np.std(pulls) == pytest.approx(1, abs=0.35)
    assert abs(np.mean(pulls)) < 0.6, "the prior draws effects to zero a little"


def test_results_of_an_earlier_study_count_as_far_as_the_present_ones_agree() -> None:
    """Six trials: those of the same landscape lower the errors, of the opposite hardly count."""
    changes, errors = [], []
    asked = replace(space(), conditions={})
    for sign in (0, 1, -1):
        decisions = Decisions.of(asked)
        decisions.next(2)
        made = decisions.history
        rows = []
        for trial, of_trial in enumerate(made.trials):
            point = FIRST | of_trial.settings
            if trial < 6:
                made.record(trial, 100, measured(point, trial, 100, 0))
            rows.append((point, sign * worth(point)))
        middle = float(np.mean([value for _, value in rows]))
        trials = [
            EarlierTrial(settings=point, value=value - middle, variance=1e-6)
            for point, value in rows
        ]
        earlier = EarlierResults(study="earlier", step=100, trials=trials) if sign else None
        model = fitted(replace(asked, earlier=earlier), made)
        assert model is not None
        (found,) = [effect for effect in model.effects() if effect.setting == RATE]
        changes.append(found.change)
        errors.append(found.error)
    true = worth({**FIRST, RATE: found.high}) - worth({**FIRST, RATE: found.low})
    alone, same, opposite = changes
    assert errors[1] < 0.8 * errors[0]
    assert abs(same - true) < 2 * errors[1]
    assert abs(opposite - alone) < errors[0]
    assert errors[2] < errors[0], "they do not pass for a scatter of the present results"


def test_the_results_of_an_earlier_study_take_the_place_of_the_design() -> None:
    """A search after them begins with proposals of the model, also of its first round."""
    rows = [
        EarlierTrial(settings={**FIRST, RATE: rate}, value=value, variance=1e-6)
        for rate, value in ((5e-4, -0.1), (1e-3, 0.0), (2e-3, 0.1))
    ]
    asked = replace(space(), conditions={}, starts=())
    asked = replace(asked, earlier=EarlierResults(study="earlier", step=100, trials=rows))
    decisions = Decisions.of(asked)
    assert [trial for trial, _ in decisions.next(2)] == [0, 1]
    assert decisions.history.trials[1].settings[RATE] > FIRST[RATE]
    without = Decisions.of(replace(asked, earlier=None))
    assert len(without.next(2)) > 2, "the design starts at once"


def test_the_default_prior_is_half_way_to_the_bounds() -> None:
    plain = replace(space(), priors={})
    prior = prior_of(plain, RATE)
    assert (prior.low, prior.high) == (pytest.approx(10**-3.5), pytest.approx(10**-2.5))
    assert prior_of(plain, FILTERS) == Prior(4, 12)
    assert prior_of(plain, MASK) == Prior("bce", "focal")


def test_make_tune_tries_twelve_points_and_each_seed_others() -> None:
    """The budget of `make tune`, with results that are all the same."""
    points = []
    for seed in (0, 1):
        asked = read_space(find_space("clustering"), "laptop", {"seed": seed})
        decisions = Decisions.of(asked)
        steps = 0
        while work := decisions.next(2):
            for trial, until in work:
                steps += until - decisions.history.trials[trial].step
                decisions.record(trial, until, Measurement(0.5))
        points.append([trial.settings for trial in decisions.history.trials])
        assert steps == decisions.scheduler.planned_steps == 9300
    assert [len(one) for one in points] == [12, 12]
    assert points[0][0] == points[1][0]
    assert sum(one in points[1] for one in points[0]) < 4
