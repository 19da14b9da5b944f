"""Tracking: a server that goes away for a while costs no number."""

import hashlib
import json
import logging
import os
import re
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from processes import free_port, serve, stop
from urllib3.util import Retry

from lartpc_ray.data.splits import Splits
from lartpc_ray.runtime.resources import Machine
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.provenance import Source, data_hash, source_tags, sources
from lartpc_ray.tracking.runs import ERROR, NAMES, PATIENCE, Tracking
from lartpc_ray.tracking.store import StoreError

SPLITS = ("train", "tune", "test")


def two_files(folder: Path, text: str) -> dict[str, Source]:
    """Give the splits of a folder, of which tune is another file."""
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        (folder / f"{split}.h5").write_text(text if split == "tune" else split)
    return sources(Splits(path=str(folder)), folder)


def test_a_run_knows_its_data_by_content(tmp_path: Path) -> None:
    found = two_files(tmp_path / "a", "one")
    assert found["tune"].digest == hashlib.sha256(b"one").hexdigest()
    assert found["tune"].size == 3
    assert data_hash(found) == data_hash(two_files(tmp_path / "b", "one"))
    assert data_hash(found) != data_hash(two_files(tmp_path / "a", "two")), "same size, new content"


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = two_files(tmp_path, "one")
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert sources(Splits(path=str(tmp_path)), tmp_path) == found


def test_a_run_keeps_short_names_a_description_and_its_data_once(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "study")
    search = tracking.start("study-1", {"study": "study-1", "kind": "search"})
    settings = {"network.depth": 5, "optimizer.learning_rate": 1 / 3, "data.seed": 1, "seed": 0}
    tracking.set_tags(search, {NAMES: json.dumps(short_names(settings))})
    run = tracking.start("trial 0", {"study": "study-1", "trial": "0"}, search)
    for _ in range(2):  # as a resumed search does
        tracking.log_params(run, settings)
        tracking.log_datasets(run, two_files(tmp_path / "data", "one"))
        tracking.describe(run, "**best** " + "x" * 9000)
    kept = tracking.client.get_run(run)
    short = {"depth": "5", "learning_rate": "0.33333", "data.seed": "1", "seed": "0"}
    assert kept.data.params == short
    assert len(kept.data.tags["mlflow.note.content"]) == 8000
    assert kept.inputs is not None
    contexts = [one.tags[0].value for one in kept.inputs.dataset_inputs]
    assert sorted(contexts) == sorted(SPLITS)
    (trial,) = tracking.trials("study")
    assert set(trial.parameters) == set(settings), "read back by their paths"


def test_each_run_names_its_source(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "study")
    run = tracking.start("thresholds", {"kind": "thresholds"})
    kept = tracking.client.get_run(run).data.tags
    assert (kept["mlflow.source.name"], kept["mlflow.source.type"]) == ("lartpc-ray", "LOCAL")
    assert kept.items() >= source_tags().items()
    assert tracking.start("thresholds", {"kind": "thresholds"}) == run, "after another commit, too"


def test_the_machine_is_looked_at(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        pass
    found = machine.read()
    assert 0 < found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert 0 < found["system/disk_usage_percentage"] < 100


@pytest.mark.parametrize(
    ("script", "load"),
    [
        ("echo 'No devices were found'; exit 6", {}),
        ("echo 'NVIDIA-SMI has failed, as it found no driver.'; exit 9", {}),
        ("exec sleep 60", {}),
        ("echo '[N/A], 512'", {"system/gpu_0_memory_usage_megabytes": 512.0}),
    ],
)
def test_an_nvidia_smi_without_a_gpu_ends_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, load: dict[str, float]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if "sleep" in script:
        monkeypatch.setattr("lartpc_ray.runtime.resources.GPU_PATIENCE", 0.2)
    found = Machine(tmp_path).read()
    assert {name: value for name, value in found.items() if "gpu" in name} == load


def test_the_client_waits_some_minutes_for_a_server_whatever_mlflow_would_do() -> None:
    """By the rule of the library that sends MLflow's requests."""
    retries, factor, _ = (int(float(os.environ[name])) for name in PATIENCE)
    retry = Retry(retries, backoff_factor=factor)
    waits = []
    while retry.total:
        retry = retry.increment(error=OSError())
        waits.append(retry.get_backoff_time())
    assert waits == [0, 2, 4, 8, 16, 32, 64, 120, 120]


@pytest.mark.slow
def test_a_server_that_goes_away_for_a_minute_and_comes_back_costs_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the retries that save the number: with two of them it would be lost."""
    port = free_port()
    servers = [serve(tmp_path, port)]
    back = threading.Timer(60, lambda: servers.append(serve(tmp_path, port)))
    try:
        tracking = Tracking(tmp_path / "runs", "study", f"http://127.0.0.1:{port}")
        run = tracking.start("trial 0", {"study": "s", "trial": "0"})
        tracking.log_metrics(run, {"objective": 0.1}, 1)
        stop(servers[0])
        back.start()
        began = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            with pytest.raises(StoreError, match="the server does not answer"):
                tracking.log_metrics(run, {"objective": 0.2}, 2)
        assert tracking.log_metrics(run, {"objective": 0.2}, 2)
        assert time.monotonic() - began > 60, "there was a server all the time"
        tracking.log_metrics(run, {"objective": 0.3}, 3)
        assert tracking.logged(run, "objective") == {1: 0.1, 2: 0.2, 3: 0.3}
    finally:
        back.cancel()
        if back.is_alive():
            back.join()
        for server in servers:
            stop(server)


@pytest.mark.slow
def test_no_wait_for_a_stopped_server_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stopped process takes connections and answers none; each 20 s are a line."""
    caplog.set_level(logging.INFO, "lartpc_ray")
    port = free_port()
    server = serve(tmp_path, port)
    back = threading.Timer(66, os.killpg, [server.pid, signal.SIGCONT])
    try:
        tracking = Tracking(tmp_path / "runs", "study", f"http://127.0.0.1:{port}")
        run = tracking.start("trial 0", {"study": "s", "trial": "0"})
        tracking.log_metrics(run, {"objective": 0.1}, 1)
        os.killpg(server.pid, signal.SIGSTOP)
        back.start()
        began = time.time()
        assert tracking.log_metrics(run, {"objective": 0.2}, 2)
        assert time.time() - began > 60
        lines = [record for record in caplog.records if "log_batch" in record.getMessage()]
        moments = [began, *(record.created for record in lines)]
        assert max(later - one for one, later in pairwise(moments)) < 25
        waits = [record.getMessage() for record in lines[:3]]
        told = re.compile(rf"127\.0\.0\.1:{port}: no answer for (\d+) s \(log_batch\); still")
        seconds = [int(found[1]) for wait in waits if (found := told.search(wait))]
        assert [round(one / 20) for one in seconds] == [1, 2, 3]
        assert "answered after" in lines[-1].getMessage()
        assert tracking.logged(run, "objective") == {1: 0.1, 2: 0.2}
    finally:
        back.cancel()
        stop(server)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with MLflow's database."""
    folder = tmp_path_factory.mktemp("store")
    Tracking(folder, None)
    return folder


class Jumping:
    """The machine's clock, set forward or back by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by = 0.0
        real = time.time
        monkeypatch.setattr("time.time", lambda: real() + self.by)


def test_a_clock_that_jumps_misorders_no_number_and_no_run(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back or forward between two reports, between two searches, before an end."""
    from mlflow import MlflowClient

    clock = Jumping(monkeypatch)
    tracking = Tracking(store, "study")
    run = tracking.start("search", {"study": "first", "kind": "search"})
    began = time.monotonic()
    for step, by in enumerate((0, 3600, -3600, 0, -7200)):
        clock.by = by
        tracking.log_metrics(run, {"objective": 0.1 * step}, step)
    clock.by = -3600
    tracking.finish(run)
    client = MlflowClient(tracking_uri=tracking.uri)
    info = client.get_run(run).info
    times = [one.timestamp for one in client.get_metric_history(run, "objective")]
    assert [info.start_time, *times, info.end_time] == sorted(
        [info.start_time, *times, info.end_time]
    )
    assert times[-1] - times[0] < 1000 * (time.monotonic() - began) + 1000, "it jumped along"
    clock.by = -7200  # the next search, of another process, begins before the first
    later = Tracking(store, "study")
    second = later.start("search", {"study": "second", "kind": "search"})
    trial = later.start("trial 0", {"study": "second", "trial": "0"}, second)
    assert [one.id for one in Tracking(store, None).trials("study")] == [trial]
    assert client.get_run(second).info.start_time > info.end_time
    clock.by = -10800  # and is resumed
    resumed = Tracking(store, "study")
    assert resumed.start("search", {"study": "second", "kind": "search"}) == second
    resumed.finish(second)
    ended = client.get_run(second).info
    assert ended.end_time >= ended.start_time


def test_a_number_told_again_is_kept_once(store: Path) -> None:
    """As a resumed search tells it; another value at the same step is a new one."""
    first = Tracking(store, "told")
    run = first.start("trial 0", {"study": "s", "trial": "0"})
    first.log_metrics(run, {"loss": 2.0, "objective": 0.1}, 5)
    time.sleep(0.002)  # MLflow itself drops what is equal to the millisecond
    first.log_metrics(run, {"loss": 2.0, "objective": 0.1}, 5)
    again = Tracking(store, "told")
    again.log_metrics(run, {"loss": 2.0, "objective": 0.1}, 5)
    again.log_metrics(run, {"loss": 1.0, "objective": 0.2}, 10)
    from mlflow import MlflowClient

    history = MlflowClient(tracking_uri=first.uri).get_metric_history(run, "objective")
    assert [(one.step, one.value) for one in history] == [(5, 0.1), (10, 0.2)]


@pytest.mark.parametrize("state", ["FINISHED", "KILLED"])
def test_a_finished_run_that_is_told_nothing_new_keeps_its_end(store: Path, state: str) -> None:
    """As in a search that is resumed after its end; a run that goes on ends later."""
    ends = []
    for objective, status in ((0.1, state), (0.1, "FINISHED"), (0.2, "FINISHED")):
        tracking = Tracking(store, f"ended {state}")
        run = tracking.start("trial 0", {"study": "s", "trial": "0"})
        tracking.log_metrics(run, {"objective": objective}, 5)
        tracking.finish(run, status)
        ends.append(tracking.client.get_run(run).info.end_time)
        time.sleep(0.01)
    assert (ends[1] == ends[0]) == (state == "FINISHED")
    assert ends[2] > ends[1]


def test_a_trial_that_failed_and_then_succeeds_has_no_error(store: Path) -> None:
    """As in a search that is resumed where the disk was full before."""
    tracking = Tracking(store, "mended")
    search = tracking.start("search", {"study": "s", "kind": "search"})
    for error in ("OSError: no space left on device", ""):
        run = tracking.start("trial 0", {"study": "s", "trial": "0"}, search)
        if error:
            tracking.set_tags(run, {ERROR: error})
        tracking.finish(run, "FAILED" if error else "FINISHED")
        (trial,) = tracking.trials("mended")
        assert (trial.error, trial.status) == (error, "FAILED" if error else "FINISHED")


def test_a_database_whose_making_was_cut_short_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow makes its tables one by one, and refuses what has only some of them."""
    import mlflow.store.db.utils as made

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(made, "_upgrade_db", killed)
        with pytest.raises(KeyboardInterrupt):
            Tracking(tmp_path, "study")
    assert not (tmp_path / "mlflow.db").exists()
    tracking = Tracking(tmp_path, "study")
    assert tracking.start("trial 0", {"study": "s"})
    assert not list(tmp_path.glob("*.part*"))
