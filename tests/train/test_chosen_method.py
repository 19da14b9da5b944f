"""A training uses the reconstruction of highest held-out score, unless one is named."""

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from lartpc_ray.networks import joining
from lartpc_ray.predict.evaluate import THIS
from lartpc_ray.terminal.command import run
from lartpc_ray.train import __main__ as command
from lartpc_ray.train import training
from lartpc_ray.train.loop import train
from lartpc_ray.train.training import TrainPlan, train_trial
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.slow
@pytest.mark.parametrize("choose", [True, False])
def test_the_run_has_the_method_that_the_plan_says(
    tmp_path: Path, choose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MOST_STEPS", 20)
    trial = make_trial({**TINY, "task.min_voxels": 2, "task.joining_events": 4})
    folder = tmp_path / "runs" / "one"
    train(trial, folder / training.CHECKPOINTS, lambda numbers: None)
    plan = TrainPlan(study="one", uri=None, choose_method=choose, trial=trial)
    _, result = training._record(plan, folder, training._store(folder, plan))
    best = max(result.held_out, key=result.held_out.__getitem__)
    assert best != "seeds"
    assert next(iter(result.means)) == f"{THIS}, {best if choose else 'seeds'}"


class _Begun(Exception):
    pass


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[TrainPlan]:
    """Collect the plans of trainings, which end there."""
    made: list[TrainPlan] = []

    def begin(folder: Path, plan: TrainPlan, *rest: Any, **more: Any) -> None:
        made.append(plan)
        raise _Begun

    monkeypatch.setattr(training, "_train_and_record", begin)
    return made


def test_a_named_method_is_kept(plans: list[TrainPlan], few_events: Path, tmp_path: Path) -> None:
    settings = ["--budget", "smoke", "--data", str(few_events), "--runs", str(tmp_path)]
    for more in ([], ["--set", "task.method=seeds"]):
        run(command.parser(), command.main, ["smoke", *settings, *more])
    for task in ({}, {"method": "seeds"}):
        trial = Trial.model_validate({"task": {"name": "clustering", **task}})
        with pytest.raises(_Begun):
            train_trial(trial.with_events(str(few_events)), runs=tmp_path)
    assert [plan.choose_method for plan in plans] == [True, False, True, False]
