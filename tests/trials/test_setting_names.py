"""The names of settings that are read without the settings' own libraries."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lartpc_ray.tasks import TASKS
from lartpc_ray.trials.paths import present_path
from lartpc_ray.trials.setting_names import FILE, refuse_unknown, unknown_setting
from lartpc_ray.trials.settings_page import names
from lartpc_ray.trials.shipped import find_space, shipped
from lartpc_ray.trials.space_file import read_space

SPACE = """\
task: segmentation
fixed: {network.depth: 4}
search: {optimizer.learning_rate: {log: [1e-3, 1e-2]}}
first: {optimizer.learning_rate: 2e-3}
budgets:
  smoke: {trials: 2, steps: 2, min_steps: 1, fixed: {network.filters: 4}}
"""
MISTAKES = {
    "optimizer.learnin_rate": "optimizer.learning_rate",
    "optimiser.learning_rate": "optimizer.learning_rate",
    "network.depht": "network.depth",
    "task.loss.mask": "",
    "nonsense.of.mine": "",
    "data..side": "data.seed",
    "": "",
}


def test_the_file_has_the_names_of_all_settings() -> None:
    made = json.loads(FILE.read_text())
    assert made == names(), f"python -m lartpc_ray settings --names > lartpc_ray/trials/{FILE.name}"
    assert made.keys() == TASKS.keys()


@pytest.mark.parametrize("task", TASKS)
def test_no_present_and_no_earlier_name_is_refused(task: str) -> None:
    for path in (*names()[task]["present"], *names()[task]["earlier"]):
        assert not unknown_setting(path, task), path
        assert not unknown_setting(present_path(path, task), task), path
        assert unknown_setting(f"x{path}", task), path


@pytest.mark.parametrize("space", sorted(shipped("search_spaces").glob("*.yaml")))
def test_no_shipped_space_is_refused(space: Path) -> None:
    refuse_unknown(space, [])


@pytest.mark.parametrize("wrong", MISTAKES)
@pytest.mark.parametrize("place", ["fixed", "search", "first", "budgets.smoke.fixed", "--set"])
def test_the_error_is_that_of_the_whole_check(wrong: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    name = {"search": "optimizer.learning_rate", "first": "optimizer.learning_rate"}
    before = {"fixed": "network.depth", "budgets.smoke.fixed": "network.filters"} | name
    group = place.rpartition(".")[2]
    known = before.get(place, "none")
    path.write_text(SPACE.replace(f"{group}: {{{known}:", f'{group}: {{"{wrong}":'))
    given = {wrong: 1} if place == "--set" else {}
    with pytest.raises(ValueError, match="unknown setting") as whole:
        read_space(path, "smoke", given)
    with pytest.raises(ValueError, match="unknown setting") as quick:
        refuse_unknown(path, [f"{key}={value}" for key, value in given.items()])
    assert str(quick.value) == str(whole.value)
    near = MISTAKES[wrong]
    assert f"did you mean {near!r}" in str(quick.value) if near else "unknown setting" in str(quick)


def test_a_mistyped_name_is_found_without_torch() -> None:
    program = "import sys; from lartpc_ray.tune.__main__ import main, parser\n"
    program += "try: main(parser().parse_args(['smoke', '--set', 'network.filers=4']))\n"
    program += "except ValueError as error: print(error, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("did you mean 'network.filters'? False\n"), done.stderr
    assert done.stdout.startswith(str(find_space("smoke")))
