"""What a search would do, before it starts."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from watched import ROOT

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.train.resources import absent_here
from lartpc_ray.train.speed import Speed
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import dry_run as module
from lartpc_ray.tune.dry_run import (
    Estimate,
    dry_run,
    estimate,
    estimate_lines,
    search_table,
    too_few,
)
from lartpc_ray.tune.timed import trials_at_once


def smoke(events: Path, **overrides: Any) -> Space:
    return read_space(
        find_space("smoke"), "smoke", {"data.splits.path": str(events), "seed": 3, **overrides}
    )


def test_settings_ranges_splits_time_and_problems_are_a_table(few_events: Path) -> None:
    space = smoke(few_events)
    text = dry_run(space, as_json=False)
    assert text.startswith("smoke, budget smoke: 2 trials of at most 10 steps, at most 1 at a time")
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["network.filters"] == ["network.filters", "4", "4", "to", "6"]
    assert rows["optimizer.learning_rate"][2:6] == ["0.001", "to", "0.01,", "log"]
    assert rows["network.depth"] == ["network.depth", "3"]
    assert re.search(r"^split +events +voxels per event +HIP +MIP ", text, re.MULTILINE)
    found = re.search(r"^tune +3 +\d+ +([0-3]) ", text, re.MULTILINE)
    assert found, "events, voxels and the events with HIP"
    assert f"\ntune   {few_events / 'tune.h5'}\n" in text, "the files of the splits"
    assert all(len(line) <= 80 or str(few_events) in line for line in text.splitlines())
    assert "estimated time:" in text
    assert re.search("measured on this machine now: [1-4] steps of trial 0", text)
    words = " ".join(text.split())
    assert "events of the tune split have a cluster of HIP; fewer than 10" in words
    assert "nothing was started" in text


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "search_spaces").iterdir()))
def test_the_tables_fit_a_terminal_of_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Estimate(4, 1.234, 62_400.0, 35.1, 0.0, 10_000.0)
    monkeypatch.setattr(module, "estimate", lambda *_: found)
    counts = dict.fromkeys(CLASS_NAMES, 100)
    part = {**SPLIT, "events": 2497, "looked_at": 100, "voxels": 2320, "with_cluster": counts}
    monkeypatch.setattr(module, "_counts", lambda *_: part)
    space = read_space(find_space(name), "smoke")
    text = dry_run(space, as_json=False)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert all(f"{name} " in words for name in (*space.search, *space.fixed))
    assert "split events voxels per event HIP MIP SHOWER DELTA MICHEL" in words


ENTRIES = """\
search:
  network.depth: {int: [3, 6], prior: [4, 5]}
  task.loss.mask: {choice: [bce, focal]}
  task.loss.inter: {uniform: [0.5, 2.0], step: 0.5, when: {task.loss.mask: focal}}
  task.loss.inter_distance: {uniform: [0.1, 0.5]}
  data.splits.train_events: {choice: [null, 8]}
first:
  - {network.depth: 4, task.loss.mask: bce}
  - {network.depth: 5, task.loss.mask: focal, task.loss.inter: 1.5}
budgets:
  smoke: {trials: 2, steps: 4, min_steps: 2}
"""


def test_priors_conditions_and_further_starts_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(ENTRIES)
    space = read_space(tmp_path / "mine.yaml", "smoke")
    assert search_table(space) == [
        "searched                  trial 0  prior   values",
        "network.depth             4        4 to 5  3 to 6",
        "task.loss.mask            bce              bce, focal",
        "task.loss.inter           -                0.5 to 2, in steps of 0.5; only where",
        "                                           task.loss.mask is focal",
        "task.loss.inter_distance  0.2              0.1 to 0.5",
        "data.splits.train_events  null             null, 8",
        "trial 1 begins with network.depth 5, task.loss.mask focal, task.loss.inter 1.5",
    ]
    monkeypatch.setattr(module, "estimate", lambda *_: None)
    monkeypatch.setattr(module, "_counts", lambda *_: {**SPLIT, "with_cluster": {}})
    content = json.loads(dry_run(space, as_json=True))
    assert content["priors"] == {"network.depth": [4, 5]}
    assert content["conditions"] == {"task.loss.inter": {"task.loss.mask": ["focal"]}}
    assert [start["network.depth"] for start in content["starts"]] == [5]
    never = read_space(tmp_path / "mine.yaml", "smoke", {"task.loss.mask": "bce"})
    text = dry_run(never, as_json=False)
    assert "note: task.loss.inter is not searched: no effect, as task.loss.mask is bce" in text


SPLIT = {"file": "t.h5", "events": 30, "looked_at": 30, "voxels": 5}


def test_a_program_reads_one_object(few_events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "estimate", lambda space, speed: Estimate(4, 0.5, 2e4, 3.0, 0.0, 20.0)
    )
    content = json.loads(dry_run(smoke(few_events), as_json=True))
    assert content["trials"] == 2
    assert content["trial"]["network"]["depth"] == 3
    assert content["estimate"]["total_seconds"] == 20
    assert content["splits"]["train"]["events"] == 12
    assert set(content["search"]) == {"network.filters", "optimizer.learning_rate"}


def test_absent_gpus_and_cores_are_named(few_events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    space = smoke(few_events, **{"resources.gpus": 1, "resources.cpus": 4096})
    needs = space.first_trial().resources
    gpus, cores = absent_here(needs).values()
    assert gpus.startswith("resources.gpus: a trial needs 1 GPU, torch sees none;")
    assert cores.startswith("resources.cpus: a trial needs 4096 cores")
    assert estimate_lines(space, None) == [
        "estimated time: unknown, as the GPUs of a trial are absent"
    ]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert absent_here(needs) == {}, "a cluster has other machines"


def test_the_estimated_time_is_in_plain_numbers(few_events: Path) -> None:
    speed = Speed(4, 0.16, 41_700.0, 2.3, 0.0)
    first, second, *_ = estimate_lines(
        smoke(few_events), Estimate(**asdict(speed), total_seconds=90.0)
    )
    assert first == "estimated time: 2 min, with 1 trial at a time"
    assert "0.16 s per step, 42,000 voxels per s; a validation 2.3 s" in second


def test_the_time_of_a_search_is_that_of_its_planned_steps_and_validations(
    few_events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials of 10 steps of 2 s, validated after 5 and 10 in 3 s each: 2 * 26 s."""
    monkeypatch.setattr(module, "measured_speed", lambda trial: Speed(1, 2.0, 50.0, 3.0, 0.0))
    space = smoke(few_events)
    found = estimate(space)
    assert found is not None
    assert found.total_seconds == pytest.approx(52)
    two = estimate(replace(space, budget=space.budget.model_copy(update={"concurrent": 2})))
    assert two is not None
    assert two.total_seconds == pytest.approx(26)


@pytest.mark.parametrize(
    ("address", "wanted", "at_once"),
    [("", None, 2), ("", 8, 4), ("", 1, 1), ("head:6379", 8, 8), ("head:6379", None, 2)],
)
def test_the_time_counts_the_trials_that_run_at_a_time(
    few_events: Path, monkeypatch: pytest.MonkeyPatch, address: str, wanted: Any, at_once: int
) -> None:
    """Of the command line, as far as this machine has cores for them; a cluster may grow."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(module, "measured_speed", lambda trial: Speed(1, 2.0, 50.0, 3.0, 0.0))
    space = smoke(few_events)
    update = {"concurrent": 2, "trials": 8, "scheduler": "none"}
    space = replace(space, budget=space.budget.model_copy(update=update))
    assert trials_at_once(space, wanted) == at_once
    found = json.loads(dry_run(space, as_json=True, concurrent=wanted))["estimate"]
    assert found["total_seconds"] == pytest.approx(26 * 8 / at_once)


def test_only_splits_that_were_read_whole_are_too_small(few_events: Path) -> None:
    task = smoke(few_events).first_trial().task
    content = {"file": "t.h5", "events": 30, "looked_at": 30, "with_cluster": {"MIP": 9, "HIP": 10}}
    part = {**content, "events": 31}
    (text,) = too_few({"tune": content, "test": part}, task)
    assert text.startswith("t.h5: 9 events of the tune split have a cluster of MIP")
