"""A full disk: one line and status 1, nothing half-written, and it goes on once there is space."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TINY
from searches import finished, train

from lartpc_ray.runtime import failures
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.loop import Worker
from lartpc_ray.train.workers import FAILED, run_training_worker
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

ROOT = Path(__file__).parents[2]
MIB = 2**20


class Disk:
    """A small disk that a test fills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, left: int = 0) -> None:
        """Leave at most so many bytes."""
        with suppress(OSError), self._filler.open("wb") as file:
            while True:
                file.write(bytes(MIB // 16))
                file.flush()
        size = self._filler.stat().st_size
        os.truncate(self._filler, max(0, size - left))

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder, mount = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={24 * MIB}", "tmpfs", str(folder)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk is mounted by root only")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def half_written(folder: Path) -> list[str]:
    """Return the temporary files of a folder."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [name for name in names if ".part~" in name or ".artifact.uploading" in name]


def is_sound(store: Path) -> bool:
    with closing(sqlite3.connect(store)) as database:
        return bool(database.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def command(name: str, *words: str) -> tuple[int, str]:
    """Run a command as a user does; return its status and what it prints on stderr."""
    line = [sys.executable, "-m", f"lartpc_ray.{name}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment)
    status, _, err = finished(process)
    return status, err


def in_use(runs: Path, run: str) -> tuple[str, list[str]]:
    """Return the thresholds that predict uses, and the runs that are marked as those in use."""
    tracking = Tracking(runs, None)
    text = tracking.fetch(run, "thresholds-seeds.yaml", runs.parent.parent).read_text()
    return text, tracking.children(run, kind="thresholds", in_use="true")


def one_line(err: str, name: str) -> str:
    """Return the line of the error, which is the last one and the only one."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith(f"python -m lartpc_ray.{name}")]
    assert lines == err.splitlines()[-1:], err
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.h5", "out.parquet", "shards"])
def test_a_prediction_on_a_full_disk_leaves_nothing_and_is_made_once_there_is_space(
    disk: Disk, few_events: Path, name: str
) -> None:
    output = disk.path / name
    words = ["--run", str(ROOT / "models" / "clustering"), str(few_events / "test.h5")]
    words += ["--workers", "1", "-o", str(output)]
    disk.fill()
    status, err = command("predict", *words)
    line = one_line(err, "predict")
    assert status == 1, err
    assert "No space left on device" in line
    assert str(output) in line
    assert not list(disk.path.rglob("*.h5"))
    assert half_written(disk.path) == []
    disk.free()
    status, err = command("predict", *words)
    assert status == 0, err
    assert output.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_thresholds_on_a_full_disk_keep_those_in_use(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = disk.path / "runs"
    trial = make_trial(TINY)
    state = Checkpoint(trial, 4, trial.make_network().state_dict(), {}, [{"objective": 0.5}])
    tracking = Tracking(runs, "clustering")
    run = tracking.start("trial 0", {"trial": "0"})
    tracking.log_artifact(run, checkpoints.save(tmp_path / "saved", state))
    words = ["clustering", "--run", run, "--runs", str(runs), "--workers", "1", "--keep"]

    def tuned(*more: str) -> tuple[int, str]:
        status = run_command(thresholds.parser(), thresholds.main, [*words, *more])
        return status, capsys.readouterr().err

    assert tuned()[0] == 0
    before = in_use(runs, run)
    for left in (0, MIB // 16):
        disk.fill(left)
        status, err = tuned("--rule", "best")
        line = one_line(err, "thresholds")
        assert status == 1, err
        assert any(text in line for text in ("No space left", "disk is full", "disk I/O")), line
        disk.free()
        assert half_written(runs) == []
        assert is_sound(runs / "mlflow.db")
        assert in_use(runs, run) == before
    assert tuned("--rule", "best")[0] == 0
    after = in_use(runs, run)
    assert "rule: best" in after[0]
    assert len(after[1]) == 1
    assert after[1] != before[1]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("freed", [True, False])
def test_a_training_waits_for_space_and_goes_on(
    freed: bool, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the first validation; with no space it ends with the file's name."""
    folder, note = disk.path / "trial", tmp_path / "notes.txt"
    reports: list[float] = []

    def report(numbers: Mapping[str, float]) -> None:
        reports.append(numbers["step"])
        if len(reports) == 1:
            disk.fill()

    def train_now() -> None:
        labels = {"study": "tiny", "trial": "3"}
        run_training_worker(make_trial(TINY), folder, report, Worker(), note, labels)

    pause = disk.free if freed else lambda: None
    monkeypatch.setattr(failures, "time", SimpleNamespace(sleep=lambda _: pause()))
    if not freed:
        with pytest.raises(OSError, match=r"No space left on device: '.*/trial/.*-000000004\."):
            train_now()
        assert half_written(folder) == []
        assert [checkpoints.load(file).step for file in checkpoints.files(folder)] == [2]
        disk.free()
    train_now()
    assert sorted(set(reports)) == [2, 4]
    assert [checkpoints.load(file).step for file in checkpoints.files(folder)] == [2, 4]
    assert not (folder / FAILED).exists()
    lines = note.read_text().splitlines()
    assert len(lines) == (1 if freed else len(failures.WAITS))
    assert lines[0].endswith("s and tries again")


def short_waits(folder: Path) -> dict[str, str]:
    """Return variables with which all processes of a command wait a moment only before they retry.

    With `WAITS` a training waits for a minute, and Ray Train starts it three times more.
    """
    lines = ("from lartpc_ray.runtime import failures", "failures.WAITS = (0.1, 0.1)", "")
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


@pytest.mark.slow
def test_a_training_on_a_full_disk_goes_on_once_there_is_space(
    disk: Disk, few_events: Path, tmp_path: Path
) -> None:
    """It tries again and ends with the line that continues it."""
    runs, variables = disk.path / "runs", short_waits(tmp_path)
    runs.mkdir()
    settings = ("steps=40", "evaluate_every=4", "batchnorm_batches=2")
    words = [word for one in settings for word in ("--set", f"optimizer.{one}")]
    words += ["--budget", "smoke", "--data", str(few_events)]
    process = train(runs, *words, variables=variables)
    while not list(runs.rglob("step-*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    disk.fill()
    status, _, err = finished(process)
    line = one_line(err, "train")
    assert status == 1, err
    assert "No space left on device" in line
    assert "what is done is saved. To continue (failed trials, too: add --retry), run: " in line
    disk.free()
    (folder,) = (path.parent for path in runs.glob("*/job.json"))
    assert half_written(folder) == []
    assert is_sound(runs / "mlflow.db")
    kept = [checkpoints.load(file).step for file in sorted(folder.rglob("step-*.pt"))]
    assert kept
    assert max(kept) < 40, "it was full in the middle of the training"
    status, out, err = finished(train(runs, "--resume", str(folder)))
    assert status == 0, err
    assert "DBSCAN" in out
