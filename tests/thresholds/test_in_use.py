"""The thresholds in use: one result of a run, also where two commands log at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
import yaml

from lartpc_ray.reconstruct.grid import ThresholdGrid, choose
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.thresholds import in_use, record
from lartpc_ray.thresholds.record import ThresholdsRecord, TunedThresholds, log_thresholds
from lartpc_ray.tracking.runs import Tracking

NAME = "thresholds-seeds.yaml"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a run without thresholds; nothing draws."""
    monkeypatch.setattr(record, "_draw", lambda *_: None)
    return Tracking(tmp_path, "study").start("trial 0", {"trial": "0"})


def result(rule: str) -> tuple[dict[str, Any], TunedThresholds]:
    """Return what a tuning by a rule gives: the content of the file, and the scores behind it."""
    axes = {"s0": np.array([0.0, 0.5, 1.0]), "p0": np.array([0.0, 0.5, 1.0])}
    grid = ThresholdGrid(axes, {"MIP": np.random.default_rng(len(rule)).random((5, 3, 3))})
    choice = choose(grid, "MIP", ChoiceSettings())
    tuned = TunedThresholds({}, {}, grid, {"MIP": choice}, {"MIP": "ari"})
    head = {"method": "seeds", "rule": rule, "split": "tune", "events": 5}
    return head | tuned.content(), tuned


def log(folder: Path, run: str, rule: str, *, keep: bool = False) -> ThresholdsRecord:
    """Log the result of a rule as a command does."""
    content, tuned = result(rule)
    return log_thresholds(Tracking(folder, "study"), run, content, tuned, keep=keep)


def marked(folder: Path, run: str) -> dict[str, tuple[str, str]]:
    """Return the rule of each result to its mark and the first line of its description."""
    tracking = Tracking(folder, "study")
    marks = {}
    for child in tracking.children(run, kind="thresholds"):
        about = tracking.run_info(child)
        in_name = about["name"].endswith(" · in use")
        assert in_name == (about["in_use"] == "true"), "the name says the same as the tag"
        rule = about["name"].removesuffix(" · in use").rpartition(" ")[2]
        marks[rule] = about["in_use"], about["mlflow.note.content"].split("\n")[0]
    return marks


def used(folder: Path, run: str) -> str:
    """Return the rule of the thresholds that `predict` reads."""
    text = Tracking(folder, "study").fetch(run, NAME, folder).read_text()
    return str(yaml.safe_load(text)["rule"])


IS = ("true", "predict uses these thresholds for seeds")
IS_NOT = ("false", "predict uses other thresholds for seeds")


def test_of_two_commands_at_a_time_one_has_its_thresholds_in_use(
    tmp_path: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks for thresholds in use before the other has logged, unless it waits for it."""
    both, read = Barrier(2), in_use.used_thresholds

    def read_together(*arguments: Any) -> Any:
        used = read(*arguments)
        with suppress(BrokenBarrierError):
            both.wait(2)
        return used

    monkeypatch.setattr(record, "used_thresholds", read_together)
    rules = ("robust", "best")
    with ThreadPoolExecutor(2) as commands:
        records = list(commands.map(lambda rule: log(tmp_path, run, rule), rules))
    kept = [rule for rule, logged in zip(rules, records, strict=True) if logged.kept]
    assert [used(tmp_path, run)] == kept
    assert marked(tmp_path, run) == {rule: IS if rule in kept else IS_NOT for rule in rules}
    assert [bool(logged.differences) for logged in records] == [not one.kept for one in records]


def test_a_command_mends_doubled_marks(tmp_path: Path, run: str) -> None:
    assert log(tmp_path, run, "robust").kept
    assert not log(tmp_path, run, "best").kept
    tracking = Tracking(tmp_path, "study")
    for child in tracking.children(run, kind="thresholds"):
        tracking.set_tags(child, {"in_use": "true"})
    assert not log(tmp_path, run, "other").kept
    assert marked(tmp_path, run) == {"robust": IS, "best": IS_NOT, "other": IS_NOT}


def test_thresholds_that_another_machine_replaces_meanwhile_are_not_in_use(
    tmp_path: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log(tmp_path, run, "robust").kept
    assert log(tmp_path, run, "best", keep=True).kept
    children: Callable[..., list[str]] = Tracking.children
    replaced: list[str] = []

    def replace(tracking: Tracking, parent: str, **tags: str) -> list[str]:
        if not replaced:
            replaced.append(parent)
            tracking.log_text(run, yaml.safe_dump(result("best")[0]), NAME)
        return children(tracking, parent, **tags)

    monkeypatch.setattr(Tracking, "children", replace)
    assert not log(tmp_path, run, "robust", keep=True).kept
    assert used(tmp_path, run) == "best"
    assert marked(tmp_path, run) == {"robust": IS_NOT, "best": IS}
