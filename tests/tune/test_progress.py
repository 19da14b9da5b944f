"""What a search tells, and what Tune does with it."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune

from lartpc_ray.tracking.runs import ERROR, LONGEST_NOTE, Tracking
from lartpc_ray.train.resources import missing_now
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune import description
from lartpc_ray.tune.journal import TRIAL_INDEX
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.ray_search import AFTER, UNTIL


def test_on_a_terminal_tune_can_make_its_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the callbacks; a live table is a lock and a screen."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    space = read_space(find_space("smoke"), "laptop", {})
    tracking = Tracking(tmp_path, "smoke")
    progress = Progress(tmp_path / "a study", space, tracking, tracking.start("a study", {}))
    assert progress._screen._live is not None, "drawn"
    assert type(cloudpickle.loads(cloudpickle.dumps(progress))) is tune.Callback


def test_the_description_of_a_running_search_lists_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best comes first; a description follows another after `EVERY` seconds or more."""
    now = [0.0]
    monkeypatch.setattr(description, "time", SimpleNamespace(monotonic=lambda: now[0]))
    space = read_space(find_space("smoke"), "laptop", {})
    space = replace(space, budget=space.budget.model_copy(update={"trials": 4}))
    tracking = Tracking(tmp_path, "smoke")
    search = tracking.start("search", {"kind": "search"})
    tracking.describe(search, "budget laptop")
    (tmp_path / "a study").mkdir()
    progress = Progress(tmp_path / "a study", space, tracking, search)

    def trial(number: int) -> Any:
        settings = {"network.filters": 4, "optimizer.learning_rate": 2e-3}
        config = {**settings, TRIAL_INDEX: number, AFTER: 0, UNTIL: 20}
        return SimpleNamespace(config=config, error_file=None)

    def report(number: int, step: int, objective: float) -> None:
        result = {"step": step, "objective": objective, "loss": 1.0}
        progress.on_trial_result(0, [], trial(number), result)
        progress.on_step_end(0, [])

    def lines() -> list[str]:
        return tracking.run_info(search)["mlflow.note.content"].splitlines()

    for number in range(3):
        progress.on_trial_start(0, [], trial(number))
        progress.on_step_end(0, [])
    head = ["budget laptop", "", "1 of 4 trials started, best first:", "", "```"]
    assert lines()[:5] == head
    assert [line.split() for line in lines()[5:-1]] == [
        ["trial", "state", "step", "objective"], ["0", "running", "0", "-"],
    ]  # fmt: skip
    report(0, 10, 0.25)
    assert lines()[2].startswith("1 of "), "not yet"
    now[0] = description.EVERY
    report(1, 20, 0.5)
    assert lines()[2].startswith("3 of ")
    assert [line.split() for line in lines()[6:-1]] == [
        ["1", "paused", "20", "0.5"], ["0", "running", "10", "0.25"], ["2", "running", "0", "-"],
    ]  # fmt: skip
    progress.on_trial_error(0, [], trial(2))
    progress.interrupted()
    assert [line.split()[:2] for line in lines()[6:-1]] == [
        ["1", "interrupted"], ["0", "interrupted"], ["2", "failed"],
    ]  # fmt: skip


def test_a_long_search_has_a_description_that_mlflow_keeps_whole(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "long")
    shown = description.Description(tracking, tracking.start("search", {}), 1000)
    for number in range(1000):
        shown.change_state(number, "interrupted")
        shown.add_result(number, 100_000, number / 1000 + 1e-5)
    assert len(shown.text()) < LONGEST_NOTE
    assert shown.text().splitlines()[-2] == "and 900 more trials"


@pytest.mark.parametrize(
    ("address", "cpus", "line"),
    [
        ("", 1, ""),  # its own trials hold the cores while they start
        ("", 4, "waiting for resources: a trial needs 4 cores; free: 2 of 2"),
        ("auto", 1, "waiting for resources: a trial needs 1 core; free: 0 of 2"),
    ],
)
def test_a_ray_of_ones_own_has_nobody_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, address: str, cpus: int, line: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.0})
    assert missing_now(Resources(cpus=cpus)) == line


def test_a_trial_whose_process_never_started_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    """Tune reports the failure of such a trial, and no start."""
    space = read_space(find_space("smoke"), "laptop", {})
    tracking = Tracking(tmp_path, "smoke")
    (tmp_path / "a study").mkdir()
    progress = Progress(tmp_path / "a study", space, tracking, tracking.start("a study", {}))
    reason = tmp_path / "error.txt"
    reason.write_text("RayActorError: the worker died")
    trial = Namespace(config={**space.first, TRIAL_INDEX: 3}, error_file=str(reason))
    progress.on_trial_error(0, [], trial)
    kept = tracking.client.get_run(progress.runs[3])
    assert (kept.info.status, kept.data.tags[ERROR]) == ("FAILED", reason.read_text())
