"""Rows read by our own reader are those that HDF5 reads."""

import io
import lzma
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.formats.vlen import FileBytes, VlenRows
from lartpc_ray.data.splits import sample

HOW: list[dict[str, Any]] = [
    {},
    {"chunks": (3,)},
    {"chunks": (3,), "compression": "gzip", "shuffle": True},
    {"chunks": (4,), "maxshape": (None,)},
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("block", [0, 512])
def test_rows_are_what_hdf5_reads(
    tmp_path: Path, rng: np.random.Generator, how: dict[str, Any], block: int
) -> None:
    path = tmp_path / "a.h5"
    rows = [rng.random(int(n)).astype(">f4") for n in (5, 0, 3, 20_000, 1, 2, 7)]
    with h5py.File(path, "w", userblock_size=block) as file:
        table = file.create_dataset("a", (8,), dtype=h5py.vlen_dtype(np.dtype(">f4")), **how)
        for place in (3, 1, 0, 2, 6, 5, 4):  # the last row is never written
            table[place] = rows[place]
        table[0] = rows[0] = rows[0][:4]
    with h5py.File(path) as file, path.open("rb") as bare:
        found = VlenRows("a", file["a"], FileBytes(bare))
        for place, row in enumerate([*rows, np.zeros(0)]):
            np.testing.assert_array_equal(found.row(place, 10**6), row)
            assert found.length(place) == len(row)
        with pytest.raises(ValueError, match="a claims 20000 values"):
            found.row(3, 19_999)


def test_the_sample_is_read_as_hdf5_reads_it() -> None:
    plain = io.BytesIO(lzma.decompress(sample("tune").read_bytes()))
    events = EventFile(sample("tune"))
    with h5py.File(plain) as file:
        for index in range(len(events)):
            np.testing.assert_array_equal(
                events._rows["point"].row(index, 10**8), file["point"][index]
            )


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 999, "claims 999 values, there are 28 bytes"),
        (0, 2**32 - 1, "claims 4294967295 values; the file is broken"),
        (4, 2**40, "has its values at 1099511627776, where none are"),
        (12, 77, "no values of number 77"),
    ],
)
def test_a_broken_descriptor_is_refused(
    tmp_path: Path, place: int, value: int, message: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        table = file.create_dataset("a", (1,), dtype=h5py.vlen_dtype(np.float32))
        table[0] = np.arange(7, dtype=np.float32)
        start = table.id.get_offset()
    raw = bytearray(path.read_bytes())
    size = 8 if place == 4 else 4
    raw[start + place : start + place + size] = value.to_bytes(size, "little")
    path.write_bytes(raw)
    with h5py.File(path) as file, path.open("rb") as bare:
        rows = VlenRows("a", file["a"], FileBytes(bare))
        with pytest.raises(ValueError, match=message):
            rows.row(0, 1000)


def test_more_rows_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    kind = h5py.vlen_dtype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("never", (10**12,), dtype=kind)
        grown = file.create_dataset("grown", (1,), maxshape=(None,), chunks=(4,), dtype=kind)
        grown[0] = np.zeros(3, np.float32)
        grown.resize(10**9, axis=0)
        file.create_dataset("wide", (1,), maxshape=(None,), chunks=(2**28,), dtype=kind)
        for name, message in (
            ("never", "claims 1000000000000 rows, 0 are there: cut short"),
            ("grown", "claims 1000000000 rows, 4 are there: cut short"),
            ("wide", "has chunks of 268435456 rows"),
        ):
            with pytest.raises(ValueError, match=message), path.open("rb") as bare:
                VlenRows(name, file[name], FileBytes(bare))


@pytest.mark.parametrize(
    "filters",
    [
        {"compression": "lzf"},
        {"compression": "lzf", "shuffle": True},
        {"compression": "gzip", "shuffle": True},
    ],
    ids=str,
)
def test_filters_are_undone(
    tmp_path: Path, rng: np.random.Generator, filters: dict[str, Any]
) -> None:
    path, kind = tmp_path / "a.h5", h5py.vlen_dtype(np.float32)
    rows = [rng.random(count, np.float32) for count in rng.integers(0, 9, 1000)]
    with h5py.File(path, "w") as file:
        table = file.create_dataset("a", (1000,), chunks=(300,), dtype=kind, **filters)
        for index, row in enumerate(rows):
            table[index] = row
    with h5py.File(path) as file, path.open("rb") as bare:
        read = VlenRows("a", file["a"], FileBytes(bare))
        for index, row in enumerate(rows):
            np.testing.assert_array_equal(read.row(index, 10), row)


def test_a_filter_that_is_not_undone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        table = file.create_dataset("a", (4,), chunks=(4,), dtype=h5py.vlen_dtype(np.float32))
        table[0] = np.ones(3, np.float32)
    with h5py.File(path) as file, path.open("rb") as bare:
        rows = VlenRows("a", file["a"], FileBytes(bare))
        vars(rows)["_filters"] = [32015]
        with pytest.raises(ValueError, match="a has the filter Zstandard; h5repack"):
            rows._unpack(b"", mask=0, count=64)


def linked(folder: Path, how: str) -> Path:
    """Write a file whose clusters are in another file, or in no file at all."""
    kind = h5py.vlen_dtype(np.int64)
    path, other = folder / "a.h5", folder / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("cluster", (1,), dtype=kind)[0] = [1, 0, 0, 0, 0, 1]
    os.mkfifo(folder / "pipe")
    with h5py.File(path, "w") as file:
        file.create_dataset("point", (1,), dtype=h5py.vlen_dtype(np.float32))[0] = np.ones(8)
        if how == "virtual":
            layout = h5py.VirtualLayout((1,), kind)
            layout[:] = h5py.VirtualSource(str(other), "cluster", (1,), kind)
            file.create_virtual_dataset("cluster", layout)
        elif how == "deep":
            file.create_group("Events")
            file["Data/sparse3d_a_group"] = h5py.ExternalLink(str(other), "/cluster")
        else:
            target = other if how == "link" else folder / "pipe"
            file["cluster"] = h5py.ExternalLink(str(target), "/cluster")
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("link", "'cluster' is a link to another file"),
        ("pipe", "'cluster' is a link to another file"),
        ("deep", "'Data/sparse3d_a_group' is a link to another file"),
        ("virtual", "cluster is a virtual dataset"),
    ],
)
def test_values_in_other_files_are_refused_by_name(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.h5: {message}"):
        open_events(linked(tmp_path, how))
