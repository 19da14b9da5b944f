"""Folders of files: PILArNet-M as it is published, in shards with sidecar files."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import make_event
from test_files import ONE, TWO, point, write_raw

from lartpc_ray.data import __main__ as data
from lartpc_ray.data import shards as module
from lartpc_ray.data.convert import difference
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.tables import Version
from lartpc_ray.data.splits import Splits
from lartpc_ray.predict.sources import event_files
from lartpc_ray.runtime.arguments import chosen_space, read_splits, study_parser
from lartpc_ray.terminal.command import run
from lartpc_ray.tracking.provenance import sources

LAYOUT = Layout(side=16, classes=ClassMap(low_energy="unlabelled"))


def write_shards(
    rng: np.random.Generator, folder: Path, counts: list[int], version: Version = "v2"
) -> None:
    folder.mkdir(parents=True)
    for number, count in enumerate(counts):
        path = folder / f"generic_v2_{number}_{version}.h5"
        write_events(path, (make_event(rng, 5 + number) for _ in range(count)), version=version)
    (folder / "README.md").write_text("not events")


@pytest.fixture
def published(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write a small PILArNet-M as it is published: train, val and test in shards."""
    for split, counts in {"train": [3, 2, 4], "val": [4, 3], "test": [2]}.items():
        write_shards(rng, tmp_path / "PM" / split, counts)
    return tmp_path / "PM"


def test_the_events_of_a_folder_are_those_of_its_files(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    files = sorted((published / "train").glob("*.h5"))
    expected = [event for path in files for event in open_events(path, LAYOUT)]
    with open_events(published / "train", LAYOUT) as events:
        assert len(events) == 9
        assert events.kind == "3 files of PILArNet-M v2"
        for index in (8, 0, 5, 3, 4, 8, -1 + 1):
            assert difference(events[index], expected[index]) is None
        assert events.voxels(6) == 7
        assert len(vars(events)["_opened"]) == 2
        assert [len(event) for event in events[2:4]] == [5, 6]
        with pytest.raises(IndexError, match="event 9 of 9"):
            events[9]


def test_val_is_the_tune_split_or_a_part_of_it(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = Splits(path=str(published), layout=LAYOUT)
    assert [len(splits.events(name)) for name in ("train", "tune", "test")] == [9, 7, 2]
    few = splits.model_copy(update={"val_events": 3})
    part = few.events("tune")
    assert len(part) == 3
    assert [len(event) for event in part] == [len(event) for event in few.events("tune")]
    assert few.drawn_from() == 7
    arguments = ["clustering", "--data", str(published), "--set", "data.splits.val_events=3"]
    with caplog.at_level("INFO", "lartpc_ray"):
        space = chosen_space(study_parser("tune", "", "").parse_args(arguments))
        read_splits(space.first_trial())
    train, val = published / "train", published / "val"
    assert caplog.messages[1:] == [
        f"{train}: 9 events in 3 files of PILArNet-M v2",
        f"tune split: 3 of 7 events of {val}, random",
    ]


def test_tune_comes_before_val_and_a_missing_split_is_named(
    published: Path, rng: np.random.Generator, tmp_path: Path
) -> None:
    write_events(published / "tune.h5", [make_event(rng)])
    splits = Splits(path=str(published), layout=LAYOUT)
    assert splits.file("tune") == published / "tune.h5"
    assert splits.drawn_from() is None
    (published / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"PM: no test\.h5 in this folder, .* and no folder test/"):
        splits.events("test")


def test_the_size_and_the_missing_hip_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train").mkdir()
    old = [row[:5] for row in ONE]
    write_raw(tmp_path / "train" / "generic_1_v1.h5", [TWO], [old])
    write_raw(tmp_path / "train" / "generic_2_v2.h5", [[point(1, 700, 1)]], [[[1, *ONE[0][1:]]]], 9)
    with caplog.at_level("INFO", "lartpc_ray"), open_events(tmp_path / "train") as events:
        assert events[0].shape == events[1].shape == (768, 768, 768)
        kinds = "1 file of PILArNet-M v1, 1 file of PILArNet-M v3, packed: 9 columns"
        assert events.kind == f"{kinds} in cluster_extra"
    assert caplog.messages == [
        f"{tmp_path / 'train'}: layout v1 has no particle code: a proton is MIP, no voxel is HIP",
        "image size: 768 voxels per side, from the file",
    ]


@pytest.mark.parametrize("split", ["test", "train"])
def test_inspect_and_convert_name_the_files_of_a_folder_once(
    published: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    folder, files = published / split, "1 file" if split == "test" else "3 files"
    for words, line in (
        (["inspect"], f"{folder}: {files} of PILArNet-M v2"),
        (["convert", str(published / "new.h5"), "--events", "0:2"], f"{folder}: {files} of PILAr"),
    ):
        assert run(data.parser(), data.main, [words[0], str(folder), *words[1:]]) == 0
        printed = "".join(capsys.readouterr())
        assert line in printed
        assert printed.count("PILArNet-M v2") == 1


def test_a_sidecar_gives_the_number_of_voxels(published: Path) -> None:
    sidecar = published / "train" / "generic_v2_1_v2_points.npy"
    np.save(sidecar, np.array([70, 71]))
    with open_events(published / "train", LAYOUT) as events:
        assert [events.voxels(index) for index in (2, 3, 4, 5)] == [5, 70, 71, 7]
    np.save(sidecar, np.array([70]))
    with pytest.raises(ValueError, match=r"points\.npy: int64 of shape \(1,\) for 2 events"):
        open_events(published / "train", LAYOUT)


def test_a_broken_shard_is_named(published: Path) -> None:
    bad = published / "train" / "generic_v2_1_v2.h5"
    write_raw(bad, [[point(1, 1, 99)] * 2], [ONE], 5)
    with (
        open_events(published / "train", LAYOUT) as events,
        pytest.raises(ValueError, match=r"^.*generic_v2_1_v2\.h5: event 0: voxel 0: position"),
    ):
        events[3]
    bad.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"generic_v2_1_v2\.h5: not a readable HDF5 file"):
        open_events(published / "train", LAYOUT)
    with pytest.raises(ValueError, match="no event file"):
        open_events(published, LAYOUT)


def test_the_digest_of_a_folder_follows_its_files(published: Path, tmp_path: Path) -> None:
    splits = Splits(path=str(published))
    before = sources(splits, tmp_path)
    assert before["train"].size == sum(f.stat().st_size for f in published.glob("train/*.h5"))
    assert sources(splits, tmp_path) == before
    one = next(published.glob("train/*.h5"))
    one.write_bytes(one.read_bytes()[:-1] + b"x")
    after = sources(splits, tmp_path)
    assert after["train"].digest != before["train"].digest
    assert after["test"] == before["test"]


def test_a_link_to_nothing_and_a_pipe_are_no_missing_events(published: Path) -> None:
    shard = published / "train" / "generic_v2_1_v2.h5"
    shard.unlink()
    shard.symlink_to("/elsewhere/shard.h5")
    with pytest.raises(ValueError, match=r"1_v2\.h5: a link to /elsewhere/shard\.h5, which is no"):
        open_events(published / "train", LAYOUT)
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(ValueError, match=r"1_v2\.h5: a pipe or a device, which is no file"):
        open_events(published / "train", LAYOUT)
    shard.unlink()
    shard.mkdir()
    with open_events(published / "train", LAYOUT) as events:
        assert len(events) == 7, "a folder is no event file"


def test_a_sidecar_without_its_file_is_reported(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = published / "train"
    np.save(folder / "generic_v2_7_v2_points.npy", np.arange(3))
    np.save(folder / "generic_v2_0_v2_points.npy", np.arange(3))
    with caplog.at_level("WARNING", "lartpc_ray"), open_events(folder) as events:
        assert len(events) == 9
    assert caplog.messages == [
        f"{folder}: generic_v2_7_v2_points.npy without the events; a file of the folder is missing"
    ]


def test_a_damaged_sidecar_says_what_to_do(published: Path) -> None:
    (published / "train" / "generic_v2_1_v2_points.npy").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"1_v2_points\.npy: .*; remove the sidecar file or write"):
        open_events(published / "train", LAYOUT)


def test_tables_beside_predicted_events_are_no_event_files(published: Path) -> None:
    """`predict` of a folder takes the files that `inspect` takes."""
    folder = published / "test"
    (before,) = event_files([folder])
    (folder / "generic_v2_0_v2.clusters.parquet").write_bytes(b"")
    (folder / "generic_v2_0_v2.metrics.parquet").write_bytes(b"")
    (folder / "more.csv").write_text("event,x,y,z,energy\n0,1,1,1,0.5\n")
    assert event_files([folder]) == (before, folder / "more.csv")
    with open_events(folder, LAYOUT) as events:
        assert len(events) == 3


def test_the_end_of_a_name_may_have_capitals(published: Path) -> None:
    """Such a shard was left out without a line."""
    shard = sorted((published / "train").glob("*.h5"))[-1]
    shard.rename(shard.with_suffix(".H5"))
    with open_events(published / "train", LAYOUT) as events:
        assert [len(event) for event in events] == [5, 5, 5, 6, 6, 7, 7, 7, 7]


def test_an_empty_shard_is_no_event(published: Path, rng: np.random.Generator) -> None:
    write_events(published / "train" / "generic_v2_0a_v2.h5", [], version="v2")
    with open_events(published / "train", LAYOUT) as events:
        assert [len(event) for event in events] == [5, 5, 5, 6, 6, 7, 7, 7, 7]


def test_a_voxel_is_numbered_as_in_the_file_and_a_cut_table_is_named(tmp_path: Path) -> None:
    clusters = [[2, 0, -1, 0, 4, -1], [2, 0, 0, 0, 1, 0]]
    voxels = [point(1, 1, 1), point(2, 1, 1), point(3, 1, 1), point(4, 1, 1)]
    voxels[3][3] = np.nan
    write_raw(tmp_path / "a.h5", [voxels], [clusters], 5)
    with open_events(tmp_path / "a.h5") as events, pytest.raises(ValueError, match="voxel 3: ener"):
        events[0]
    voxels[3] = point(-4, 1, 1)
    write_raw(tmp_path / "a.h5", [voxels], [clusters], 5)
    with (
        open_events(tmp_path / "a.h5") as events,
        pytest.raises(ValueError, match=r"event 0: voxel 3: position \[-4.*: voxel indices start"),
    ):
        events[0]
    voxels[3] = point(4, 1, 1)
    write_raw(tmp_path / "a.h5", [voxels] * 2, [clusters] * 2, 5)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        first = file["cluster_extra"][:1]
        del file["cluster_extra"]
        file.create_dataset("cluster_extra", (1,), h5py.vlen_dtype(np.float32))[0] = first[0]
    with (
        open_events(tmp_path / "a.h5") as events,
        pytest.raises(ValueError, match=r"a\.h5: event 1: cluster_extra holds 1 events, point 2"),
    ):
        events.tables(1)
