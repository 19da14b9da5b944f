"""A budget of minutes: the size of the search follows from the speed, and stands in the plan."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from searches import finished, tune

from lartpc_ray.runtime.run_folder import copy_of
from lartpc_ray.train import timed as train_timed
from lartpc_ray.train.speed import Speed
from lartpc_ray.train.timed import overhead, timed_trial
from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.size import StudySize, with_minutes
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import __main__ as command
from lartpc_ray.tune import timed
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.search import search
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.study_plan import PLAN
from lartpc_ray.tune.timed import fitting_size, search_seconds, timed_search

FILTERS = "network.filters"
FAST = Speed(
    50, seconds_per_step=0.01, voxels_per_second=1e5, seconds_per_validation=1.0, seconds_to_fit=0.0
)
SLOW = replace(FAST, seconds_per_step=0.1)


def space(**changes: Any) -> Space:
    """Return a search of 12 trials, raced at 500, 1500 and 3000 steps."""
    made = Space(
        name="made-up",
        fixed={
            "task.name": "clustering",
            "optimizer.steps": 3000,
            "optimizer.evaluate_every": 500,
        },
        search={FILTERS: IntDistribution(4, 128)},
        first={FILTERS: 8},
        budget=Budget(trials=12, steps=3000, min_steps=500, concurrent=2, minutes=20),
        budget_name="laptop",
        overrides={},
    )
    return replace(made, **changes)


def spare(size: StudySize, speed: Speed, seconds: float, made: Space | None = None) -> float:
    return seconds - search_seconds(size.applied(made or space()), speed, 2)


def test_the_time_of_a_search_is_that_of_the_groups_of_each_rung() -> None:
    """Six pairs to step 500, then five, then three trials: 6 · 51, 3 · 102 and 2 · 153 s."""
    planned = Decisions.of(space()).scheduler.planned_seconds
    assert [Decisions.of(space()).scheduler.passing(level) for level in (1, 2)] == [5, 3]
    assert planned(0.1, 1.0, 500, 2) == pytest.approx(6 * 51 + 3 * 102 + 2 * 153)
    assert planned(0.1, 1.0, 500, 2, per_part=2) == pytest.approx(6 * 53 + 3 * 104 + 2 * 155)
    alone = space(budget=space().budget.model_copy(update={"scheduler": "none"}))
    whole = Decisions.of(alone).scheduler.planned_seconds(0.1, 1.0, 500, 2, per_part=2)
    assert whole == pytest.approx(6 * 308), "no trial waits at a rung"
    assert planned(0.1, 0.0, 500, 1) == pytest.approx(
        0.1 * Decisions.of(space()).scheduler.planned_steps
    )


def test_the_fit_at_the_end_takes_its_time() -> None:
    fits = replace(FAST, seconds_to_fit=15.0)
    assert overhead(fits) == pytest.approx(overhead(FAST) + 15), "of the untrained network"
    assert search_seconds(space(), fits, 2) == pytest.approx(
        search_seconds(space(), FAST, 2) + 15 + 2 * 15
    ), "three trials in two groups reach the last step"


def test_a_short_time_makes_the_trials_shorter_in_the_same_ratio() -> None:
    size = fitting_size(space(), SLOW, 2, 500)
    assert size.trials == 12
    assert 500 < size.steps < 3000
    assert size.min_steps == pytest.approx(size.steps / 6, abs=1)
    assert size.evaluate_every == size.min_steps
    assert 0 <= spare(size, SLOW, 500) < 2, "one step more of all trials does not fit"


def test_a_shorter_time_drops_trials_but_not_the_default_and_one_other() -> None:
    size = fitting_size(space(), SLOW, 2, 150)
    assert (size.steps, size.min_steps) == (500, 84)
    assert 2 <= size.trials < 12
    more = size.model_copy(update={"trials": size.trials + 1})
    assert spare(size, SLOW, 150) >= 0 > spare(more, SLOW, 150)
    pair = fitting_size(space(), SLOW, 2, overhead(SLOW) + 58)
    assert (pair.trials, pair.steps) == (2, 500)


def test_a_time_that_is_too_short_for_two_trials_is_one_line() -> None:
    with pytest.raises(ValueError, match="minutes: 20: 2 trials of 500 steps take") as error:
        fitting_size(space(), SLOW, 2, 60)
    assert "give --minutes 3, or" in str(error.value)
    assert "\n" not in str(error.value)
    enough = fitting_size(space(), SLOW, 2, 3 * 60)
    assert enough.steps == 500


def test_a_long_time_makes_the_trials_longer_in_the_same_ratio() -> None:
    """Longer trainings gain more than further trials."""
    size = fitting_size(space(), FAST, 2, 600)
    assert size.trials == 12
    assert size.steps > 6000
    assert size.min_steps == size.evaluate_every == pytest.approx(size.steps / 6, abs=1)
    assert 0 <= spare(size, FAST, 600) < 2, "one step more of all trials does not fit"


def test_a_long_time_adds_trials_where_the_steps_are_fixed() -> None:
    made = space(overrides={"optimizer.steps": 3000})
    size = fitting_size(made, FAST, 2, 600)
    assert (size.steps, size.min_steps, size.evaluate_every) == (3000, 500, 500)
    assert size.trials > 12
    more = size.model_copy(update={"trials": size.trials + 1})
    assert spare(size, FAST, 600, made) >= 0 > spare(more, FAST, 600, made)


def test_a_long_time_adds_no_trials_beyond_the_points_of_the_space() -> None:
    few = {FILTERS: IntDistribution(4, 23)}
    made = space(overrides={"optimizer.steps": 3000}, search=few)
    assert fitting_size(made, FAST, 2, 600).trials == 20


def test_the_planned_steps_scale_with_the_minutes() -> None:
    """The part that trains of twice the time has twice the steps, to the group of a rung."""

    def steps(seconds: float) -> int:
        still = replace(SLOW, seconds_per_validation=0.0)
        size = fitting_size(space(), still, 2, overhead(still) + seconds)
        return Decisions.of(size.applied(space())).scheduler.planned_steps

    found = [steps(seconds) for seconds in (150, 300, 600, 1200, 2400)]
    assert found == sorted(found)
    ratios = [later / earlier for earlier, later in pairwise(found)]
    assert ratios == pytest.approx([2] * 4, rel=0.2)


@pytest.mark.parametrize(
    ("fixed", "same"),
    [
        ({"optimizer.steps": 900}, "steps"),
        ({"optimizer.evaluate_every": 100}, "evaluate_every"),
    ],
)
def test_what_the_command_line_fixes_stays(fixed: dict[str, int], same: str) -> None:
    made = space(fixed={**space().fixed, **fixed}, overrides=fixed)
    for seconds in (150, 300):
        size = fitting_size(made, replace(SLOW, seconds_per_validation=0.1), 2, seconds)
        assert getattr(size, same) in fixed.values()
        assert spare(size, SLOW, seconds + 60, made) > 0


def test_a_grid_keeps_its_points() -> None:
    choice = {FILTERS: CategoricalDistribution([4, 8, 12])}
    points = tuple({FILTERS: value} for value in (8, 4, 12))
    grid = space(search=choice, points=points)
    assert fitting_size(grid, FAST, 2, 6000).trials == 3
    assert fitting_size(grid, FAST, 2, 6000).steps > 3000
    assert fitting_size(grid, SLOW, 2, 300).trials == 3
    with pytest.raises(ValueError, match="3 trials of 500 steps"):
        fitting_size(grid, SLOW, 2, 120)


def test_a_budget_may_have_minutes_alone() -> None:
    def size(**values: int) -> tuple[int, int, int]:
        budget = Budget.model_validate(values)
        return budget.trials, budget.steps, budget.min_steps

    assert size(minutes=20) == (12, 3000, 500)
    assert size(minutes=20, steps=60) == (12, 60, 10)
    assert size(minutes=20, steps=60, trials=3, min_steps=20) == (3, 60, 20)
    with pytest.raises(ValueError, match="trials"):
        size(steps=60, min_steps=20)


@pytest.mark.parametrize("minutes", [0, -1.5, float("nan"), float("inf")])
def test_minutes_are_above_zero(minutes: float) -> None:
    with pytest.raises(ValueError, match=f"minutes: {minutes:g}: give a number above 0"):
        with_minutes(space(), minutes)
    assert with_minutes(space(), None) == space()


def test_minutes_beyond_a_year_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"minutes: 1e\+12: give at most 525600, a year"):
        with_minutes(space(), 1e12)
    with pytest.raises(ValueError, match="less than or equal to 525600"):
        Budget.model_validate({"minutes": 1e12})


def test_python_refuses_the_sizes_that_the_command_refuses(
    few_events: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(train_timed, "measured_speed", lambda *_: SLOW)
    monkeypatch.setattr(timed, "_mean_speed", lambda _space, speed: speed)
    made = smoke(few_events, 0.8)
    starts = tuple({**made.first, "optimizer.learning_rate": rate} for rate in (2e-3, 4e-3, 8e-3))
    made = replace(
        made, starts=starts, budget=made.budget.model_copy(update={"trials": len(starts) + 1})
    )
    with pytest.raises(ValueError, match=r"first: 4 trials to begin with, and \d fit into"):
        search(made, runs=tmp_path)
    with pytest.raises(ValueError, match="concurrent 0: at least 1"):
        search(made, runs=tmp_path, concurrent=0)
    assert not list(tmp_path.iterdir())


def smoke(events: Path, minutes: float) -> Space:
    made = read_space(find_space("smoke"), "smoke", {"data.splits.path": str(events)})
    return with_minutes(made, minutes)


def test_the_measured_speed_the_size_and_the_end_are_one_line(
    few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_timed, "STEPS", 2)
    monkeypatch.setattr(timed, "OTHER_STEPS", 1)
    found = timed_search(smoke(few_events, 10))
    assert found is not None
    assert found.seconds <= 600
    line = found.line()
    size = StudySize.of(found.space)
    assert re.fullmatch(
        r"10 minutes: measured [\d.e+]+ steps per s and [\d.]+ s per validation; "
        rf"{size.trials} trials of {size.steps} steps( \(first rung {size.min_steps}\))?, "
        r"1 at a time; expected end \d\d:\d\d, in \d+ (s|min)",
        line,
    )
    assert timed_search(replace(found.space, budget=Budget(trials=2, steps=2, min_steps=1))) is None


def test_a_point_that_cannot_train_ends_no_measurement(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the search it is a trial that fails."""
    asked: list[dict[str, Any]] = []

    def seconds(made: Space, point: dict[str, Any]) -> float:
        asked.append(point)
        if len(asked) == 2:
            raise FloatingPointError("step 2: the loss is nan")
        return float(len(asked))

    monkeypatch.setattr(timed, "_seconds_per_voxel", seconds)
    found = timed._mean_speed(space(), FAST)
    assert found.seconds_per_step == pytest.approx(FAST.seconds_per_step * (1 + 3 + 4) / 3)
    assert "the speed of a trial is not measured: step 2: the loss is nan" in caplog.text
    asked[:] = [{}]
    with pytest.raises(FloatingPointError):
        timed._mean_speed(space(), FAST)


def test_a_study_keeps_its_size_and_measures_no_more(
    few_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_timed, "measured_speed", lambda *_: FAST)
    monkeypatch.setattr(timed, "_mean_speed", lambda _space, speed: speed)
    found = timed_search(smoke(few_events, 1.2))
    assert found is not None
    size = StudySize.of(found.space)
    assert size.steps > 20
    study = Study.create(tmp_path, found.space, None, {"minutes": 1.2})
    plan = json.loads((study.folder / PLAN).read_text())
    assert plan["size"] == size.model_dump()
    monkeypatch.setattr(train_timed, "measured_speed", lambda *_: 1 / 0)
    resume = ["smoke", "--resume", str(study.folder)]
    options = command.parser().parse_args(resume)
    again = Study.reopen(options)
    assert StudySize.of(again.space) == size
    assert again.space.fixed == found.space.fixed
    assert again.space.budget.minutes == 1.2
    edited = json.dumps(plan | {"options": {"minutes": "1.2"}})
    (study.folder / PLAN).write_text(edited)
    assert StudySize.of(Study.reopen(options).space) == size, "minutes of a wrong type: the size"
    (study.folder / PLAN).write_text(json.dumps(plan))
    new = Study.reopen(command.parser().parse_args([*resume, "--accept-data"]))
    assert new.folder != study.folder
    options = command.parser().parse_args(["smoke", "--resume", str(new.folder)])
    assert StudySize.of(Study.reopen(options).space) == size, "the new study keeps it, too"
    for path in (study.folder / PLAN, copy_of(study.folder / PLAN)):
        path.write_text("{")
    damaged = ["smoke", "--resume", str(study.folder), "--budget", "smoke", "--minutes", "1.2"]
    with pytest.raises(ValueError, match=r"fit into 1\.2 minutes: begin a new search"):
        Study.reopen(command.parser().parse_args(damaged))
    path = study.folder / PLAN
    path.write_text(json.dumps(plan))
    other = ["smoke", "--resume", str(study.folder), "--minutes", "3"]
    with pytest.raises(ValueError, match=r"--minutes 3.0: a resumed run keeps its settings"):
        Study.reopen(command.parser().parse_args(other))


def test_one_training_has_as_many_steps_as_fit(
    few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_timed, "measured_speed", lambda *_: SLOW)
    assert (
        timed_trial(
            replace(smoke(few_events, 1), budget=Budget(trials=2, steps=10, min_steps=5))
        ).optimizer.steps
        == 10
    )
    shorter, longer = (timed_trial(smoke(few_events, minutes)) for minutes in (1, 2))
    assert longer.optimizer.steps - shorter.optimizer.steps == pytest.approx(600, abs=2)
    assert shorter.optimizer.evaluate_every == pytest.approx(shorter.optimizer.steps / 2, abs=1)
    with pytest.raises(ValueError, match=r"minutes: 0\.1: no step fits"):
        timed_trial(smoke(few_events, 0.1))


@pytest.mark.parametrize("overrides", [{}, {"optimizer.evaluate_every": 20}])
def test_one_training_takes_the_minutes_with_the_validations_that_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, overrides: dict[str, Any]
) -> None:
    """With validations every 20 steps, 30 minutes took 53: those of 1,800 steps were counted.

    The network and the untrained one beside it fit their constants, 100 s each.
    """
    caplog.set_level("INFO")
    speed = replace(SLOW, seconds_per_validation=2.0, seconds_to_fit=100.0)
    monkeypatch.setattr(train_timed, "measured_speed", lambda *_: speed)
    made = with_minutes(read_space(find_space("clustering"), "laptop", overrides), 30)
    trained = timed_trial(made).optimizer
    validations = -(-trained.steps // trained.evaluate_every)
    seconds = overhead(speed) + 100 + trained.steps * 0.1 + validations * 2
    assert seconds == pytest.approx(30 * 60, abs=3)
    assert "in 30 min" in caplog.text
    assert trained.evaluate_every == overrides.get(
        "optimizer.evaluate_every", -(-trained.steps // 6)
    )


def test_absent_gpus_cannot_be_measured(few_events: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = smoke(few_events, 1)
    made = replace(made, fixed={**made.fixed, "resources.gpus": 1.0})
    with pytest.raises(ValueError, match="minutes: 1: the speed cannot be measured here"):
        timed_search(made)


@pytest.mark.slow
def test_a_search_of_a_minute_trains_what_it_has_planned(tmp_path: Path, few_events: Path) -> None:
    more = ("--data", str(few_events), "--json")
    status, out, err = finished(tune(tmp_path, "--minutes", "1", *more))
    assert status == 0, err
    said = re.search(r"1 minutes: measured .*; (\d+) trials of (\d+) steps", err)
    assert said, err
    (folder,) = tmp_path.glob("smoke-*")
    size = json.loads((folder / PLAN).read_text())["size"]
    assert [size["trials"], size["steps"]] == [int(number) for number in said.groups()]
    found = json.loads(out)
    assert (found["trials"], found["best"]["steps"]) == (size["trials"], size["steps"])
    assert len(list((folder / "trials").glob("*/sampled.json"))) == size["trials"]
