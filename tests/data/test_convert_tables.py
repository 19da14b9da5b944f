"""Conversion between the layouts of PILArNet-M: every dataset, column, row and voxel."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from published import PublishedReader, Revision, write_published

from lartpc_ray.data import __main__ as data
from lartpc_ray.data import convert as module
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import COLUMNS, LAYOUTS, Version, to_layout
from lartpc_ray.terminal.command import run

SIZES = [80, 0, 5, 31]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "v3")


def command(*arguments: object) -> int:
    return run(data.parser(), data.main, [str(argument) for argument in arguments])


def convert(source: Path, target: Path, version: Version, *more: object) -> Path:
    assert command("convert", source, target, "--layout", version, "--check", *more) == 0
    return target


def contents(path: Path) -> dict[str, list[np.ndarray]]:
    """Read every dataset as HDF5 reads it."""
    with h5py.File(path) as file:
        return {name: list(file[name][:]) for name in file}


def assert_same(path: Path, other: Path) -> None:
    one, two = contents(path), contents(other)
    assert one.keys() == two.keys()
    for name, rows in one.items():
        for row, new in zip(rows, two[name], strict=True):
            assert row.dtype == new.dtype
            np.testing.assert_array_equal(row, new, err_msg=name)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_in_its_own_layout_comes_back_whole(
    tmp_path: Path, rng: np.random.Generator, version: Version
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES, version)
    assert_same(source, convert(source, tmp_path / "b.h5", version))
    assert np.load(tmp_path / "b_points.npy").tolist() == SIZES


@pytest.mark.parametrize("kind", ["extra", "9", "11"])
def test_extra_tables_and_packed_columns_come_back_whole(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    packed = None if kind == "extra" else int(kind)
    source = write_published(tmp_path / "a.h5", rng, SIZES, packed=packed, further=not packed)
    assert_same(source, convert(source, tmp_path / "b.h5", "v3"))


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back_keeps_all_that_the_layout_holds(
    tmp_path: Path, rng: np.random.Generator, version: Version
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES, further=True)
    there = convert(source, tmp_path / "b.h5", version)
    back = convert(there, tmp_path / "c.h5", "v3")
    before, after = contents(source), contents(back)
    assert set(after) == {"point", "cluster", "cluster_extra", "run"} | (
        set(before) if version == "v3" else set()
    )
    for name, rows in after.items():
        width = len(COLUMNS.get(name, "1"))
        full = LAYOUTS["v3"].get(name, width)
        held = LAYOUTS[version].get(name, width if name in before and version == "v3" else 0)
        held = full if name == "run" else held
        for row, new in zip(before[name], rows, strict=True):
            old, found = row.reshape(-1, full), new.reshape(-1, full)
            np.testing.assert_array_equal(old[:, :held], found[:, :held], err_msg=name)
            assert (found[:, held:] == -1).all()


def test_what_a_layout_does_not_hold_is_listed_by_dataset(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_published(tmp_path / "a.h5", rng, [80, 31], further=True)
    with h5py.File(source, "a") as file:
        file["geometry"] = np.ones(3)
        file.attrs.update({"production": "Geant4", "predicted": False})
        file["point"].attrs["unit"] = "MeV"
        clusters = sum(len(row) // 6 for row in file["cluster"][:]) - 2
        pids = sum(int((row.reshape(-1, 6)[:, 5] >= 0).sum()) for row in file["cluster"][:])
    with caplog.at_level("INFO", "lartpc_ray"):
        convert(source, tmp_path / "b.h5", "v1")
    assert [line for line in caplog.messages if line.startswith("left out")] == [
        f"left out: cluster: layout v1 has no pid ({pids})",
        "left out: cluster_extra: layout v1 has no "
        + ", ".join(f"{name} ({clusters})" for name in COLUMNS["cluster_extra"][:6]),
        "left out: cluster_extra_2: layout v1 has no "
        + ", ".join(f"{name} ({clusters})" for name in COLUMNS["cluster_extra_2"]),
        "left out: interaction_extra: layout v1 has no "
        + ", ".join(f"{name} (4)" for name in COLUMNS["interaction_extra"]),
        "left out: geometry, which has no row of numbers per event",
        "left out: attributes production, unit of point",
    ]


@pytest.mark.parametrize("revision", ["v1", "v2", "v3", "v3_extra"])
def test_the_published_readers_open_the_result(
    tmp_path: Path, rng: np.random.Generator, revision: Revision
) -> None:
    source = write_published(tmp_path / "in" / "a.h5", rng, SIZES, further=True)
    (tmp_path / "test").mkdir()
    convert(source, tmp_path / "test" / "generic.h5", "v3" if revision == "v3_extra" else revision)
    wanted = PublishedReader(tmp_path, "in", "v3_extra", min_points=6, led=False)
    found = PublishedReader(tmp_path, "test", revision, min_points=6, led=False)
    assert len(found) == len(wanted) == 2
    for known, read in ((wanted[n], found[n]) for n in range(2)):
        names = ["coord", "energy", "semantic", "particle", "interaction"]
        for name in names + ["pid"] * (revision != "v1"):
            np.testing.assert_array_equal(getattr(known, name), getattr(read, name))
        for name, values in read.more.items():
            if revision != "v2":  # the reader of v2 has no leading clusters
                np.testing.assert_array_equal(known.more[name], values)


def test_events_of_a_folder_are_copied_and_other_columns_are_refused(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    write_published(tmp_path / "in" / "a.h5", rng, [40, 20])
    write_published(tmp_path / "in" / "b.h5", rng, [30], "v2")
    convert(tmp_path / "in", tmp_path / "out.h5", "v3", "--events", "1:3")
    assert np.load(tmp_path / "out_points.npy").tolist() == [20, 30]
    write_published(tmp_path / "in" / "c.h5", rng, [30], packed=9)
    assert command("convert", tmp_path / "in", tmp_path / "new.h5", "--layout", "v3") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "event 3 of the output: cluster_extra has columns 9, the events before have 6" in line
    assert not list(tmp_path.glob("new*"))


def test_options_that_change_the_events_are_obeyed_and_said(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_published(tmp_path / "a.h5", rng, [80])
    with caplog.at_level("INFO", "lartpc_ray"):
        convert(source, tmp_path / "b.h5", "v3", "--low-energy", "SHOWER")
    assert f"{source}: --low-energy, --further or --duplicates change the events" in caplog.text
    with open_events(tmp_path / "b.h5") as events:
        assert len(events[0]) == 80, "no voxel is a low-energy deposit now"
    caplog.clear()
    convert(source, tmp_path / "c.h5", "v3", "--further", "unlabelled")
    assert "change the events" not in caplog.text


def test_a_check_finds_any_changed_value(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_published(tmp_path / "a.h5", rng, SIZES, further=True)
    for name in ("point", "cluster", "cluster_extra", "cluster_extra_2", "interaction_extra"):

        def wrong(tables: Tables, version: Version, name: str = name) -> Tables:
            changed = to_layout(tables, version)
            last = changed[name].copy()
            last[-1:, -1:] += 1
            return changed | {name: last}

        monkeypatch.setattr(module, "to_layout", wrong)
        assert command("convert", source, tmp_path / "b.h5", "--check") == 2
        line = capsys.readouterr().err.splitlines()[-1]
        column = COLUMNS[name][: 6 if name == "cluster_extra" else None][-1]
        assert line.endswith(f"event 0 of {source} came back with 1 values of {name}.{column}")
        assert list(tmp_path.glob("b*")) == []


def test_a_sidecar_of_an_earlier_file_is_never_left(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_published(tmp_path / "a.h5", rng, [40, 20])
    np.save(tmp_path / "b_points.npy", np.arange(9))
    assert command("convert", source, tmp_path / "b.h5") == 0
    assert np.load(tmp_path / "b_points.npy").tolist() == [40, 20]


def test_simulated_events_in_a_layout(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    out = tmp_path / "train" / "bomb.h5"
    assert command("simulate", out, "--events", 2, "--side", 64, "--layout", "v2") == 0
    clouds = PublishedReader(tmp_path, "train", "v2")
    assert len(clouds) == 2
    assert len(clouds[0].coord) == np.load(tmp_path / "train" / "bomb_points.npy")[0] > 0
    assert set(clouds[0].semantic) <= {0, 1, 2, 3, 4}
