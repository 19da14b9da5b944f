"""Rows read by our own reader are those that HDF5 reads."""

import io
import lzma
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lartpc_ray.data.files import EventFile
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
            np.testing.assert_array_equal(events._point.row(index, 10**8), file["point"][index])


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
