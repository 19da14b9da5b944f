"""Files of other programs: segments of edep-sim, hits of MicroBooNE, plain tables."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from foreign import (
    CLASSES,
    voxels,
    write_csv,
    write_hits,
    write_parquet,
    write_segments,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.edep_sim import split_segments
from lartpc_ray.data.formats.layout import Hits, Layout, Segments

PLANE = Layout(side=512, hits=Hits(plane=2))


def save(path: Path, table: dict[str, Any]) -> Path:
    """Write a table in the format of the name."""
    if path.suffix == ".parquet":
        write_parquet(path, table, rows=50)
    else:
        write_csv(path, table, {".csv": ",", ".tsv": "\t", ".txt": ";"}[path.suffix])
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.parquet"])
def test_a_table_gives_its_voxels_event_by_event(name: str, tmp_path: Path) -> None:
    table = voxels()
    with open_events(save(tmp_path / name, table)) as events:
        assert len(events) == 3
        assert "table of voxels" in events.kind
        for index in (2, 0, 1):
            mine = np.array(table["event"]) == 10 * (index + 1)
            event = events[index]
            assert event.shape == (512,) * 3
            for axis, column in enumerate("xyz"):
                assert event.coords[:, axis].tolist() == np.array(table[column])[mine].tolist()
            np.testing.assert_allclose(event.energy, np.array(table["energy"])[mine], rtol=1e-6)
            assert event.semantic.tolist() == np.array(table["class"])[mine].tolist()
            assert event.cluster.tolist() == np.array(table["cluster"])[mine].tolist()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_columns_may_be_few_many_and_in_any_order(name: str, tmp_path: Path) -> None:
    table = {
        "energy": [0.5, 1.0, 2.0],
        "run": [1, 1, 1],
        "z": [3, 4, 600],
        "y": [2, 2, 2],
        "x": [1, 1, 1],
        "event": [7, 7, 3],
    }
    with open_events(save(tmp_path / name, table)) as events:
        assert [len(event) for event in events] == [2, 1]
        assert events[1].coords.tolist() == [[1, 2, 600]]
        assert events[1].shape == (768,) * 3, "the side is found from the file"
        assert events[0].semantic.tolist() == [-1, -1]
    table["class"] = ["MIP", "MICHEL", "-1"]
    with open_events(save(tmp_path / name, table)) as events:
        assert events[0].semantic.tolist() == [1, 4]
        assert events[1].semantic.tolist() == [-1]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_clusters_without_classes_are_left_out_with_a_line(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = {"event": [7, 7], "x": [1, 1], "y": [2, 2], "z": [3, 4], "energy": [0.5, 1.0]}
    caplog.set_level("INFO", "lartpc_ray")
    open_events(save(tmp_path / name, table)).close()
    assert not caplog.messages
    with open_events(save(tmp_path / name, {**table, "cluster": [4, 4]})) as events:
        assert events[0].cluster.tolist() == [-1, -1]
    (line,) = caplog.messages
    assert "the column cluster is not used" in line
    open_events(save(tmp_path / name, {**table, "cluster": [4, 4], "class": [1, 1]})).close()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_of_wires_and_ticks_has_2d_images_of_a_plane(name: str, tmp_path: Path) -> None:
    table = {
        "event": [1, 1, 1, 2],
        "plane": [0, 2, 2, 0],
        "wire": [5, 6, 7, 8],
        "tick": [50, 60, 70, 5000],
        "energy": [1.0, 2.0, 3.0, 4.0],
    }
    path = save(tmp_path / name, table)
    with open_events(path, Layout(hits=Hits(plane=2)), from_voxels=True) as events:
        assert [len(event) for event in events] == [2, 0]
        assert events[0].coords.tolist() == [[6, 60], [7, 70]]
        assert events[0].shape == (512, 512)
    with open_events(path, Layout(hits=Hits(plane=0)), from_voxels=True) as events:
        assert events[1].shape == (6144, 6144)
    with pytest.raises(ValueError, match=r"--plane 0; data\.splits\.layout\.hits\.plane"):
        open_events(path)
    path = save(tmp_path / name, {column: table[column] for column in table if column != "plane"})
    with open_events(path, Layout(side=8192, hits=Hits(plane=0))) as events:
        assert [len(event) for event in events] == [3, 1]


GOOD = {"event": [1, 1, 2], "x": [1, 2, 3], "y": [0, 0, 0], "z": [0, 0, 0], "energy": [1, 2, 3.0]}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("numbers", [[1.0, 1.0, 2.0], [2**60, 2**60, 2**60 + 1], [5, 5, -(2**60)]])
def test_event_numbers_may_be_large_or_whole_floats(
    name: str, numbers: list[float], tmp_path: Path
) -> None:
    with open_events(save(tmp_path / name, {**GOOD, "event": numbers}), Layout()) as events:
        assert [len(event) for event in events] == [2, 1]


@pytest.mark.parametrize("classes", [["MIP", None, "HIP"], [1, None, 0], [1.0, float("nan"), 0.0]])
def test_a_class_without_a_value_is_unknown(classes: list[Any], tmp_path: Path) -> None:
    """As in the tables that `predict` writes, and pandas writes to CSV."""
    table = pd.DataFrame({**GOOD, "class": classes, "event": 1})
    table.to_csv(tmp_path / "t.csv", index=False)
    write_parquet(tmp_path / "t.parquet", {**GOOD, "class": classes, "event": [1, 1, 1]})
    for name in ("t.csv", "t.parquet"):
        with open_events(tmp_path / name) as events:
            assert events[0].semantic.tolist() == [1, -1, 0]


@pytest.mark.parametrize("none", ["", '""', "NA", "nan", " NA "])
def test_class_names_in_quotes_are_read(none: str, tmp_path: Path) -> None:
    """As R's write.csv and Python's csv.QUOTE_NONNUMERIC write them, and R a missing one."""
    rows = [f"1,{x},0,0,1.0,{name}" for x, name in enumerate(['"MIP"', none, '"HIP"'])]
    text = "\r\n".join(['"event","x","y","z","energy","class"', *rows, ""])
    (tmp_path / "t.csv").write_bytes(text.encode())
    with open_events(tmp_path / "t.csv") as events:
        assert events[0].semantic.tolist() == [1, -1, 0]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_without_rows_has_no_event(name: str, tmp_path: Path) -> None:
    with open_events(save(tmp_path / name, {column: [] for column in GOOD})) as events:
        assert len(events) == 0


def test_a_row_group_without_rows_is_passed_over(tmp_path: Path) -> None:
    table = pa.table({**GOOD, "event": [1, 2, 2]})
    with parquet.ParquetWriter(tmp_path / "t.parquet", table.schema) as file:
        for part in (table[:0], table[:2], table[:0], table[2:], table[:0]):
            file.write_table(part)
    with open_events(tmp_path / "t.parquet") as events:
        assert [event.coords[:, 0].tolist() for event in events] == [[1], [2, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": [1, -2.5, 3]}, "column energy: -2.5: give a finite number"),
        ({"energy": [1, float("nan"), 3]}, "column energy: nan: give a finite number"),
        ({"x": [1, 2.5, 3]}, "column x: 2.5: give a whole number, 0 to"),
        ({"y": [0, -1, 0]}, "column y: -1: give a whole number, 0 to"),
        ({"z": [0, 600, 0]}, r"column z: 600: outside the image of 512 voxels; .*--side"),
        ({"cluster": [0, -2, 0]}, "column cluster: -2: give a whole number, -1 to"),
        ({"class": [0, 7, 0]}, "column class: 7: give -1 to 4, or HIP, MIP"),
        ({"class": ["MIP", "muon", "MIP"]}, "column class: muon: give -1 to 4, or HIP"),
        ({"energy": [1, 1e39, 3]}, r"column energy: 1e\+39: give a finite number"),
        ({"x": [1, 2**31, 3]}, r"column x: 2.*: give a whole number, 0 to 2\*\*30 - 1"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_wrong_value_is_named_with_file_row_and_column(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / name, {**GOOD, **change})
    row = "line 3" if name.endswith("csv") else "row 1"
    with (
        open_events(path, Layout(side=512)) as events,
        pytest.raises(ValueError, match=rf"{name}: event 0: {row}, {message}") as caught,
    ):
        events[0]
    assert "\n" not in str(caught.value)
    with open_events(path, Layout(side=512)) as events:
        if change.get("class") != ["MIP", "muon", "MIP"]:
            assert len(events[1]) == 1, "the other event is read"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event,x,y,energy\n1,2,3,4\n", "give event, energy, and x, y, z or wire, tick"),
        ("event,x,y,z,energy,x\n1,2,3,4,5,6\n", "two columns x; give one of each name"),
        ("event,x,y,z,energy\n1,2,3,4,5\n2,1,1,1,1\n1,2,3,5,5\n", "line 4: event 1 begins again"),
        ("event,x,y,z,energy\n1,2,3,4,5\none,1,1,1,1\n", "line 3, column event: 'one': give a who"),
        ("event,x,y,z,energy\n1,2,3,4,5\n1,1,1,1\n", "line 3 has 4 values, the header 5"),
        ("event,x,y,z,energy\n1,2,3,4,5\n\n1,1,1,1,1\n", "line 3, column event: ''"),
        ("event,x,y,z,energy\n1,2,3,4,5\n1,a1,2,3,1\n", "line 3, column x: 'a1': give a number"),
        ("event,x,y,z,energy\n1,2,3,4,5\n1,3,3,4,0.2", "line 3 does not end: the file is cut"),
        ("event,x,y,z,energy\n1,2,3,4," + "5" * 5000, "line 2 is longer than 4096 bytes"),
        ("event,x,y,z,energy\n1.5,2,3,4,5\n", r"line 2, column event: '1\.5': give a whole num"),
        (f"event,x,y,z,energy\n{2**63},2,3,4,5\n", "line 2, column event: '9223372036854775808'"),
        ("EVENT,X,Y,Z,ENERGY\n1,2,3,4,5\n", "columns ENERGY, EVENT, X, Y, Z: give event, energy"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused_in_a_line(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught, open_events(path) as events:
        list(events)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_parquet_without_a_value_or_with_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, {**GOOD, "energy": [1.0, None, 2.0]})
    with open_events(path, Layout()) as events, pytest.raises(ValueError, match="row 1, column e"):
        events[0]
    write_parquet(path, {**GOOD, "x": ["1", "2", "3"]})
    with pytest.raises(ValueError, match="column x holds string; give numbers"):
        open_events(path)
    write_parquet(path, {**GOOD, "class": [True, False, True]})
    with pytest.raises(ValueError, match="column class holds bool; give -1 to 4, or names"):
        open_events(path)
    write_parquet(path, {**GOOD, "event": [1.0, 1.0, 2.5]})
    with pytest.raises(ValueError, match=r"t\.parquet: row 2, column event: 2\.5: give a whole"):
        open_events(path)
    write_parquet(path, {**GOOD, "event": [1, 2, 1]})
    with pytest.raises(ValueError, match="row 2: event 1 begins again; sort the rows"):
        open_events(path)


def test_a_row_group_that_claims_any_size_is_refused(tmp_path: Path) -> None:
    """pyarrow has no memory for it; a page of a fuzzed file claims 2**63 bytes."""

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    with open_events(save(tmp_path / "t.parquet", voxels())) as events:
        events._file.read_row_group = no_memory  # type: ignore[attr-defined]
        events._group = (-1, {})  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="event 0: row group 0 needs more memory"):
            events[0]


def test_one_row_group_is_in_memory_at_a_time(tmp_path: Path) -> None:
    path = save(tmp_path / "t.parquet", voxels(events=5))
    with open_events(path) as events:
        groups: list[int] = []
        read = events._read_group  # type: ignore[attr-defined]
        events._read_group = lambda n, names: groups.append(n) or read(n, names)  # type: ignore
        assert sum(len(event) for event in events) == 200
    assert groups == [0, 1, 2, 3], "each group of 50 rows is read once"


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([0.1, 3.0, 40.0]))
def test_a_segment_is_cut_at_every_wall_and_its_shares_add_up(
    seed: int, count: int, length: float
) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 50, (count, 3))
    end = np.clip(start + rng.normal(0, length, (count, 3)), 0, 99)
    end[::3, 0] = start[::3, 0]  # along a plane
    end[::5] = start[::5]  # no length
    start[::4], end[::4] = np.round(start[::4]), np.round(end[::4])  # on the walls
    segment, voxel, share = split_segments(start, end)
    assert (share > 0).all()
    np.testing.assert_allclose(np.bincount(segment, share, count), 1, rtol=1e-9)
    for row in range(count):  # against many points along the segment
        along = (np.arange(2000) + 0.5)[:, None] / 2000
        points = np.floor(start[row] + along * (end[row] - start[row])).astype(int)
        seen, times = np.unique(points, axis=0, return_counts=True)
        shares = {tuple(v): 0.0 for v in voxel[segment == row].tolist()}
        for place, part in zip(
            voxel[segment == row].tolist(), share[segment == row].tolist(), strict=True
        ):
            shares[tuple(place)] += part
        for place, part in zip(seen.tolist(), times / 2000, strict=True):
            assert shares.get(tuple(place), 0.0) == pytest.approx(part, abs=4e-3)


SEGMENTS = {
    5: [
        (0, (-3.0, 1.05, 2.05), (0.0, 1.05, 2.05), 6.0),
        (1, (0.05, 1.05, 2.05), (0.05, 1.05, 2.05), 0.7),
        (2, (3.05, 1.05, 2.05), (3.05, 1.05, 2.05), 0.3),
        (3, (-2.0, 1.35, 2.05), (-2.0, 1.95, 2.05), 0.5),
    ],
    9: [
        (4, (1.0, 1.0, 5.0), (1.0, 1.0, 5.2), 9.0),
        (7, (1.0, 1.4, 5.0), (1.0, 1.4, 5.0), 1.0),
        (5, (4.0, 1.0, 5.0), (4.0, 1.0, 5.0), 1.5),
        (6, (4.0, 2.0, 5.0), (4.0, 2.0, 5.0), 2.5),
    ],
}


@pytest.mark.parametrize("old", [False, True])
def test_segments_become_voxels_and_keep_their_energy(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "edep.h5"
    write_segments(path, SEGMENTS, old=old)
    with open_events(path) as events:
        assert events.kind == "edep-sim segments, voxels of 0.3 cm"
        first, second = events
        assert first.shape == (512,) * 3
    assert first.energy.sum() == pytest.approx(7.5, rel=1e-6)
    assert second.energy.sum() == pytest.approx(14.0, rel=1e-6)
    muon = first.select(first.semantic == CLASSES[0])
    assert len(np.unique(muon.coords[:, 0])) in (10, 11), "3 cm in voxels of 3 mm"
    assert sorted(set(first.semantic.tolist())) == [1, 3, 4]
    michel = first.select(first.semantic == 4)
    assert len(set(michel.cluster.tolist())) == 1, "a Michel electron and its photon are one"
    assert michel.energy.sum() == pytest.approx(1.0, rel=1e-6)
    assert len(set(first.cluster.tolist())) == 3
    shower = second.select(second.semantic == 2)
    assert len(set(shower.cluster.tolist())) == 1, "a shower is one cluster"
    hip = second.select(second.semantic == 0)
    assert len(set(hip.cluster.tolist())) == 2, "the alpha is a particle of its own"


def test_pitch_and_origin_are_settings_and_a_segment_outside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edep.h5"
    write_segments(path, SEGMENTS)
    layout = Layout(side=64, segments=Segments(pitch=1.0, origin=(-4.0, 0.0, 0.0)))
    with open_events(path, layout) as events:
        assert events[0].coords.min(axis=0).tolist() == [1, 1, 2]
        muon = events[0].select(events[0].semantic == 1)
        assert muon.energy.tolist() == pytest.approx([2.0, 2.5, 2.0], rel=1e-6), (
            "the delta electron of 0.5 MeV shares a voxel with more of the muon"
        )
    layout = Layout(side=64, segments=Segments(pitch=1.0, origin=(-2.0, 0.0, 0.0)))
    with (
        open_events(path, layout) as events,
        pytest.raises(ValueError, match=r"event 0: segments row 0, x_start -3.0: outside the ima"),
    ):
        events[0]
    with open_events(path, Layout(side=8)) as events, pytest.raises(ValueError, match="--side"):
        events[0]


def test_without_trajectories_electrons_are_showers(tmp_path: Path) -> None:
    path = tmp_path / "edep.h5"
    write_segments(path, SEGMENTS, trajectories=False)
    with open_events(path) as events:
        assert "Michel and delta electrons are SHOWER" in events.limits
        assert sorted(set(events[0].semantic.tolist())) == [1, 2]


@pytest.mark.parametrize(
    ("field", "row", "value", "message"),
    [
        ("dE", 1, -1.0, r"segments row 1, dE -1.0: give finite numbers"),
        ("dE", 6, np.nan, r"segments row 6, dE nan"),
        ("x_end", 2, np.inf, r"segments row 2, x_end inf"),
        ("event_id", 0, 9, r"segments row 4: event 9 begins again; sort the rows by event"),
    ],
)
def test_a_wrong_segment_is_named(
    field: str, row: int, value: float, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "edep.h5"
    write_segments(path, SEGMENTS)
    with h5py.File(path, "r+") as file:
        rows = file["segments"][:]
        rows[field][row] = value
        file["segments"][:] = rows
    with pytest.raises(ValueError, match=message) as caught, open_events(path) as events:
        list(events)
    assert str(caught.value).startswith(str(path))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edep.h5"
    with h5py.File(path, "w") as file:
        file["segments"] = np.zeros(3, [("eventID", "u4"), ("x_start", "f4")])
    with pytest.raises(ValueError, match="segments has no field y_start"):
        open_events(path)
    write_segments(path, SEGMENTS)
    layout = Layout(segments=Segments(event="spill"))
    with pytest.raises(ValueError, match=r"segments\.event 'spill': no such field"):
        open_events(path, layout)
    with open_events(path, Layout(segments=Segments(event="vertex_id"))) as events:
        assert len(events) == 2


RUN = (7079, 75, 3751)
HITS = {
    RUN: [
        (2, 100, 801.2, 50.0),
        (2, 100, 803.0, 30.0),  # the same pixel of 5 ticks
        (2, 101, 806.0, 20.0),
        (1, 7, 100.0, 99.0),
        (2, 300, 900.0, 10.0),  # no deposit: a cosmic ray
    ],
    (7079, 75, 3752): [(0, 5, 10.0, 1.0)],
    (7079, 76, 1): [(2, 3455, 2000.0, 5.0)],
}
DEPOSITS = {
    RUN: [(0, 1, 0.9), (0, 6, 0.1), (1, 6, 1.0), (2, 3, 0.4), (2, 5, 0.6), (3, 4, 1.0)],
    (7079, 76, 1): [(0, 8, 1.0)],
}


@pytest.mark.parametrize("counts", [True, False])
def test_hits_become_pixels_of_a_plane(counts: bool, tmp_path: Path) -> None:
    path = tmp_path / "open.h5"
    write_hits(path, HITS, DEPOSITS, counts=counts)
    with open_events(path, PLANE.model_copy(update={"side": 4096})) as events:
        assert [len(event) for event in events] == [3, 0, 1]
        event = events[0]
        order = np.lexsort(event.coords.T)
        assert event.coords[order].tolist() == [[100, 160], [101, 161], [300, 180]]
        assert event.energy[order].tolist() == [80, 20, 10], "hits of a pixel are added"
        assert event.semantic[order].tolist() == [1, 4, -1], "the largest hit and share decide"
        assert event.cluster[order].tolist() == [1, 5, -1]
        assert events[2].semantic.tolist() == [2]
    with open_events(path, Layout(hits=Hits(plane=2)), from_voxels=True) as events:
        assert events[0].shape == (4096, 4096)
    layout = Layout(side=512, hits=Hits(plane=1, ticks=1.0, categories=("drop",) * 9))
    with open_events(path, layout) as events:
        assert [len(event) for event in events] == [0, 0, 0], "a category may be dropped"
    layout = Layout(side=512, hits=Hits(plane=0))
    with open_events(path, layout) as events:
        assert events[1].coords.tolist() == [[5, 2]]


def test_hits_without_truth_have_no_class(tmp_path: Path) -> None:
    path = tmp_path / "open.h5"
    write_hits(path, HITS, {}, truth=False)
    with open_events(path, Layout(hits=Hits(plane=2)), from_voxels=True) as events:
        assert set(events[0].semantic.tolist()) == {-1}
        assert "hits have no class" in events.limits


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("hit_table/integral", 1, -2, r"hit_table row 1, integral -2: give a finite number"),
        ("hit_table/local_time", 2, np.nan, r"hit_table row 2, local_time nan"),
        ("hit_table/local_wire", 4, 700, r"hit_table row 4, local_wire 700: .* image of 512"),
        ("particle_table/category", 1, 12, r"particle_table row 1, category 12: 0 to 8 are known"),
        ("hit_table/event_id.seq_cnt", 0, 1, r"counts .* rows, event_id has 7"),
    ],
)
def test_a_wrong_hit_is_named(
    name: str, row: int, value: float, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "open.h5"
    write_hits(path, HITS, DEPOSITS)
    with h5py.File(path, "r+") as file:
        file[name][row, 0 if "seq" not in name else 1] = value + ("seq" in name)
    with pytest.raises(ValueError, match=message) as caught, open_events(path, PLANE) as events:
        events[0]
    assert str(caught.value).startswith(str(path))


def test_settings_of_other_formats_are_refused(tmp_path: Path) -> None:
    write_hits(tmp_path / "open.h5", HITS, DEPOSITS)
    with pytest.raises(ValueError, match=r"hits are 2D images: give the plane \(--plane 2"):
        open_events(tmp_path / "open.h5")
    write_segments(tmp_path / "edep.h5", SEGMENTS)
    save(tmp_path / "t.csv", voxels())
    for name in ("edep.h5", "t.csv"):
        with pytest.raises(ValueError, match=r"hits\.plane is set"):
            open_events(tmp_path / name, PLANE)
