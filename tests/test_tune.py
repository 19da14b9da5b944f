"""The search: its stopping rule, its table twice the same, interrupted and resumed, all failed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lartpc_ray.tune import Halving

ROOT = Path(__file__).parents[1]
STOP, GO = "STOP", "CONTINUE"


def test_halving_keeps_the_best_third_of_those_before() -> None:
    rule = Halving(10, 3, None)
    assert [rule.decide(n, 10, goal) for n, goal in enumerate([0.5, 0.4, 0.6, 0.55])] == [
        GO,
        STOP,
        GO,
        GO,
    ]
    assert rule.decide(0, 20, 0.1) == GO, "each rung is judged once"
    assert rule.decide(2, 30, 0.7) == GO
    assert rule.decide(0, 30, 0.6) == STOP, "the next rung is at 30 steps"


def test_before_the_first_rung_nothing_stops() -> None:
    rule = Halving(10, 3, None)
    assert [rule.decide(n, 9, -n) for n in range(5)] == [GO] * 5


def test_batches_make_the_order_of_arrival_meaningless() -> None:
    goals = {0: 0.5, 1: 0.4, 2: 0.45, 3: 0.6}

    def decisions(order: list[int]) -> dict[int, str]:
        rule = Halving(10, 3, 2)
        return {number: rule.decide(number, 10, goals[number]) for number in order}

    assert decisions([0, 1, 2, 3]) == decisions([1, 0, 3, 2])
    assert decisions([0, 1, 2, 3]) == {0: GO, 1: GO, 2: STOP, 3: GO}


def tune(runs: Path, *more: str, study: str = "smoke") -> subprocess.Popen:
    command = [sys.executable, "-m", "lartpc_ray.tune", study, "--runs", str(runs), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=runs)


def finished(process: subprocess.Popen, limit: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=limit)
    finally:
        process.kill()
    return process.returncode, out, err


def mlflow_runs(runs: Path) -> dict[str, list]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    named: dict[str, list] = {}
    for run in found:
        named.setdefault(run.info.run_name, []).append(run)
    return named


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table_twice_and_all_is_in_mlflow(tmp_path: Path) -> None:
    tables = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        budget = ("--budget", "laptop")
        status, out, err = finished(tune(tmp_path / folder, *budget))
        assert status == 0, err
        tables.append(out.split("in the browser")[0])
        assert "Traceback" not in err
    assert tables[0] == tables[1]
    assert "DBSCAN" in tables[0]
    assert "untrained network" in tables[0]
    named = mlflow_runs(tmp_path / "a")
    (search,) = [runs[0] for name, runs in named.items() if name.startswith("smoke-")]
    for number in (0, 1):
        (trial,) = named[f"trial {number}"]
        assert trial.data.tags["mlflow.parentRunId"] == search.info.run_id
        assert trial.info.status == "FINISHED"
        assert {"loss", "goal", "MIP/ari", "MIP/s0"} <= set(trial.data.metrics)
        assert trial.data.params["network.depth"] == "3"
    best = out.split("--run ")[1].split()[0]
    command = [sys.executable, "-m", "lartpc_ray.report", "--run", best]
    again = subprocess.run(
        [*command, "--runs", str(tmp_path / "b")], capture_output=True, text=True, cwd=ROOT
    )
    assert again.stdout.strip() in tables[1]
    command = [sys.executable, "-m", "lartpc_ray.report", "smoke", "--runs", str(tmp_path / "b")]
    study = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert study.stdout.startswith("smoke: 2 trials, best first")
    assert "learning_rate" in study.stdout.splitlines()[1]
    assert again.stdout.strip() in study.stdout
    artefacts = {path.name for path in (tmp_path / "b").rglob("mlartifacts/**/*") if path.is_file()}
    assert {"checkpoint.pt", "trial.json", "verdict.json", "table.txt", "smoke.yaml"} <= artefacts


@pytest.mark.slow
def test_an_interrupted_search_says_how_to_resume_and_resumes(tmp_path: Path) -> None:
    process = tune(tmp_path, "--budget", "smoke", "--set", "optimizer.steps=30")
    deadline = time.monotonic() + 240
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(r"trial 1 +\d+ steps", line) or time.monotonic() > deadline:
            break
    process.send_signal(signal.SIGINT)
    status, _, err = finished(process)
    assert status == 1, err
    assert "Traceback" not in err
    (resume,) = re.findall(r"--resume (\S+)", err)
    status, out, err = finished(tune(tmp_path, "--resume", resume))
    assert status == 0, err
    assert "best of 2 trials" in out
    named = mlflow_runs(tmp_path)
    assert {name: len(runs) for name, runs in named.items()} == {
        Path(resume).name: 1,
        "trial 0": 1,
        "trial 1": 1,
    }
    assert all(runs[0].info.status == "FINISHED" for runs in named.values())


@pytest.mark.slow
def test_a_search_in_which_every_trial_fails_says_so(tmp_path: Path) -> None:
    settings = ("--set", "optimizer.learning_rate=1e30", "--set", "optimizer.steps=40")
    status, out, err = finished(tune(tmp_path, "--budget", "smoke", *settings))
    assert status == 1
    assert out == ""
    assert "all 2 trials failed" in err
    assert "Traceback" not in err
    trials = [runs[0] for name, runs in mlflow_runs(tmp_path).items() if name.startswith("trial")]
    assert [trial.info.status for trial in trials] == ["FAILED"] * 2
    assert all("rror" in trial.data.tags["error"] for trial in trials)


@pytest.mark.slow
def test_two_workers_a_trial(tmp_path: Path) -> None:
    status, out, err = finished(tune(tmp_path, "--budget", "smoke", "--workers", "2"), 500)
    assert status == 0, err
    assert "best of 2 trials" in out


def test_a_dry_run_checks_everything_and_writes_nothing(tmp_path: Path) -> None:
    status, out, _ = finished(tune(tmp_path, "--budget", "smoke", "--dry-run"))
    assert status == 0
    trial = out[out.index("{") : out.rindex("}") + 1]
    assert json.loads(trial)["network"]["depth"] == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_search_with_costs_shows_the_trials_that_no_other_beats(tmp_path: Path) -> None:
    mine = tmp_path / "cheap.yaml"
    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    mine.write_text(f"{text}\ncosts: [seconds_an_event, inference_gib]\n")
    status, out, err = finished(tune(tmp_path, "--budget", "smoke", study=str(mine)))
    assert status == 0, err
    assert "trials that no other beats (picked: of those within 0.01" in out
    assert "s an event" in out


@pytest.mark.slow
def test_a_grid_shows_every_point_with_its_cost(tmp_path: Path) -> None:
    options = ("--budget", "smoke", "--set", "optimizer.steps=1", "--set", "data.splits.box=32")
    status, out, err = finished(tune(tmp_path, *options, study="dense_vs_sparse"))
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if "dense" in line or "native" in line]
    assert "training GiB" in out
    assert sorted(row[0] for row in rows if len(row) == 6) == ["dense", "native"]
