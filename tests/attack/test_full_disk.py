"""A full disk: one line and status 1, nothing half-written, and it goes on once there is space."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import TINY
from searches import finished, train

from lartpc_ray.tracking.runs import Tracking
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


def thresholds(runs: Path, run: str, *more: str) -> tuple[int, str]:
    words = ["clustering", "--run", run, "--runs", str(runs), "--workers", "1", "--keep", *more]
    command = [sys.executable, "-m", "lartpc_ray.thresholds", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    status, _, err = finished(process)
    return status, err


def in_use(runs: Path, run: str) -> tuple[str, list[str]]:
    """Return the thresholds that predict uses, and the runs that are marked as those in use."""
    tracking = Tracking(runs, None)
    text = tracking.fetch(run, "thresholds-seeds.yaml", runs.parent.parent).read_text()
    return text, tracking.children(run, kind="thresholds", in_use="true")


def one_line(err: str, command: str) -> str:
    """Return the line of the error, which is the last one and the only one."""
    assert "Traceback" not in err
    lines = [
        line for line in err.splitlines() if line.startswith(f"python -m lartpc_ray.{command}")
    ]
    assert lines == err.splitlines()[-1:], err
    return lines[0]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_thresholds_on_a_full_disk_keep_those_in_use(disk: Disk, tmp_path: Path) -> None:
    runs = disk.path / "runs"
    trial = make_trial(TINY)
    state = Checkpoint(trial, 4, trial.make_network().state_dict(), {}, [{"objective": 0.5}])
    tracking = Tracking(runs, "clustering")
    run = tracking.start("trial 0", {"trial": "0"})
    tracking.log_artifact(run, checkpoints.save(tmp_path / "saved", state))
    status, err = thresholds(runs, run)
    assert status == 0, err
    before = in_use(runs, run)
    for left in (0, MIB // 16):
        disk.fill(left)
        status, err = thresholds(runs, run, "--rule", "best")
        line = one_line(err, "thresholds")
        assert status == 1, err
        assert any(text in line for text in ("No space left", "disk is full", "disk I/O")), line
        disk.free()
        assert half_written(runs) == []
        assert is_sound(runs / "mlflow.db")
        assert in_use(runs, run) == before
    status, err = thresholds(runs, run, "--rule", "best")
    assert status == 0, err
    after = in_use(runs, run)
    assert "rule: best" in after[0]
    assert len(after[1]) == 1
    assert after[1] != before[1]


@pytest.mark.slow
def test_a_training_on_a_full_disk_goes_on_once_there_is_space(
    disk: Disk, few_events: Path
) -> None:
    """It waits for a minute and ends with the line that continues it."""
    runs = disk.path / "runs"
    runs.mkdir()
    settings = ("steps=40", "evaluate_every=4", "batchnorm_batches=2")
    words = [word for one in settings for word in ("--set", f"optimizer.{one}")]
    process = train(runs, "--budget", "smoke", "--data", str(few_events), *words)
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
    (folder,) = (path.parent for path in runs.glob("*/plan.json"))
    assert half_written(folder) == []
    assert is_sound(runs / "mlflow.db")
    kept = [checkpoints.load(file).step for file in sorted(folder.rglob("step-*.pt"))]
    assert kept
    assert max(kept) < 40, "it was full in the middle of the training"
    status, out, err = finished(train(runs, "--resume", str(folder)))
    assert status == 0, err
    assert "DBSCAN" in out
