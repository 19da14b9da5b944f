"""Ray Tune's side of a search, driven without Ray: starts, pauses, ends, failures, the journal."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from conftest import TINY
from optuna import load_study
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from processes import free_port
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.event_scores import write_scores
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.journal import JOURNAL, TRIAL_INDEX, Journal
from lartpc_ray.tune.ray_search import (
    AFTER,
    FAILURE,
    UNTIL,
    NewTrials,
    PausesAtRungs,
    WorkQueue,
    split_trial_index,
    training_part,
)
from lartpc_ray.tune.sampled import SAMPLED, SampledSettings, trial_folder

DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")
RATE = "optimizer.learning_rate"


def space(**budget: Any) -> Space:
    values = {"trials": 6, "steps": 90, "min_steps": 10, "sampler": "random", **budget}
    return Space(
        name="made-up",
        fixed={"task.name": "clustering", "optimizer.steps": 90, "optimizer.evaluate_every": 5},
        search={RATE: FloatDistribution(1e-4, 1e-2, log=True)},
        first={RATE: 1e-3},
        budget=Budget(**values),
        budget_name="laptop",
        overrides={},
    )


class Controller:
    """Do what Tune's controller does with a searcher and a scheduler; trials report at once.

    Args:
        folder: of the study.
        asked: the space.
        at_once: trials that train at a time.
        failing: trials that fail.
        latest_first: whether the latest started trial reports first.
    """

    def __init__(
        self,
        folder: Path,
        asked: Space,
        at_once: int = 2,
        failing: tuple[int, ...] = (),
        latest_first: bool = False,
    ) -> None:
        self.decisions = Decisions.of(asked, SampledSettings(folder, "clustering"))
        rounds = asked.budget.deterministic
        journal = Journal(folder, asked)
        self.queue = WorkQueue(
            self.decisions, journal, folder, slots=2, at_once=at_once, rounds=rounds
        )
        self.searcher, self.scheduler = NewTrials(self.queue), PausesAtRungs(self.queue)
        self.trials: list[Any] = []
        self.most = 0
        self.log: list[tuple[int, int, int | None]] = []
        self._failing = failing
        self._last = -1 if latest_first else 0

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.searcher.on_trial_complete(trial.trial_id)
        trial.status = TuneTrial.TERMINATED

    def run(self, reports: int = 1000) -> None:
        """Run the search, or so many reports of it."""
        while reports > 0:
            config = self.searcher.suggest(f"t{len(self.trials)}")
            if isinstance(config, dict):
                self._add(config)
            if (chosen := self.scheduler.choose_trial_to_run(self)) is not None:
                chosen.status = TuneTrial.RUNNING
                self.log.append((split_trial_index(chosen.config)[0], *self._part(chosen)))
            running = [one for one in self.trials if one.status == TuneTrial.RUNNING]
            self.most = max(self.most, len(running))
            if config is None and chosen is None and running:
                self._report(running[self._last])
                reports -= 1
            if config == Searcher.FINISHED and all(one.is_finished() for one in self.trials):
                return

    def _add(self, config: dict[str, Any]) -> None:
        trial = SimpleNamespace(config=config, status=TuneTrial.PENDING, max_failures=2)
        trial.trial_id = f"t{len(self.trials)}"
        trial.set_config = lambda new: vars(trial).update(config=new)
        trial.is_finished = lambda: trial.status in (TuneTrial.TERMINATED, TuneTrial.ERROR)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)  # type: ignore[arg-type]

    def _part(self, trial: Any) -> tuple[int, int | None]:
        return trial.config[AFTER], trial.config[UNTIL]

    def _report(self, trial: Any) -> None:
        """Report all validations of a trial's part, then pause, complete or fail it."""
        number, settings = split_trial_index(trial.config)
        part = training_part(trial.config)
        if number in self._failing:
            self.scheduler.on_trial_result(self, trial, {FAILURE: "NaN", "step": 0})
            trial.status = TuneTrial.ERROR
            self.searcher.on_trial_complete(trial.trial_id, error=True)
            return
        history = [{"step": float(step)} for step in range(5, 91, 5)]
        for numbers in part.reports(history):
            result = {"step": numbers["step"], "objective": settings[RATE]}
            if self.scheduler.on_trial_result(self, trial, result) == TrialScheduler.PAUSE:
                trial.status = TuneTrial.PAUSED
                return
        trial.status = TuneTrial.TERMINATED
        self.searcher.on_trial_complete(trial.trial_id, result)


def assignments(asked: Space) -> list[tuple[int, int]]:
    """Return the assignments of the decisions alone."""
    from lartpc_ray.tune.history import Measurement

    decisions, found = Decisions.of(asked), []
    while work := decisions.next(2):
        found += work
        for number, until in work:
            objective = decisions.history.trials[number].settings[RATE]
            decisions.record(number, until, Measurement(objective))
    return found


@pytest.mark.parametrize("scheduler", ["racing", "halving", "none"])
def test_tune_runs_what_the_decisions_say(tmp_path: Path, scheduler: str) -> None:
    """Each trial goes on after the step that it reported last; the last part has no end."""
    asked = space(scheduler=scheduler)
    ran = Controller(tmp_path, asked)
    ran.run()
    assert [(number, until or 90) for number, _, until in ran.log] == assignments(asked)
    reached = dict.fromkeys(range(6), 0)
    for number, after, until in ran.log:
        assert after == reached[number]
        reached[number] = until or 90
    assert ran.most == 2
    assert all(trial.status == TuneTrial.TERMINATED for trial in ran.trials)
    kept = [json.loads((trial_folder(tmp_path, n) / SAMPLED).read_text()) for n in range(6)]
    assert kept == [trial.settings for trial in ran.decisions.history.trials]


@pytest.mark.parametrize("scheduler", ["racing", "halving"])
def test_in_rounds_the_order_of_reports_has_no_effect(tmp_path: Path, scheduler: str) -> None:
    asked = space(scheduler=scheduler)
    some = Controller(tmp_path / "some", asked, at_once=1)
    other = Controller(tmp_path / "other", asked, at_once=4, latest_first=True)
    some.run()
    other.run()
    assert some.most == 1
    assert sorted(some.log, key=str) == sorted(other.log, key=str)


@pytest.mark.parametrize("reports", [1, 3, 5, 8, 11])
def test_a_killed_search_resumes_to_the_same_assignments(tmp_path: Path, reports: int) -> None:
    asked = space()
    whole = Controller(tmp_path / "whole", asked)
    whole.run()
    Controller(tmp_path / "cut", asked).run(reports)
    resumed = Controller(tmp_path / "cut", asked)
    resumed.run()
    assert resumed.log == whole.log


def test_started_trials_keep_their_settings_whatever_the_sampler_proposes(tmp_path: Path) -> None:
    Controller(tmp_path, space()).run(4)
    other = replace(space(), fixed={**space().fixed, "seed": 7})
    resumed = Controller(tmp_path, other)
    resumed.run()
    fresh = Controller(tmp_path / "fresh", space())
    fresh.run()
    settings = [
        [trial.settings for trial in one.decisions.history.trials] for one in (resumed, fresh)
    ]
    assert settings[0][:2] == settings[1][:2]


def test_without_rounds_a_free_slot_takes_work_at_once(tmp_path: Path) -> None:
    ran = Controller(tmp_path, space(deterministic=False, trials=8), latest_first=True)
    ran.run()
    assert ran.most == 2
    assert len(ran.trials) == 8
    assert ran.decisions.history.trials[0].step == 90, "the default reaches the end"


def test_a_failed_trial_is_not_tried_again_and_the_search_goes_on(tmp_path: Path) -> None:
    ran = Controller(tmp_path, space(), failing=(0, 3))
    ran.run()
    assert [number for number, trial in enumerate(ran.trials) if not trial.max_failures] == [0, 3]
    failed = [trial.failed for trial in ran.decisions.history.trials]
    assert failed == [True, False, False, True, False, False]
    states = [trial.state for trial in journal(tmp_path)]
    assert [states[0], states[3]] == [TrialState.FAIL] * 2
    assert states.count(TrialState.COMPLETE) >= 1


def test_a_trial_that_lost_its_process_while_it_paused_pauses_again(tmp_path: Path) -> None:
    ran = Controller(tmp_path, space())
    config = ran.searcher.suggest("t0")
    assert isinstance(config, dict)
    result = {"step": 10, "objective": 0.5}
    assert ran.queue.report(config, {"step": 5, "objective": 0.4}) is False
    assert ran.queue.report(config, result) is True
    assert ran.queue.report(config, result) is True
    ran.decisions.history.trials[0].until = 30
    assert ran.queue.report(config, result) is True, "its process was started for the first rung"
    assert list(ran.decisions.history.trials[0].results) == [10]


def test_the_scores_of_the_events_decide(tmp_path: Path) -> None:
    ran = Controller(tmp_path, space())
    config = ran.searcher.suggest("t0")
    assert isinstance(config, dict)
    write_scores(trial_folder(tmp_path, 0), 10, {"MIP": {0: 0.25, 2: 0.75}})
    ran.queue.report(config, {"step": 10, "objective": 0.5})
    scores = ran.decisions.history.trials[0].results[10].scores
    assert scores == {"MIP": {0: 0.25, 2: 0.75}}


def journal(folder: Path) -> list[FrozenTrial]:
    """Return the trials as another program reads them."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return load_study(study_name=folder.name, storage=storage).trials


def test_the_journal_has_each_trial_once_also_of_a_search_that_was_killed(tmp_path: Path) -> None:
    Controller(tmp_path, space()).run(4)
    states = {trial.state for trial in journal(tmp_path)}
    assert states == {TrialState.RUNNING}
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"op_code": 4, "wor')  # the driver is killed while it writes
    (tmp_path / f"{JOURNAL}.lock").symlink_to(tmp_path / JOURNAL)
    resumed = Controller(tmp_path, space())
    resumed.run()
    trials, history = journal(tmp_path), resumed.decisions.history.trials
    assert [trial.user_attrs[TRIAL_INDEX] for trial in trials] == list(range(6))
    assert [trial.params for trial in trials] == [trial.settings for trial in history]
    for trial, of_trial in zip(trials, history, strict=True):
        complete = of_trial.step == 90
        assert trial.state == (TrialState.COMPLETE if complete else TrialState.PRUNED)
        assert trial.value == of_trial.last.objective
        assert max(trial.intermediate_values) == of_trial.step


def test_the_journal_of_a_search_with_costs_has_its_costs(tmp_path: Path) -> None:
    book = Journal(tmp_path / "costly", replace(space(), costs=("training_gib",)))
    for number in range(2):
        book.start(number, {RATE: 1e-3})
        book.report(number, 10, 0.5)
    book.end(0, [0.5, 2.0], TrialState.COMPLETE)
    book.end(1, None, TrialState.PRUNED)
    complete, pruned = journal(tmp_path / "costly")
    assert complete.values == [0.5, 2.0]
    assert pruned.state == TrialState.PRUNED


def test_damaged_settings_of_a_trial_come_back_from_its_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a trial without a checkpoint they are sampled again."""
    trial = make_trial(TINY | {RATE: 0.125})
    folder = trial_folder(tmp_path, 0)
    folder.mkdir(parents=True)
    file = folder / SAMPLED
    settings = SampledSettings(tmp_path, "clustering")
    file.write_text('{"optimizer.lear')
    assert settings(0, {RATE: 0.5}) == {RATE: 0.5}
    assert "sampled.json: truncated or not JSON" in caplog.text
    assert json.loads(file.read_text()) == {RATE: 0.5}
    file.write_text('{"optimizer.lear')
    network = trial.make_network().state_dict()
    checkpoints.add(folder, Checkpoint(trial, 2, network, {}, [{"objective": 0.5}]))
    assert settings(0, {RATE: 0.5}) == {RATE: 0.125}
    assert json.loads(file.read_text()) == {RATE: 0.125}


@pytest.mark.slow
@pytest.mark.skipif(not DASHBOARD.is_file(), reason="no optuna-dashboard here")
def test_optuna_dashboard_shows_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "a study"
    ran = Controller(folder, space(scheduler="none", trials=3))
    ran.run()
    port = free_port()
    command = [str(DASHBOARD), str(folder / JOURNAL), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                (study,) = asked_of(port, "studies")["study_summaries"]
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert study["study_name"] == "a study"
        trials = asked_of(port, f"studies/{study['study_id']}?after=0")["trials"]
        objectives = [[trial.last.objective] for trial in ran.decisions.history.trials]
        assert [trial["values"] for trial in trials] == objectives
    finally:
        server.terminate()
        server.wait(60)


def asked_of(port: int, path: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
