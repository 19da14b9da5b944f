"""Errors of the machine and missing folders: the right file, the right cause, the right status."""

import errno
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lartpc_ray.atomic import read_json, replace_file, write_json
from lartpc_ray.data.__main__ import main as data_main
from lartpc_ray.data.__main__ import parser as data_parser
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats import hdf5
from lartpc_ray.data.formats.source import BrokenFileError, EventSource
from lartpc_ray.data.splits import Splits, sample
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.tables import read_clusters
from lartpc_ray.predict.thresholds_file import fetch_thresholds
from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.failures import cause_of
from lartpc_ray.terminal.command import run
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import StoreError
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.yaml_file import read_yaml

NUMBERS = (errno.EIO, errno.ESTALE, errno.EMFILE)


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", ["open", "event"])
def test_a_disk_that_fails_below_a_reader_is_a_failure_and_no_wrong_argument(
    place: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner, name = {"open": (hdf5, "_open"), "event": (EventSource, "_make_event")}[place]
    monkeypatch.setattr(owner, name, failing(system_error(number)))
    status = run(data_parser(), data_main, ["inspect", "sample/test"])
    text = capsys.readouterr().err.splitlines()[-1]
    assert status == 1
    assert os.strerror(number) in text
    assert str(sample("test")) in text
    assert "cut short" not in text


def test_a_wrong_file_stays_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no events")
    for name in ("text.h5", "none.h5"):
        assert run(data_parser(), data_main, ["inspect", str(tmp_path / name)]) == 2


def test_a_file_that_another_process_writes_stays_a_wrong_argument(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    words = ["simulate", str(path), "--events", "1", "--side", "64"]
    with replace_file(path, exclusive=True) as part:
        part.touch()
        assert run(data_parser(), data_main, words) == 2


def test_a_file_whose_folder_does_not_exist_is_refused_with_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "out.h5"
    with pytest.raises(FileNotFoundError, match=r"out\.h5: there is no folder .*none; make it"):
        write_json(path, 1)
    with (
        pytest.raises(FileNotFoundError, match=r"there is no folder"),
        replace_file(path, exclusive=True),
    ):
        pass


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    """An input that cannot be read while an output is written is no fault of the output."""
    error = OSError(errno.EIO, "Input/output error", "input.h5")
    with pytest.raises(OSError, match=r"'input\.h5'"), replace_file(tmp_path / "out.h5"):
        raise error
    error = OSError(errno.EACCES, "Permission denied", str(tmp_path / "out.h5.part~lock"))
    with pytest.raises(OSError, match=r"'.*/out\.h5'$"), replace_file(tmp_path / "out.h5"):
        raise error


def saved(folder: Path) -> Path:
    trial = make_trial({"network.depth": 2, "network.filters": 1, "network.blocks": 1})
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [])
    return checkpoints.save(folder, state)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives the name of a file to an open that fails, not to a read."""
    checkpoint = saved(tmp_path)
    for name in ("a.json", "a.yaml"):
        (tmp_path / name).write_text('{"a": 1}')

    class Failing:
        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, *_: Any) -> None:
            raise system_error(errno.EIO)

        readline = read

    monkeypatch.setattr(Path, "open", lambda *_, **__: Failing())
    reads = {"a.json": read_json, "a.yaml": read_yaml, checkpoint.name: checkpoints.load}
    for name, read in reads.items():
        with pytest.raises(OSError, match=rf"Input/output error: '.*/{name}'"):
            read(tmp_path / name)


@pytest.mark.parametrize("number", NUMBERS)
def test_tables_of_a_prediction_that_the_machine_cannot_read_now_are_not_called_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.h5", "one.clusters.parquet"):
        (tmp_path / name).touch()
    monkeypatch.setattr(pd, "read_parquet", failing(system_error(number)))
    with pytest.raises(OSError, match=r"one\.clusters\.parquet: cannot be read now") as raised:
        read_clusters(tmp_path / "one.h5")
    assert cause_of(raised.value) == "machine"


@pytest.mark.parametrize("number", NUMBERS)
def test_an_untrained_network_is_not_compared_without_its_fit_after_an_error_of_the_machine(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a train split it has no fit; with one that cannot be read now nothing is compared."""
    caplog.set_level("INFO", "lartpc_ray")
    trial = make_trial(
        {
            "task.name": "clustering",
            "task.joining_events": 1,
            "task.method": "pieces",
            "network.depth": 2,
        }
    )
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [])
    unreadable = BrokenFileError("train.h5: cannot be read now")
    unreadable.__cause__ = system_error(number)
    monkeypatch.setattr(Splits, "events", failing(unreadable))
    with pytest.raises(BrokenFileError, match="cannot be read now"):
        _ = Evaluation(state).untrained
    assert not caplog.messages
    absent = BrokenFileError("no train split")
    monkeypatch.setattr(Splits, "events", failing(absent))
    assert Evaluation(state).untrained.network
    assert "no train split" in caplog.text


def test_a_full_memory_does_not_make_a_checkpoint_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training would continue from an earlier checkpoint, or from its start."""
    file = saved(tmp_path)
    monkeypatch.setattr(torch, "load", failing(MemoryError()))
    with pytest.raises(MemoryError):
        checkpoints.load(file)


def test_an_artifact_that_cannot_be_copied_is_not_reported_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = Tracking(tmp_path / "runs", "study")
    number = tracking.start("run", {"study": "run"})
    tracking.log_artifact(number, saved(tmp_path))
    with pytest.raises(ValueError, match=r"no thresholds-seeds\.yaml in sqlite"):
        tracking.fetch(number, "thresholds-seeds.yaml", tmp_path)
    for name in ("copyfile", "copy2", "copy", "copytree"):
        monkeypatch.setattr(shutil, name, failing(system_error(errno.EMFILE)))
    with pytest.raises(StoreError, match=r"checkpoint\.pt of run .* cannot be copied"):
        tracking.fetch(number, checkpoints.FILE, tmp_path)


def test_a_run_without_thresholds_names_the_command_that_tunes_them(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no thresholds-seeds\.yaml .*lartpc_ray\.thresholds NAME --run .* --keep"
    ):
        fetch_thresholds(Tracking(tmp_path, None), str(tmp_path), "seeds", tmp_path)


def test_the_command_that_tunes_thresholds_works_for_any_folder(tmp_path: Path) -> None:
    run, runs = tmp_path / "my run", tmp_path / "my results"
    run.mkdir()
    with pytest.raises(ValueError, match="tune them") as caught:
        fetch_thresholds(Tracking(runs, None), str(run), "seeds", tmp_path)
    words = f"NAME --run '{run}' --runs '{runs}' --method seeds --keep, or"
    assert f"python -m lartpc_ray.thresholds {words}" in str(caught.value)


def test_a_wrong_value_of_an_option_is_one_short_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["inspect", "sample/test"], ["simulate", str(tmp_path / "a.h5")]):
        assert run(data_parser(), data_main, [*words, "--side", "0"]) == 2
        (text,) = capsys.readouterr().err.splitlines()
        begin = f"python -m lartpc_ray.data {words[0]}: argument --side: 0: give a whole number "
        assert text == f"{begin}from 1 to 1048576; see --help"


def test_a_folder_or_a_pipe_is_not_called_absent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(ValueError, match=r"pipe\.h5: a pipe or a device; give a file of events"):
        open_events(tmp_path / "pipe.h5")
    with pytest.raises(IsADirectoryError, match="a folder; give the name of a file"):
        write_json(tmp_path, 1)


def test_first_weights_that_do_not_exist_are_refused_before_a_training(tmp_path: Path) -> None:
    for path in ("/nonexistent", "/dev/zero"):
        with pytest.raises(ValueError, match=f"{path}: no such checkpoint"):
            read_splits(make_trial({"start_weights": path}))
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"start_weights: .* take the network and task settings"):
        read_splits(make_trial({"start_weights": str(tmp_path), "network.depth": 3}))


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"MLflow http://\[::1: no address \(Invalid IPv6 URL\)"):
        Tracking(tmp_path, "study", "http://[::1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s3c/ret@127.0.0.1/db")
    with pytest.raises(StoreError, match="no valid port; in a password write / as %2F") as no:
        Tracking(tmp_path, "study")
    assert "s3c" not in str(no.value)
    assert "ret" not in str(no.value)


def test_a_full_disk_below_the_store_is_one_line_and_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow prints the traceback of an error of its database, and raises the error, too."""
    tracking = Tracking(tmp_path, "study")
    number = tracking.start("run", {"study": "run"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "mlflow.db").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"sqlite3\.OperationalError") as full:
            tracking.set_tags(number, {f"tag {count}": "x" * 4000 for count in range(50)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    text = str(full.value)
    assert "SQL:" not in text
    assert "autoflush" not in text
    assert "Traceback" not in capfd.readouterr().err
