import lzma
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data import __main__ as data
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.splits import Split, Splits, sample
from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.terminal.command import run

Version = Literal["v1", "v2", "v3"]

SMALL = Layout(side=16)


def write_raw(path: Path, points: list[Any], clusters: list[Any], extra: int | None = None) -> Path:
    """Write a file with these rows as another program would."""
    with h5py.File(path, "w") as file:
        for name, rows, kind in (("point", points, np.float32), ("cluster", clusters, np.int64)):
            file.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(kind))
            for place, row in enumerate(rows):
                file[name][place] = np.asarray(row, kind).ravel()
        if extra:
            kind = h5py.vlen_dtype(np.float32)
            file.create_dataset("cluster_extra", (len(clusters),), dtype=kind)
            for place, row in enumerate(clusters):
                file["cluster_extra"][place] = np.zeros(len(row) * extra, np.float32)
    return path


def point(x: float, y: float, z: float, energy: float = 1.0) -> list[float]:
    return [x, y, z, energy, energy, 0, 0, 0]


TWO = [point(1, 2, 3, 0.5), point(1, 2, 4, 0.25)]


@pytest.mark.parametrize(
    ("columns", "extra", "version"), [(5, None, "v1"), (6, 5, "v2"), (6, 6, "v3"), (6, None, "v2")]
)
def test_the_layouts_are_told_apart_and_read(
    tmp_path: Path, columns: int, extra: int | None, version: str
) -> None:
    rows = [[1, 0, 7, 0, 1, 4], [1, 1, 9, 0, 3, 1]]
    rows = [row[:columns] for row in rows]
    path = write_raw(tmp_path / "a.h5", [TWO], [rows], extra)
    events = EventFile(path, SMALL)
    with events:
        assert events.version == version
        event = events[0]
    hip = ParticleClass.HIP if columns == 6 else ParticleClass.MIP
    assert event.semantic.tolist() == [hip, ParticleClass.DELTA]
    assert event.cluster.tolist() == [7, 9]
    assert event.energy.tolist() == [0.5, 0.25]
    assert event.coords.tolist() == [[1, 2, 3], [1, 2, 4]]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_round_trip_is_exact(tmp_path: Path, rng: np.random.Generator, version: Version) -> None:
    events = [make_event(rng), make_event(rng, 1), make_event(rng, 0)]
    events = [
        replace(event, cluster=np.where(event.semantic < 0, -1, event.cluster).astype(np.int32))
        for event in events
    ]
    layout = Layout(side=16, classes=ClassMap(low_energy="unlabelled"))
    path = tmp_path / "a.h5"
    assert write_events(path, events, version=version) == 3
    found = EventFile(path, layout)
    with found:
        assert found.version == version
    for mine, theirs in zip(events, read_events(path, layout=layout), strict=True):
        a, b = (np.lexsort(event.coords.T) for event in (mine, theirs))
        for name in ("coords", "energy", "semantic", "cluster"):
            np.testing.assert_array_equal(getattr(mine, name)[a], getattr(theirs, name)[b])


def test_indices_choose_and_order(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.h5"
    write_events(path, (make_event(rng, count) for count in (3, 4, 5)))
    layout = Layout(side=16, classes=ClassMap(low_energy="unlabelled"))
    sizes = [len(event) for event in read_events(path, indices=[2, 0], layout=layout)]
    assert sizes == [5, 3]
    with pytest.raises(IndexError, match=r"a\.h5: event 7 of 3"):
        list(read_events(path, indices=[7], layout=layout))


def test_a_failed_write_leaves_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    def broken() -> Iterator[Event]:
        yield make_event(rng)
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError):
        write_events(tmp_path / "a.h5", broken())
    assert list(tmp_path.iterdir()) == []


def test_low_energy_deposits_are_dropped_or_kept(tmp_path: Path) -> None:
    rows = [[1, -1, -1, -1, 4, -1], [1, 1, 9, 0, 0, 1]]
    path = write_raw(tmp_path / "a.h5", [TWO], [rows], 6)

    def read(meaning: str) -> Event:
        layout = Layout(side=16, classes=ClassMap.model_validate({"low_energy": meaning}))
        return next(iter(read_events(path, layout=layout)))

    assert read("drop").coords.tolist() == [[1, 2, 4]]
    assert read("SHOWER").semantic.tolist() == [ParticleClass.SHOWER] * 2
    assert read("SHOWER").cluster.tolist() == [-1, 9]
    assert read("unlabelled").semantic.tolist() == [-1, ParticleClass.SHOWER]


ONE = [[2, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("points", "clusters", "message"),
    [
        ([TWO[0], point(1, 1, 1, np.nan)], ONE, "voxel 1: energy nan: energies are finite"),
        ([TWO[0], point(1, 1, 1, -0.5)], ONE, "voxel 1: energy -0.5: energies are finite"),
        ([TWO[0], point(1, 1, 16)], ONE, r"voxel 1: position \[1, 1, 16\]: outside the image"),
        ([TWO[0], point(-1, 1, 1)], ONE, r"voxel 1: position \[-1, 1, 1\]: voxel indices start"),
        ([TWO[0], point(1, 1, 1.5)], ONE, "voxel 1: position .*whole numbers"),
        ([TWO[0], TWO[0]], ONE, "voxel 1: position .*listed twice"),
        (TWO, [[3, 0, 0, 0, 0, 1]], "the clusters hold 3 voxels, the image 2"),
        (TWO, [[2, 0, 0, 0, 8, 1]], "semantic code 8"),
    ],
)
def test_what_cannot_be_names_file_event_and_value(
    tmp_path: Path, points: list[Any], clusters: list[Any], message: str
) -> None:
    path = write_raw(tmp_path / "bad.h5", [TWO, points], [ONE, clusters], 6)
    with pytest.raises(ValueError, match=rf"bad\.h5: event 1: {message}") as caught:
        list(read_events(path, layout=SMALL))
    assert "\n" not in str(caught.value)


def test_duplicates_can_be_merged(tmp_path: Path) -> None:
    points = [point(1, 1, 1, 0.25), point(1, 1, 1, 0.5)]
    rows = [[1, 0, 3, 0, 0, 1], [1, 1, 4, 0, 1, 2]]
    path = write_raw(tmp_path / "a.h5", [points], [rows], 6)
    event = next(iter(read_events(path, layout=Layout(side=16, duplicates="merge"))))
    assert event.energy.tolist() == [0.75]
    assert event.cluster.tolist() == [4]
    assert event.semantic.tolist() == [ParticleClass.MIP]


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.h5: no such file"):
        EventFile(tmp_path / "none.h5")
    packed = sample("tune").read_bytes()
    plain = lzma.decompress(packed)
    for name, content in {"a.h5.xz": packed, "b.h5": plain, "c.h5": b"no hdf5"}.items():
        path = tmp_path / name
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=rf"{name}: not a readable HDF5 file, or cut short"):
            EventFile(path)


def test_a_wrong_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["voxels"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"a\.h5: no dataset 'point' \(found: voxels\)"):
        EventFile(path)
    with h5py.File(path, "w") as file:
        file["point"] = np.zeros((3, 8))
        file["cluster"] = np.zeros((3, 6))
    with pytest.raises(ValueError, match="not one variable-length row per event"):
        EventFile(path)


def test_the_sample_has_its_events() -> None:
    counts = [len(Splits().events(split)) for split in get_args(Split)]
    assert counts == [150, 200, 200]


def test_a_split_may_be_its_first_events_only() -> None:
    few, all_events = Splits(most_events=3).events("test"), Splits().events("test")
    assert len(few) == 3
    np.testing.assert_array_equal(few[2].coords, all_events[2].coords)
    assert len(Splits(most_events=10**6).events("test")) == len(all_events)


def test_the_training_split_alone_may_be_its_first_events() -> None:
    few = Splits(train_events=7)
    assert [len(few.events(split)) for split in get_args(Split)] == [7, 200, 200]
    assert len(Splits(train_events=7, most_events=5).events("train")) == 5
    assert len(Splits(train_events=5, most_events=7).events("train")) == 5


def test_a_folder_and_a_single_file_give_three_splits(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    layout = Layout(side=16)
    one = tmp_path / "all.h5"
    write_events(one, (make_event(rng, 5) for _ in range(20)))
    splits = Splits(path=str(one), layout=layout)
    parts = [splits.events(name) for name in ("train", "tune", "test")]
    assert [len(part) for part in parts] == [14, 2, 4]
    used = np.concatenate([vars(part)["_indices"] for part in parts])
    assert sorted(used.tolist()) == list(range(20))
    with pytest.raises(ValueError, match=r"no train\.h5 in this folder, no train of "):
        Splits(path=str(tmp_path)).events("train")
    write_events(tmp_path / "train.h5", [])
    with pytest.raises(ValueError, match="no event in the train split"):
        Splits(path=str(tmp_path)).events("train")


def test_events_refuse_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="class 9"):
        Event.of(np.zeros((1, 3), int), np.ones(1), (4, 4, 4), semantic=np.array([9]))


@pytest.mark.parametrize(("largest", "side"), [(511, 512), (512, 768), (767, 768), (1100, 1536)])
def test_the_side_is_found_from_the_voxels(
    tmp_path: Path, largest: int, side: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raw(tmp_path / "a.h5", [TWO, [point(1, largest, 1)]], [ONE, [[1, *ONE[0][1:]]]], 6)
    with caplog.at_level("INFO", "lartpc_ray"):
        assert [event.shape for event in read_events(path)] == [(side,) * 3] * 2
    line = f"image size: {side} voxels per side, from the file"
    assert caplog.messages == ([] if side == 512 else [line])
    if side > 512:
        with pytest.raises(ValueError, match=r"event 1: .*outside the image"):
            list(read_events(path, layout=Layout()))


def test_the_side_of_a_broken_file_is_not_searched_for_ever(tmp_path: Path) -> None:
    for number, x in enumerate((-1.0, np.nan, 5000.0)):
        path = write_raw(tmp_path / f"{number}.h5", [[point(x, 1, 1)]], [[[1, *ONE[0][1:]]]], 6)
        with pytest.raises(ValueError, match="event 0: voxel 0: position"):
            list(read_events(path))


def test_a_study_takes_the_side_of_its_training_file(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.h5", [[point(1, 700, 1)]] * 9, [[[1, *ONE[0][1:]]]] * 9, 6)

    def sides(*more: str) -> object:
        options = study_parser("tune", "", "").parse_args(["clustering", *more])
        return chosen_space(options).first_trial().data.splits.layout.side

    assert sides("--data", str(path)) == 768
    assert sides("--data", str(path), "--set", "data.splits.layout.side=1024") == 1024
    assert sides() == 512


def test_codes_beyond_four_have_a_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[1, 0, 7, 0, 5, -1], [1, 1, 9, 0, 1, 4]]
    path = write_raw(tmp_path / "a.h5", [TWO], [rows], 6)
    layout = Layout(side=16, classes=ClassMap(further=("drop", "unlabelled")))
    (event,) = read_events(path, layout=layout)
    assert event.semantic.tolist() == [ParticleClass.HIP]
    assert run(data.parser(), data.main, ["inspect", str(path), "--further", "SHOWER"]) == 0
    assert "SHOWER             1" in capsys.readouterr().out
    assert run(data.parser(), data.main, ["inspect", str(path), "--further", "ghost"]) == 2
    assert "--further ghost: ghost is not one of DELTA, HIP" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"semantic code 5: 0 to 4 are known; .*--further"):
        list(read_events(path, layout=SMALL))


@pytest.mark.parametrize(
    ("columns", "kind"), [(9, "packed: 9 columns"), (11, "packed: 11 columns")]
)
def test_packed_files_are_named(tmp_path: Path, columns: int, kind: str) -> None:
    path = write_raw(tmp_path / "a.h5", [TWO], [ONE], columns)
    with EventFile(path, SMALL) as events:
        assert events.kind == f"PILArNet-M v3, {kind} in cluster_extra"
        assert len(events[0]) == 2
    path = write_raw(tmp_path / "b.h5", [TWO], [ONE], 7)
    with pytest.raises(ValueError, match="cluster_extra has 7 columns for 1 clusters; 5"):
        EventFile(path)


def test_the_error_of_a_voxel_comes_whole_out_of_another_process() -> None:
    with pytest.raises(ValueError, match="position") as error:
        Event.of(np.array([[0, 0, 0], [0, 0, 99]]), np.ones(2), (16,) * 3)
    again = pickle.loads(pickle.dumps(error.value))
    assert str(again) == str(error.value)
    assert again.voxel == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"coords": np.array([[1, 2, 3], [2**32, 2, 3]])}, "voxel 1: position .4294967296, 2, 3"),
        ({"cluster": np.array([0, 2**32])}, "voxel 1: cluster 4294967296: give whole numbers"),
        ({"cluster": np.array([0, 2**64 - 1], np.uint64)}, "voxel 1: cluster 18446744073709551615"),
        ({"cluster": np.array([0.5, 0])}, "voxel 0: cluster 0.5: give whole numbers"),
        ({"semantic": np.array([0, np.nan])}, "voxel 1: class nan: give whole numbers"),
        ({"semantic": np.array(["MIP", "HIP"])}, "class holds <U3; give whole numbers"),
    ],
)
def test_an_event_of_arrays_changes_no_value(changed: dict[str, Any], message: str) -> None:
    """A cast to 32 bits would read these as other voxels, clusters and classes."""
    coords = np.array([[1, 2, 3], [1, 2, 4]])
    given: dict[str, Any] = {"coords": coords, "energy": np.ones(2), "shape": (8, 8, 8)}
    with pytest.raises(ValueError, match=message):
        Event.of(**given | changed)
    same = Event.of(**given, cluster=np.array([3.0, -1.0]), semantic=np.array([1, 0], np.uint8))
    assert (same.cluster.tolist(), same.semantic.tolist()) == ([3, -1], [1, 0])


def test_a_sum_of_energies_hides_no_negative_one() -> None:
    twice = np.array([[1, 2, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"voxel 1: energy -1.0: energies are finite"):
        Event.of(twice, np.array([2.0, -1.0]), (8, 8, 8), merge=True)


def test_an_invalid_voxel_has_its_number_in_the_file_also_beside_merged_ones(
    tmp_path: Path,
) -> None:
    twice = np.array([[1, 2, 3], [1, 2, 3], [0, 0, 9]])
    with pytest.raises(ValueError, match=r"voxel 2: position \[0, 0, 9\]"):
        Event.of(twice, np.ones(3), (8, 8, 8), merge=True)
    points = [point(1, 1, 1, 0.0), point(2, 2, 2), point(2, 2, 2), point(99, 1, 1)]
    rows = [[4, 0, 3, 0, 0, 1]]
    path = write_raw(tmp_path / "a.h5", [points], [rows], 6)
    with pytest.raises(ValueError, match=r"event 0: voxel 3: position \[99, 1, 1\]"):
        list(read_events(path, layout=Layout(side=16, duplicates="merge")))
