"""Errors of the machine, by errno, in a training: tried again, and never booked on the trial."""

import errno
import os
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import pytest
from conftest import TINY

from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats import hdf5
from lartpc_ray.data.formats.source import BrokenFileError
from lartpc_ray.data.splits import sample
from lartpc_ray.runtime import failures
from lartpc_ray.runtime.failures import cause_of
from lartpc_ray.train.loop import Worker
from lartpc_ray.train.workers import FAILED, run_training_worker
from lartpc_ray.trials.paths import make_trial

import_module("torch._dynamo.utils")  # a fault in its first import would leave half of it

pytestmark = pytest.mark.usefixtures("tiny")
NUMBERS = ("EIO", "ESTALE", "EMFILE", "ENFILE", "EAGAIN", "ENOSPC", "EDQUOT", "ENOMEM", "EACCES")
LABELS = {"study": "tiny", "trial": "3"}


def times(count: int, error: Callable[[], Exception], real: Callable[..., Any]) -> Any:
    """Raise an error so many times, then do the real thing."""
    left = [count]

    def replaced(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return real(*arguments, **options)

    return replaced


class Training:
    """A trial of four steps, its reports and its notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[dict[str, float]] = []
        self.pause: Callable[[], Any] = lambda: None

    def run(self, **settings: Any) -> None:
        note = self.folder / "notes.txt"
        trial = make_trial({**TINY, **settings})
        run_training_worker(
            trial, self.folder / "trial", self.reports.append, Worker(), note, LABELS
        )

    @property
    def steps(self) -> list[float]:
        return [numbers["step"] for numbers in self.reports]

    @property
    def notes(self) -> list[str]:
        file = self.folder / "notes.txt"
        return file.read_text().splitlines() if file.is_file() else []

    @property
    def failed(self) -> bool:
        return (self.folder / "trial" / FAILED).exists()


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    made = Training(tmp_path)
    monkeypatch.setattr(failures, "time", SimpleNamespace(sleep=lambda _: made.pause()))
    return made


@pytest.mark.parametrize("name", NUMBERS)
def test_an_error_of_the_system_has_the_machine_as_its_cause_also_inside_a_reader(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, name)
    assert cause_of(OSError(number, os.strerror(number))) == "machine"
    error = times(1, lambda: OSError(number, os.strerror(number)), h5py.File)
    with monkeypatch.context() as patch:
        patch.setattr(hdf5, "_open", error)
        with pytest.raises(BrokenFileError, match="test") as raised:
            open_events(sample("test"))
    assert cause_of(raised.value) == "machine"
    with open_events(sample("test")) as events:
        error = times(1, lambda: OSError(f"read failed: errno = {number}"), events._event)
        monkeypatch.setattr(events, "_event", error)
        with pytest.raises(BrokenFileError, match="event 0") as raised:
            events[0]
    assert cause_of(raised.value) == "machine"


def test_a_damaged_file_has_the_user_and_a_bad_loss_the_trial_as_its_cause(tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for wrong, cause in {"cut.h5": "user", "none.h5": "machine"}.items():
        with pytest.raises(BrokenFileError) as raised:
            open_events(tmp_path / wrong)
        assert cause_of(raised.value) == cause
    assert cause_of(RuntimeError("can't start new thread")) == "machine"
    for error in (FloatingPointError("nan"), MemoryError(), KeyError("x"), RuntimeError("shape")):
        assert cause_of(error) == "trial"


@pytest.mark.slow
@pytest.mark.parametrize(("where", "name"), [("fsync", "EIO"), ("replace", "ESTALE")])
def test_a_training_meets_an_error_and_goes_on(
    training: Training, where: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its checkpoint is written; each report comes once."""
    number = getattr(errno, name)
    real = getattr(os, where)
    error = times(2, lambda: OSError(number, os.strerror(number)), real)

    def of_a_checkpoint(*arguments: Any) -> Any:
        is_other = where == "replace" and Path(arguments[1]).suffix != ".pt"
        return real(*arguments) if is_other else error(*arguments)

    monkeypatch.setattr(os, where, of_a_checkpoint)
    training.run()
    assert training.steps == [2, 4]
    assert not training.failed
    assert len(training.notes) == 2
    assert training.notes[0].startswith("trial 3: ")
    assert os.strerror(number) in training.notes[0]
    assert training.notes[0].endswith("; waits 2 s and tries again")


def test_a_file_away_for_a_moment_is_waited_for(training: Training, few_events: Path) -> None:
    """Renamed while the trial starts."""
    folder = training.folder / "events"
    folder.mkdir()
    for name in ("train", "tune", "test"):
        (folder / f"{name}.h5").write_bytes((few_events / f"{name}.h5").read_bytes())
    (folder / "train.h5").rename(folder / "away")
    training.pause = lambda: (folder / "away").rename(folder / "train.h5")
    training.run(**{"data.splits.path": str(folder)})
    assert training.steps == [2, 4]
    assert "no train.h5" in training.notes[0]
    assert not training.failed


@pytest.mark.slow
def test_an_error_that_stays_ends_the_attempts_and_is_not_booked_on_the_trial(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = times(99, lambda: OSError(errno.ENOSPC, "No space left on device"), os.fsync)
    monkeypatch.setattr(os, "fsync", error)
    with pytest.raises(OSError, match="No space left"):
        training.run()
    assert len(training.notes) == len(failures.WAITS)
    assert not training.failed


def test_no_more_threads_or_files_do_not_end_a_trial(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = times(1, lambda: RuntimeError("can't start new thread"), threading.Thread.start)
    monkeypatch.setattr(threading.Thread, "start", error)
    training.run(**{"data.prefetch": 2})
    assert training.steps == [2, 4]
    assert "can't start new thread" in training.notes[0]


def test_a_damaged_event_is_booked_at_once_with_its_file(training: Training) -> None:
    folder = training.folder / "events"
    folder.mkdir()
    for name in ("train", "tune", "test"):
        write_events(folder / f"{name}.h5", read_events(sample("tune"), indices=range(2)))
    with h5py.File(folder / "train.h5", "r+") as file:
        for index in range(2):
            file["point"][index] = file["point"][index][:-3]
    with pytest.raises(BrokenFileError, match=r"train\.h5: event"):
        training.run(**{"data.splits.path": str(folder)})
    assert training.failed
    assert not training.notes
