"""`tune michel --run` reads the events of a command as the run's own network reads them."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from lartpc_ray.runtime.arguments import chosen_space
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import michel
from lartpc_ray.tune.__main__ import parser
from lartpc_ray.tune.michel import with_splits_of
from lartpc_ray.tune.search_command import run_search

SPACE = Path("search_spaces/michel.yaml")
SMEARED = {
    "task.name": "segmentation",
    "data.splits.path": "trained",
    "data.splits.smear": 1.0,
    "data.splits.threshold": 0.025,
}


def test_other_events_are_smeared_as_those_of_the_training() -> None:
    space = read_space(SPACE, "smoke", {"data.splits.path": "other"})
    trial = with_splits_of(space, make_trial(SMEARED))
    assert trial == make_trial({**SMEARED, "data.splits.path": "other"})


def test_the_command_line_decides_how_they_are_prepared() -> None:
    space = read_space(SPACE, "smoke", {"data.splits.smear": 0.0})
    trial = with_splits_of(space, make_trial(SMEARED))
    assert trial == make_trial({**SMEARED, "data.splits.smear": 0.0})


def test_the_runs_own_events_without_others() -> None:
    space = read_space(SPACE, "smoke")
    assert with_splits_of(space, make_trial(SMEARED)) == make_trial(SMEARED)


def test_a_dry_run_on_a_run_writes_nothing(
    tmp_path: Path,
    few_events: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = make_trial({"task.name": "segmentation", "data.splits.path": str(few_events)})
    state = Checkpoint(trained, 1, {}, {}, [])
    monkeypatch.setattr(michel, "resolve_run", lambda *_: "12ab")
    monkeypatch.setattr(michel, "load_evaluation", lambda *_: Namespace(state=state))
    given = ["michel", "--budget", "smoke", "--run", "12ab", "--runs", str(tmp_path / "runs")]
    options = parser().parse_args([*given, "--data", str(few_events), "--dry-run"])
    assert run_search(options, chosen_space(options)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["task"]["name"] == "michel"
    assert not (tmp_path / "runs").exists()
    options = parser().parse_args([*given, "--concurrent", "2"])
    with pytest.raises(ValueError, match="--concurrent 2: --run trains nothing; leave it out"):
        run_search(options, chosen_space(options))
