"""Ray Train: the weights of the plain loop; workers lost, trials at fault, a run stopped."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from processes import descendants
from ray.train.torch import TorchTrainer

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import locked
from lartpc_ray.runtime.signals import CheckpointOnSignal
from lartpc_ray.train.loop import Worker, train
from lartpc_ray.train.workers import FAILED, device, refuse_failed, run_training_worker, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("tiny")

LABELS = {"study": "tiny", "trial": "0"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(sorted(folder.glob("step-*.pt"))[-1]).network


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once after an error of the machine."""
    monkeypatch.setattr("lartpc_ray.runtime.failures.WAITS", (0.0, 0.0))


@pytest.mark.slow
def test_a_trial_at_fault_leaves_its_reason_and_a_full_disk_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial({**TINY, "network.filters": 10**6})
    folder = tmp_path / "large"
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run_training_worker(trial, folder, print, Worker(), tmp_path / "notes.txt", LABELS)
    assert "can't allocate memory" in (folder / FAILED).read_text()
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        refuse_failed(folder)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run_training_worker(
            make_trial(TINY), tmp_path / "full", print, Worker(), tmp_path / "notes.txt", LABELS
        )
    refuse_failed(tmp_path / "full")


def test_what_a_lost_worker_does_to_the_others_is_not_their_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(error: Exception) -> None:
        def failing(*_: object, **__: object) -> None:
            (tmp_path / "run").mkdir(exist_ok=True)
            raise error

        monkeypatch.setattr("lartpc_ray.train.workers.train", failing)
        with pytest.raises(type(error)):
            run_training_worker(
                make_trial(TINY),
                tmp_path / "run",
                print,
                Worker(1, 2),
                tmp_path / "notes.txt",
                LABELS,
            )

    raises(RuntimeError("Connection closed by peer"))
    raises(AttributeError("'NoneType' object has no attribute 'size'"))  # the group is gone
    raises(ValueError("Default process group has not been initialized"))
    refuse_failed(tmp_path / "run")
    with monkeypatch.context() as there:
        there.setattr("torch.distributed.is_initialized", lambda: True)
        raises(KeyError("no such class"))
    assert (tmp_path / "run" / FAILED).read_text() == "KeyError: no such class"
    (tmp_path / "run" / FAILED).unlink()
    raises(FloatingPointError("step 3: the loss is nan"))
    raises(FloatingPointError("step 3: the second reason"))
    assert (tmp_path / "run" / FAILED).read_text() == "FloatingPointError: step 3: the loss is nan"


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    ready = get_context("fork").Event()

    def hold() -> None:
        with locked(tmp_path):
            ready.set()
            time.sleep(60)

    other = get_context("fork").Process(target=hold, daemon=True)
    other.start()
    assert ready.wait(20)
    with pytest.raises(ValueError, match=f"in use by process {other.pid} on"), locked(tmp_path):
        pass
    other.kill()  # and nothing else: the system gives the folder back
    other.join()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_a_signal_waits_for_checkpoints_then_stops(tmp_path: Path) -> None:
    stopped: list[int] = []
    folders = [tmp_path / "0", tmp_path / "not begun"]
    folders[0].mkdir()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        CheckpointOnSignal(lambda: folders, lambda number, _: stopped.append(number)).install()
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while not (folders[0] / CHECKPOINT_REQUEST).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert not stopped, "there is no checkpoint yet"
        (folders[0] / CHECKPOINT_REQUEST).unlink()
        while not stopped and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(stopped) == 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_gpus_where_there_are_none_are_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert device(make_trial(TINY)) == "cpu"
    with pytest.raises(ValueError, match=r"resources\.gpus: 0\.5: torch sees no GPU here"):
        device(make_trial({**TINY, "resources.gpus": 0.5}))


@pytest.mark.slow
def test_a_ray_that_starts_slowly_is_started_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    answers = [Exception("The current node timed out during startup."), None]

    def init(**_: object) -> SimpleNamespace:
        answer = answers.pop(0)
        if answer:
            raise answer
        return SimpleNamespace(address_info={"session_dir": "session"})

    announced: list[Path] = []
    monkeypatch.setattr(live, "write_prometheus_targets", announced.append)
    monkeypatch.setattr(ray, "init", init)
    with ray_session(1, dashboard=False):
        assert answers == []
    assert announced == [Path("session")]
    answers[:] = [Exception("timed out")] * 4
    with (
        pytest.raises(RuntimeError, match="Ray does not start: timed out"),
        ray_session(1, dashboard=False),
    ):
        pass
    assert len(answers) == 1
    answers[:] = [ConnectionError("no cluster"), None]
    with (
        pytest.raises(RuntimeError, match="Ray does not start: no cluster"),
        ray_session(1, dashboard=False),
    ):
        pass


def test_ray_train_asks_the_job_before_it_takes_ctrl_c() -> None:
    """By a name of its own, that another version may change; then Ctrl-C leaves no checkpoint."""
    assert callable(getattr(TorchTrainer, "_register_sigint_handler"))  # noqa: B009
    job = trainer(make_trial(TINY), Path("checkpoints"), Path("ray"), Path("notes.txt"), [], LABELS)
    before = signal.getsignal(signal.SIGINT)
    job._register_sigint_handler(None)  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGINT) is before


def kill_one(title: str, folder: Path) -> threading.Thread:
    """End one descendant with that title after the first checkpoint of ten steps or more."""

    def end() -> None:
        while not [file for file in folder.glob("step-*.pt") if int(file.stem[5:]) >= 10]:
            time.sleep(0.05)
        found = [one for one, line in descendants(os.getpid()).items() if title in line]
        os.kill(found[0], signal.SIGKILL)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    return thread


def listening(pid: int) -> set[str]:
    """Return the addresses on which a process listens, as the kernel writes them."""
    sockets = set()
    with suppress(FileNotFoundError):  # the process has ended meanwhile
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                sockets.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
    tables = (Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6"))
    rows = [line.split() for lines in tables for line in lines]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


@pytest.mark.slow
def test_a_ray_of_ones_own_listens_on_loopback_only_and_leaves_stdout_to_the_results(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It would print there why a node was lost, into the JSON that a program reads."""
    import ray
    from ray._private.utils import publish_error_to_driver

    with ray_session(1, dashboard=False):
        client = vars(ray._private.worker.global_worker)["gcs_client"]
        publish_error_to_driver("raylet_died", "a node was lost", client)
        assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
        found = set.union(*(listening(pid) for pid in {os.getpid(), *descendants(os.getpid())}))
        time.sleep(1)  # a thread would print it
    assert capfd.readouterr().out == ""
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", f"{'0' * 24}01000000"}
    assert found
    assert found <= loopback


@pytest.mark.slow
def test_ray_train_gives_the_weights_of_the_plain_loop(tmp_path: Path) -> None:
    """One worker; two; two of which one is killed; a trial at fault; one where two were asked."""
    trial = make_trial(TINY)
    two = make_trial({**TINY, "resources.workers": 2, "optimizer.steps": 40})
    bad = make_trial({**TINY, "optimizer.learning_rate": 1e30, "optimizer.steps": 40})
    note = tmp_path / "notes.txt"
    train(trial, tmp_path / "plain", lambda _: None)

    def fit(chosen: Trial, name: str) -> None:
        trainer(chosen, tmp_path / name, tmp_path / "ray", note, [], LABELS).fit()

    with ray_session(2, dashboard=False):
        fit(trial, "one")
        fit(two, "two")
        killer = kill_one("RayTrainWorker", tmp_path / "killed")
        fit(two, "killed")
        killer.join(1)
        fit(bad, "bad")
    fewer = {"resources.workers": 2, "resources.min_workers": 1}
    train(make_trial({**TINY, "optimizer.accumulate": 2}), tmp_path / "parts", lambda _: None)
    with ray_session(1, dashboard=False):
        fit(make_trial({**TINY, **fewer}), "fewer")
    wanted, found = weights(tmp_path / "parts"), weights(tmp_path / "fewer")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    wanted, found = weights(tmp_path / "plain"), weights(tmp_path / "one")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not killer.is_alive()
    wanted, found = weights(tmp_path / "two"), weights(tmp_path / "killed")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert re.match("(FloatingPoint|Value)Error: ", (tmp_path / "bad" / FAILED).read_text())


def train_command(runs: Path, *more: str) -> subprocess.Popen[str]:
    longer = TINY | {"optimizer.steps": 200, "optimizer.evaluate_every": 5}
    settings = [f"--set={key}={value}" for key, value in longer.items()]
    command = [sys.executable, "-m", "lartpc_ray.train", "clustering", "--budget", "smoke"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--runs", str(runs), *settings, *more],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=environment,
        cwd=runs,
    )


TOLD_LATE = """
import os, signal, threading
from lartpc_ray.runtime.ray_session import ray_session

try:
    with ray_session(1, dashboard=False):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
except KeyboardInterrupt:
    print("told")
"""


@pytest.mark.slow
def test_a_signal_while_ray_ends_is_heard() -> None:
    """Ray's own end takes a second in which SIGTERM would kill without a word."""
    found = subprocess.run([sys.executable, "-c", TOLD_LATE], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "told\n"), found.stderr


@pytest.mark.slow
def test_a_scheduler_stops_a_training_and_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = train_command(tmp_path / "whole")
    out, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    cut = train_command(tmp_path / "cut")
    assert cut.stderr is not None
    for text in cut.stderr:
        if re.match(r"step +10 ", text):
            break
    cut.send_signal(signal.SIGUSR1)
    _, err = cut.communicate(timeout=120)
    assert cut.returncode == 130, err
    assert "Traceback" not in err
    (again,) = set(re.findall(r"--resume (\S+)", err))  # once at the signal, once at the end
    (checkpoint,) = sorted((Path(again) / "checkpoints").glob("step-*.pt"))[-1:]
    assert checkpoints.load(checkpoint).step < 200
    resumed = train_command(tmp_path / "cut", "--resume", again)
    second, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert second.split("every metric")[0] == out.split("every metric")[0]
    (folder,) = (tmp_path / "whole").glob("clustering-*/checkpoints")
    wanted, found = weights(folder), weights(Path(again) / "checkpoints")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_a_scheduler_that_stops_driver_and_workers_at_once_gets_the_command_to_resume(
    tmp_path: Path,
) -> None:
    """Ray's processes end with the workers, and may end the driver inside a wait for them."""
    cut = train_command(tmp_path, "--workers", "2")
    assert cut.stderr is not None
    for text in cut.stderr:
        if re.match(r"step +10 ", text):
            break
    for process in [cut.pid, *descendants(cut.pid)]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    _, err = cut.communicate(timeout=120)
    (again,) = set(re.findall(r"run:\n  python -m lartpc_ray.train clustering --resume (.*)", err))
    assert list((Path(again) / "checkpoints").glob("step-*.pt"))
