"""Halving's rule, and that a resumed search takes every decision as it was taken."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from optuna import Study, load_study
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from processes import free_port

from lartpc_ray.tune.halving import FAILURE, SuccessiveHalving
from lartpc_ray.tune.sampler import JOURNAL, TRIAL_INDEX, ReplayingOptunaSearch

DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")
STOP, GO = "STOP", "CONTINUE"
FIRST = [0.5, 0.4, 0.6, 0.55]


def test_halving_keeps_the_best_third_of_those_before(tmp_path: Path) -> None:
    rule = SuccessiveHalving(10, 3, None, tmp_path / "rungs.json")
    assert [rule.decide(n, 10, objective) for n, objective in enumerate(FIRST)] == [
        GO,
        STOP,
        GO,
        GO,
    ]
    assert rule.decide(0, 20, 0.1) == GO, "each rung is judged once"
    assert rule.decide(2, 30, 0.7) == GO
    assert rule.decide(0, 30, 0.6) == STOP, "the next rung is at 30 steps"


def test_before_the_first_rung_nothing_stops(tmp_path: Path) -> None:
    rule = SuccessiveHalving(10, 3, None, tmp_path / "rungs.json")
    assert [rule.decide(n, 9, -n) for n in range(5)] == [GO] * 5


def test_rungs_of_a_small_reduction_still_climb(tmp_path: Path) -> None:
    assert SuccessiveHalving(1, 1.5, None, tmp_path / "rungs.json").decide(0, 4, 0.5) == GO


def test_batches_make_the_order_of_arrival_meaningless(tmp_path: Path) -> None:
    objectives = {0: 0.5, 1: 0.4, 2: 0.45, 3: 0.6}

    def decisions(order: list[int]) -> dict[int, str]:
        rule = SuccessiveHalving(10, 3, 2, tmp_path / f"{order}.json")
        return {number: rule.decide(number, 10, objectives[number]) for number in order}

    assert decisions([0, 1, 2, 3]) == decisions([1, 0, 3, 2])
    assert decisions([0, 1, 2, 3]) == {0: GO, 1: GO, 2: STOP, 3: GO}


def test_a_resumed_search_remembers_objectives_and_decisions(tmp_path: Path) -> None:
    """The trials tell their objectives again, in another order; a new one is compared with all."""
    file = tmp_path / "rungs.json"
    rule = SuccessiveHalving(10, 3, None, file)
    before = {n: rule.decide(n, 10, objective) for n, objective in enumerate(FIRST)}
    again = SuccessiveHalving(10, 3, None, file)
    assert {n: again.decide(n, 10, FIRST[n]) for n in (3, 2, 1, 0)} == before
    assert again.decide(4, 10, 0.45) == STOP, "three of the four before it are better"
    assert SuccessiveHalving(10, 3, None, tmp_path / "none.json").decide(4, 10, 0.45) == GO


def test_a_trial_that_is_itself_at_fault_is_not_tried_again(tmp_path: Path) -> None:
    trial = SimpleNamespace(config={TRIAL_INDEX: 3}, max_failures=2)
    rule = SuccessiveHalving(10, 3, None, tmp_path / "rungs.json")
    assert rule.on_trial_result(None, trial, {"step": 10, "objective": 0.4}) == GO
    assert trial.max_failures == 2
    assert rule.on_trial_result(None, trial, {FAILURE: "NaN", "step": 0}) == GO
    assert trial.max_failures == 0


def sampler(folder: Path) -> ReplayingOptunaSearch:
    return ReplayingOptunaSearch(
        folder,
        task="clustering",
        space={"a.b": FloatDistribution(0, 1)},
        metric="objective",
        mode="max",
        points_to_evaluate=[{"a.b": 0.25}],
        sampler=TPESampler(seed=1, n_startup_trials=2),
    )


def told(search: ReplayingOptunaSearch, objectives: list[float]) -> list[dict[str, Any]]:
    """Ask for a trial and tell its objective, one after the other."""
    found = []
    for number, objective in enumerate(objectives):
        found.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", {"objective": objective})
    return found


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_sampler_gives_started_trials_again_and_remembers_their_objectives(
    tmp_path: Path,
) -> None:
    objectives = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    whole = told(sampler(tmp_path / "whole"), objectives)
    assert whole[0] == {"a.b": 0.25, TRIAL_INDEX: 0}
    assert [one[TRIAL_INDEX] for one in whole] == list(range(6))
    told(sampler(tmp_path / "cut"), objectives[:4])
    assert told(sampler(tmp_path / "cut"), objectives) == whole
    other = [0.9, 0.8, 0.1, 0.0]  # as when trials end in another order
    mixed = sampler(tmp_path / "cut")
    assert told(mixed, other) == whole[:4], "the trials there are, whatever the sampler thinks"
    study: Study = vars(mixed)["_ot_study"]
    assert [trial.value for trial in study.trials if trial.value is not None] == other


def journal(folder: Path) -> list[FrozenTrial]:
    """Return the trials as another program reads them."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return load_study(study_name=folder.name, storage=storage).trials


def test_the_journal_has_each_trial_once_also_of_a_search_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    told(sampler(folder), [0.1, 0.2])
    running = sampler(folder)
    told(running, [0.1, 0.2])
    running.suggest("t2")
    assert [trial.state for trial in journal(folder)][2] == TrialState.RUNNING
    with (folder / JOURNAL).open("a") as file:
        file.write('{"op_code": 4, "wor')  # the driver is killed while it writes
    (folder / f"{JOURNAL}.lock").symlink_to(folder / JOURNAL)
    objectives = [0.1, 0.2, 0.3]
    resumed = sampler(folder)
    found = told(resumed, objectives)
    resumed.suggest("t3")
    resumed.on_trial_complete("t3", error=True)
    *good, failed = journal(folder)
    assert [trial.user_attrs[TRIAL_INDEX] for trial in good] == [0, 1, 2]
    assert [trial.params for trial in good] == [{"a.b": one["a.b"]} for one in found]
    assert [trial.value for trial in good] == objectives
    assert failed.state == TrialState.FAIL


@pytest.mark.slow
@pytest.mark.skipif(not DASHBOARD.is_file(), reason="no optuna-dashboard here")
def test_optuna_dashboard_shows_the_journal(tmp_path: Path) -> None:
    told(sampler(tmp_path / "a study"), [0.1, 0.2, 0.3])
    port = free_port()
    command = [str(DASHBOARD), str(tmp_path / "a study" / JOURNAL), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                (study,) = asked(port, "studies")["study_summaries"]
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert study["study_name"] == "a study"
        trials = asked(port, f"studies/{study['study_id']}?after=0")["trials"]
        assert [trial["values"] for trial in trials] == [[0.1], [0.2], [0.3]]
    finally:
        server.terminate()
        server.wait(60)


def asked(port: int, path: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
