"""Messages that name the cause: a locked file, rows never written, events of one voxel."""

import fcntl
from pathlib import Path

import h5py
import numpy as np
import pytest

from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.splits import sample
from lartpc_ray.runtime.failures import cause_of
from lartpc_ray.tasks import ClusteringTask, InfillTask
from lartpc_ray.tasks.task import Task
from lartpc_ray.trials.paths import make_trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_events(tmp_path / "few.h5", read_events(sample("test"), indices=range(3)))
    return tmp_path / "few.h5"


def without_rows(path: Path, rows: dict[str, set[int]]) -> Path:
    """Return a file in which rows of some datasets were not written."""
    new = path.with_name("unwritten.h5")
    with h5py.File(path) as old, h5py.File(new, "w") as file:
        for name in old:
            table = file.create_dataset(name, old[name].shape, dtype=old[name].dtype)
            for index in set(range(len(table))) - rows.get(name, set()):
                table[index] = old[name][index]
    return new


def test_a_file_that_another_program_writes_is_named_as_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"few\.h5: locked by a program that writes") as raised:
            open_events(path)
        assert "HDF5_USE_FILE_LOCKING=FALSE" in str(raised.value)
        assert cause_of(raised.value) == "machine", "a training waits for it"
    with open_events(path) as events:
        assert len(events) == 3


def test_a_disk_that_fails_is_an_error_with_the_name_of_the_file() -> None:
    """The first bytes of this file cannot be read, as those of a file on a failing disk."""
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'"):
        open_events("/proc/self/mem")


@pytest.mark.parametrize(
    "setting",
    [
        *("task.linked.s0", "task.linked.p0", "task.linked.kernel_overlap"),
        *("task.linked.max_voxel_distance", "task.linked.max_embedding_distance"),
        *("task.linked.min_cluster_voxels", "task.dbscan.eps", "task.dbscan.min_points"),
        *("task.pieces.join_probability", "task.pieces.min_cluster_voxels"),
    ],
)
def test_thresholds_without_a_point_are_refused_by_their_name(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"{setting}: .*at least 1"):
        make_trial({"task.name": "clustering", setting: []})


def test_events_that_were_never_written_are_counted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("point", "cluster", "cluster_extra")
    new = without_rows(path, {name: {1} for name in names})
    with open_events(new) as events:
        assert [len(event) > 0 for event in events] == [True, False, True]
    assert f"{new}: 1 of 3 events have no row; the program that made the file" in caplog.text
    caplog.clear()
    with open_events(path):
        assert not caplog.messages
    empty = path.with_name("empty.h5")
    event = next(read_events(path))
    write_events(empty, [event.select(np.zeros(len(event), bool))])
    with open_events(empty) as events:
        assert len(events[0]) == 0
    assert not caplog.messages, "an empty event has the row of its low-energy deposits"


@pytest.mark.parametrize("name", ["point", "cluster"])
def test_a_row_that_was_never_written_is_named(path: Path, name: str) -> None:
    new = without_rows(path, {name: {2}})
    with open_events(new, Layout(side=768)) as events:
        assert len(events[0]) > 0
        with pytest.raises(ValueError, match=rf"event 2: .* never wrote this row of {name}$"):
            events[2]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ClusteringTask(), r"has a cluster to score, of at least 10 voxels \(task\.min_voxels\)"),
        (InfillTask(), r"has a track to score, one that crosses a dead region \(task\.regions\)"),
    ],
)
def test_a_split_of_one_voxel_events_names_what_its_events_lack(task: Task, message: str) -> None:
    event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (8, 8, 8), semantic=np.ones(1))
    outputs = {name: np.ones(1) for name in ("margin", "seediness", "score")}
    with pytest.raises(ValueError, match=message):
        task.validate_on([(event, outputs | {"position": np.zeros((1, 3))})])
