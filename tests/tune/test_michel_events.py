"""`tune michel --run` reads the events of a command as the run's own network reads them."""

from pathlib import Path

from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.michel import with_splits_of

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
