"""The search: killed and resumed, trials lost, trials that fail."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from random import Random
from shutil import copytree, ignore_patterns, rmtree

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from processes import descendants
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster
from searches import checked, finished, mlflow_runs, of_steps, tune, until

from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune.study import fitting

ROOT = Path(__file__).parents[2]


def test_as_many_trials_run_as_fit() -> None:
    """By cores, by shared and by whole GPUs; a tenth fits ten times, whatever floats say."""
    cluster = {"CPU": 16.0, "GPU": 4.0}
    assert fitting(Resources(cpus=3), 1, cluster) == 5
    assert fitting(Resources(gpus=0.1), 1, cluster | {"CPU": 64}) == 40
    assert fitting(Resources(gpus=1), 1, cluster) == 4
    assert fitting(Resources(gpus=1, workers=3), 3, cluster) == 1
    assert fitting(Resources(gpus=1), 1, {"CPU": 16.0}) == 0


@pytest.fixture(scope="module")
def longer(few_events: Path) -> tuple[str, ...]:
    return of_steps(100, 10, few_events)


@pytest.fixture(scope="module")
def longer_table(longer: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Search `longer` without a kill, and give the table."""
    status, out, err = finished(tune(tmp_path_factory.mktemp("longer"), *longer))
    assert status == 0, err
    return out.split("every metric")[0]


def killed(process: subprocess.Popen[str]) -> None:
    """End a driver as a power cut would; what it started ends by itself."""
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{one}").exists() for one in started) and time.monotonic() < deadline:
        time.sleep(0.2)


@pytest.mark.slow
def test_a_driver_killed_again_and_again_gives_the_table_of_one_that_was_not(
    tmp_path: Path, longer: tuple[str, ...], longer_table: str
) -> None:
    """SIGKILL where trials train and where one has ended; then SIGTERM; two drivers at once."""
    (tmp_path / "cut").mkdir()
    process = tune(tmp_path / "cut", *longer)
    until(process, r"trial 1 +20 steps")
    (folder,) = (tmp_path / "cut").glob("smoke-*")
    killed(process)
    process = tune(tmp_path / "cut", "--resume", str(folder))
    until(process, f"study {folder.name}: ")  # it has claimed the folder, and starts Ray
    status, said, err = finished(tune(tmp_path / "cut", "--resume", str(folder)))
    assert process.poll() is None, "the first was done before the second began"
    assert (status, said) == (2, "")
    use = f"{folder}: in use by process {process.pid} on {socket.gethostname()}"
    assert err.endswith(f"python -m lartpc_ray.tune: {use}\n")
    until(process, r"trial 0 +40 steps")
    killed(process)
    newest = sorted((folder / "trials" / "1").glob("step-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:5000])  # as a crash of a file server leaves it
    process = tune(tmp_path / "cut", "--resume", folder.name, "--runs", str(folder.parent))
    until(process, r"trial 1 +50 steps")
    process.send_signal(signal.SIGTERM)
    status, _, err = finished(process)
    assert status == 130, err
    assert "Traceback" not in err
    (again,) = set(re.findall(r"--resume (\S+)", err))  # once at the signal, once at the end
    assert again == str(folder)
    statuses = {name: found[0].info.status for name, found in mlflow_runs(tmp_path / "cut").items()}
    assert "RUNNING" not in statuses.values()
    process = tune(tmp_path / "cut", "--resume", again)
    until(process, "searched for")  # now the best trial is judged
    process.send_signal(signal.SIGTERM)
    status, _, err = finished(process, 15)
    assert status == 130, err
    assert f"--resume {again}" in err
    status, resumed, err = finished(tune(tmp_path / "cut", "--resume", again))
    assert status == 0, err
    assert resumed.split("every metric")[0] == longer_table
    checked(tmp_path / "cut", folder.name, 2)
    assert "not a checkpoint, or cut short" in (folder / "notes.txt").read_text()


@pytest.fixture(scope="module")
def brief(few_events: Path) -> tuple[str, ...]:
    return of_steps(40, 5, few_events)


@pytest.fixture(scope="module")
def whole(
    brief: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, float]:
    """Search without a kill: give the folder of runs, the table, the seconds."""
    runs = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    status, out, err = finished(tune(runs, *brief))
    assert status == 0, err
    return runs, out.split("every metric")[0], time.monotonic() - began


def histories(client: MlflowClient, run: Run) -> dict[str, list[Metric]]:
    """Return the history of each metric of a run in MLflow."""
    return {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}


def told(runs: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Run to number to (step, value), all that is in MLflow but what the machine did."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    found = {}
    for name, (run,) in mlflow_runs(runs).items():
        kept = histories(client, run)
        times = [one.timestamp for one in kept.get("objective", [])]
        assert times == sorted(times), f"{name}: a number is earlier than the one before"
        assert run.info.status == "FINISHED", name
        assert run.info.start_time <= min(times, default=run.info.end_time) <= run.info.end_time
        found[name.split("-")[0]] = {
            key: [(one.step, one.value) for one in history]
            for key, history in kept.items()
            if not re.match("(resources/)?seconds|system/|.*_gib", key)
        }
    return found


@pytest.mark.slow
def test_a_driver_killed_at_ten_random_moments_loses_and_doubles_nothing(
    tmp_path: Path, brief: tuple[str, ...], whole: tuple[Path, str, float]
) -> None:
    """While it makes the database, trains, judges, writes the table."""
    runs, table, lasts = whole
    draw = Random(8)
    moments = sorted(draw.uniform(0, lasts / 2) for _ in range(10))  # a resumed one has less to do
    while moments:
        begun = list(tmp_path.glob("smoke-*/plan.json"))
        process = tune(tmp_path, *(("--resume", str(begun[0].parent)) if begun else brief))
        try:
            process.communicate(timeout=moments[0])
            moments[0] /= 2  # it was done before
        except subprocess.TimeoutExpired:
            killed(process)
            moments.pop(0)
    (plan,) = tmp_path.glob("smoke-*/plan.json")
    status, out, err = finished(tune(tmp_path, "--resume", str(plan.parent)))
    assert status == 0, err
    assert out.split("every metric")[0] == table
    assert told(tmp_path) == told(runs)


PARTS = ignore_patterns("ray", "lock", "*.part*")


@pytest.mark.slow
def test_a_copy_that_was_made_while_it_ran_is_enough_to_go_on(
    tmp_path: Path, brief: tuple[str, ...], whole: tuple[Path, str, float]
) -> None:
    """As a mirror on an object store has it: files of different ages, each of them whole."""
    process = tune(tmp_path, *brief)
    until(process, r"trial 0 +10 steps")
    (folder,) = tmp_path.glob("smoke-*")
    copy = tmp_path / "copy"
    old = copytree(folder / "trials", tmp_path / "trials of before", ignore=PARTS)
    until(process, r"trial 1 +20 steps")
    copytree(folder, copy, ignore=PARTS)
    killed(process)
    rmtree(copy / "trials" / "0")
    (old / "0").rename(copy / "trials" / "0")  # this trial's files are older than the decisions
    rmtree(folder)
    copy.rename(folder)
    status, out, err = finished(tune(tmp_path, "--resume", str(folder)))
    assert status == 0, err
    assert out.split("every metric")[0] == whole[1]
    assert told(tmp_path) == told(whole[0])


def at_work(node: Node) -> bool:
    """Whether a node's raylet has a trial."""
    (raylet,) = node.all_processes[PROCESS_TYPE_RAYLET]
    return any("ray::ImplicitFunc" in one for one in descendants(raylet.process.pid).values())


@pytest.mark.slow
def test_a_search_that_loses_a_node_gives_the_table_of_one_that_did_not(
    tmp_path: Path, brief: tuple[str, ...], whole: tuple[Path, str, float], nodes: Cluster
) -> None:
    """Raylet, workers and all, with one of the two trials; the other node takes that one, too."""
    process = tune(tmp_path, *brief)
    try:
        until(process, r"trial 1 +10 steps")
        lost = next(one for one in nodes.worker_nodes if at_work(one))
        nodes.remove_node(lost, allow_graceful=False)
        until(process, "lost its process; continues from its checkpoint")
        status, out, err = finished(process)
    finally:
        killed(process)
    assert status == 0, err
    assert out.split("every metric")[0] == whole[1]
    assert told(tmp_path) == told(whole[0])
    checked(tmp_path, next(tmp_path.glob("smoke-*")).name, 2)


JUMPS = """
import time

now, seconds = time.time, time.monotonic
time.time = lambda: now() + 3600 * (int(seconds()) % 3 - 1)
"""


@pytest.mark.slow
def test_a_search_whose_clock_jumps_an_hour_each_second_ends_with_the_same_table(
    tmp_path: Path, brief: tuple[str, ...], whole: tuple[Path, str, float]
) -> None:
    """Of the driver and of all processes that Ray starts: back an hour, right, an hour ahead."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMPS)
    variables = {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}
    status, out, err = finished(tune(tmp_path, *brief, variables=variables))
    assert status == 0, err
    assert out.split("every metric")[0] == whole[1]
    assert told(tmp_path) == told(whole[0])


@pytest.mark.slow
def test_failing_trials_are_recorded_with_their_reasons_and_the_study_goes_on(
    tmp_path: Path, few_events: Path
) -> None:
    """Of four trials one is sound; one meets NaN, two want more memory than there is."""
    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    search = text[text.index("search:") : text.index("budgets:")]
    grid = "search:\n  network.filters: {grid: [4, 1000000]}\n"
    grid += (
        "  optimizer.learning_rate: {grid: [1.0e-3, 1.0e+30]}\n\nfirst: {network.filters: 4}\n\n"
    )
    mine = tmp_path / "failing.yaml"
    mine.write_text(text.replace(search, grid))
    status, out, err = finished(
        tune(tmp_path, "--budget", "smoke", "--data", str(few_events), study=str(mine)), 500
    )
    assert status == 0, err
    assert "best of 4 trials" in out
    rows = [line for line in out.splitlines() if re.match(r" +(4|1000000) ", line)]
    assert sum("can't allocate memory" in row for row in rows) == 2
    assert sum(bool(re.search("loss is (nan|inf)|diverge", row)) for row in rows) == 1
    trials = [runs[0] for name, runs in mlflow_runs(tmp_path).items() if name.startswith("trial")]
    assert sorted(trial.info.status for trial in trials) == ["FAILED"] * 3 + ["FINISHED"]
    reasons = [trial.data.tags["error"] for trial in trials if trial.info.status == "FAILED"]
    assert all("rror: " in one for one in reasons)


@pytest.mark.slow
def test_a_search_in_which_every_trial_fails_says_so_also_when_resumed(tmp_path: Path) -> None:
    settings = ("--set", "optimizer.learning_rate=1e30", "--set", "optimizer.steps=40")
    status, out, err = finished(tune(tmp_path, "--budget", "smoke", *settings))
    (folder,) = tmp_path.glob("smoke-*")
    for _ in range(2):
        assert status == 1
        assert out == ""
        assert "all 2 trials failed" in err
        assert "Traceback" not in err
        found = mlflow_runs(tmp_path)
        trials = [runs[0] for name, runs in found.items() if name.startswith("trial")]
        assert [trial.info.status for trial in trials] == ["FAILED"] * 2
        assert all("rror" in trial.data.tags["error"] for trial in trials)
        status, out, err = finished(tune(tmp_path, "--resume", str(folder)))


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, longer: tuple[str, ...], longer_table: str
) -> None:
    (tmp_path / "cut").mkdir()
    process = tune(tmp_path / "cut", *longer)
    until(process, r"trial 1 +10 steps")
    actors = [
        one for one, title in descendants(process.pid).items() if "ray::ImplicitFunc" in title
    ]
    os.kill(actors[0], signal.SIGKILL)
    until(process, "lost its process; continues from its checkpoint")
    status, mended, err = finished(process)
    assert status == 0, err
    assert mended.split("every metric")[0] == longer_table
    checked(tmp_path / "cut", next((tmp_path / "cut").glob("smoke-*")).name, 2)


@pytest.mark.slow
def test_two_workers_a_trial_for_a_program(tmp_path: Path) -> None:
    options = ("--budget", "smoke", "--workers", "2", "--json", "--quiet")
    status, out, err = finished(tune(tmp_path, *options), 500)
    assert status == 0, err
    assert err == ""
    found = json.loads(out)
    assert (found["trials"], found["failed"]) == (2, 0)
    assert found["settings"]["network.filters"] in (4, 5, 6)
    assert {"HIP", "MIP"} <= set(found["thresholds"])


@pytest.mark.slow
def test_a_dry_run_checks_everything_and_writes_nothing(tmp_path: Path) -> None:
    status, out, _ = finished(tune(tmp_path, "--budget", "smoke", "--dry-run", "--json"))
    assert status == 0
    assert json.loads(out)["trial"]["network"]["depth"] == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_search_with_costs_shows_the_trials_that_no_other_beats(tmp_path: Path) -> None:
    mine = tmp_path / "cheap.yaml"
    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    mine.write_text(f"{text}\ncosts: [seconds_an_event, inference_gib]\n")
    status, out, err = finished(tune(tmp_path, "--budget", "smoke", study=str(mine)))
    assert status == 0, err
    assert "trials that no other beats (picked: of those within 0.01" in out
    assert "s per event" in out


@pytest.mark.slow
def test_a_grid_shows_every_point_with_its_cost(tmp_path: Path) -> None:
    options = ("--budget", "smoke", "--set", "optimizer.steps=1", "--set", "data.splits.box=32")
    status, out, err = finished(tune(tmp_path, *options, study="dense_vs_sparse"))
    assert status == 0, err
    rows = [line.split() for line in out.splitlines() if "dense" in line or "native" in line]
    assert "training GiB" in out
    assert sorted(row[0] for row in rows if len(row) == 6) == ["dense", "native"]
