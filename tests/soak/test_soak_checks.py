"""The soak's checks find what they are for; two actions of it pass them."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import soak_checks as checks

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Make a store with a search, its trial, and thresholds of the trial."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE runs (run_uuid, status)")
        connection.execute("CREATE TABLE tags (run_uuid, key, value)")
        connection.execute("CREATE TABLE metrics (run_uuid, key, step, value, timestamp)")
    add(path, "a", study="s", kind="search")
    add(path, "b", study="s", trial="0", best="true", **{"mlflow.parentRunId": "a"})
    add(path, "c", kind="thresholds", of="abc", **{"mlflow.parentRunId": "b"})
    for step in (2, 1):
        measure(path, "b", "objective", step, step / 10)
    measure(path, "b", "seconds_a_step", 1, 3.0)
    return path


def add(database: Path, run: str, status: str = "FINISHED", **tags: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO runs VALUES (?, ?)", (run, status))
        rows = [(run, key, value) for key, value in tags.items()]
        connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", rows)


def measure(database: Path, run: str, key: str, step: int, value: float) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, 0)", (run, key, step, value))


def test_a_store_of_one_run_each_passes(database: Path) -> None:
    assert checks.store(database, []) == []
    assert checks.best_run(database, "s") == "b"
    assert checks.histories(database, "s") == {"0": {"objective": [(1, 0.1), (2, 0.2)]}}


def test_what_is_doubled_lost_or_without_a_process_is_found(database: Path) -> None:
    measure(database, "b", "objective", 2, 0.3)
    add(database, "d", study="s", trial="0", **{"mlflow.parentRunId": "a"})
    add(database, "e", kind="thresholds", of="abc", **{"mlflow.parentRunId": "b"})
    add(database, "f", "RUNNING", study="t", trial="0", **{"mlflow.parentRunId": "z"})
    assert checks.store(database, []) == [
        "objective of run b has 2 values at step 2",
        "run f has parent z, which is not there",
        "run f of t runs, but nothing works on it",
        "2 runs are trial 0 of s",
        "2 runs are thresholds abc of b",
    ]
    assert "nothing works on it" not in str(checks.store(database, ["t"]))


def test_a_metric_that_is_lost_or_another_is_found() -> None:
    first = {"0": {"loss": [(1, 0.5), (2, 0.4)]}, "1": {"loss": [(1, 0.5)]}}
    assert checks.differences(first, first) == []
    other = {"0": {"loss": [(2, 0.4)]}}
    assert checks.differences(first, other) == [
        "trial 1 is in one study only",
        "trial 0 has loss [(2, 0.4)], the first such search [(1, 0.5), (2, 0.4)]",
    ]


def test_files_that_are_left_are_found(tmp_path: Path) -> None:
    sessions = tmp_path / "lartpc-ray-0" / "ray"
    for number in range(3):
        (sessions / f"session_2026-11-0{number + 1}_08-00-00_1_7" / "logs").mkdir(parents=True)
    (sessions / "session_latest").symlink_to(sessions)
    (sessions / "prom_metrics_service_discovery.json").touch()
    assert checks.files([tmp_path], 3) == []
    assert checks.files([tmp_path], 2) == ["3 sessions of Ray are kept, not 2"]
    (tmp_path / "torch_123").touch()
    assert checks.files([tmp_path], 3) == [f"{tmp_path / 'torch_123'} is left"]
    (tmp_path / "a.h5.part~host~7~abc").touch()
    (tmp_path / "a.h5.part~lock").touch()
    assert checks.unfinished([tmp_path]) == [f"{tmp_path / 'a.h5.part~host~7~abc'} is unfinished"]


def test_processes_that_are_left_are_found() -> None:
    before = checks.processes([])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (line,) = set(checks.processes([])) - set(before)
        assert line.startswith(f"process {child.pid} is left: ")
        assert checks.processes([child.pid]) == before
        assert checks.within(0.1, lambda: checks.processes([])) != before
    finally:
        child.kill()
        child.wait()
    assert checks.within(5, lambda: checks.processes([])) == before


@pytest.mark.slow
@pytest.mark.skipif("LARTPC_REHEARSALS" not in os.environ, reason="make test-cluster runs it")
def test_two_actions_pass_the_checks(tmp_path: Path) -> None:
    """The same seed gives the same actions; the first is a search."""
    command = [sys.executable, str(ROOT / "tests" / "soak" / "soak.py"), "1", "--actions", "2"]
    folder = tmp_path / "soak"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_AUTH_MODE", None)
    done = subprocess.run(
        [*command, "--seed", "1", "--folder", str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == f"seed 1, 1 hours, in {folder}"
    assert "2 actions" in last
    assert last.endswith("0 violations")
    assert (folder / "soak.log").read_text() == done.stdout
