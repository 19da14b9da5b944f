"""The variable-length rows of an HDF5 dataset, each looked at before HDF5 makes room for it.

HDF5 makes room for whatever length a row claims, and then finds that the file does not hold it. A
row is a descriptor of 16 bytes (length u4, address u8, number u4) in the dataset, and its values
lie elsewhere in the file, never compressed: no row is longer than the file.
"""

from __future__ import annotations

import io
import os
import zlib
from typing import Any

import numpy as np

from lartpc_ray.data.source import MOST_BYTES, MOST_VOXELS

DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
CONTIGUOUS, CHUNKED = 1, 2
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3


class Raw:
    """The bytes of a file on disk or in memory, read at any place by any thread."""

    def __init__(self, file: io.BytesIO | io.BufferedReader) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        if isinstance(self._file, io.BytesIO):
            return bytes(self._file.getbuffer()[offset : offset + count])
        return os.pread(self._file.fileno(), count, offset)

    def close(self) -> None:
        self._file.close()


class Rows:
    """One dataset, one row an event.

    Args:
        name: of the dataset, for errors.
        dataset: an h5py dataset of variable-length rows of numbers.
        raw: the file that it is in.

    Raises:
        ValueError: where the dataset claims more rows than it has room for.
    """

    def __init__(self, name: str, dataset: Any, raw: Raw) -> None:
        self.name = name
        self._dataset = dataset
        self._raw = raw
        self._item = dataset.dtype.metadata["vlen"].itemsize
        self._known: tuple[int, int, np.ndarray] = (0, 0, np.zeros(0, np.int64))
        plan = dataset.id.get_create_plist()
        self._filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        room(dataset, name, DESCRIPTOR.itemsize, raw)

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def row(self, index: int, most: int) -> np.ndarray:
        """The values of one row.

        Raises:
            ValueError: where the row claims more than `most` values, or more than the file holds.
        """
        length = self.length(index)
        if length > most or length * self._item > self._raw.size:
            raise ValueError(f"{self.name} claims {length} values; the file is broken")
        return np.asarray(self._dataset[index])

    def length(self, index: int) -> int:
        """How many values a row claims to hold."""
        start, stop, lengths = self._known
        if not start <= index < stop:
            start, raw = self._descriptors(index)
            lengths = np.frombuffer(raw, DESCRIPTOR)["length"].astype(np.int64)
            self._known = (start, start + len(lengths), lengths)
        return int(lengths[index - start])

    def _descriptors(self, index: int) -> tuple[int, bytes]:
        """The first row of the piece that holds a row, and the descriptors of the piece."""
        if self._dataset.chunks is None:
            start = index - index % 4096
            count = min(4096, len(self) - start) * DESCRIPTOR.itemsize
            place = self._dataset.id.get_offset() + start * DESCRIPTOR.itemsize
            return start, self._raw.read(place, count)
        step = self._dataset.chunks[0]
        start = index - index % step
        info = self._dataset.id.get_chunk_info_by_coord((start,))
        if info.byte_offset is None:
            return start, bytes(step * DESCRIPTOR.itemsize)
        if info.size > self._raw.size:
            raise ValueError(f"{self.name} claims a chunk of {info.size} bytes; cut short")
        mask, raw = self._dataset.id.read_direct_chunk((start,))
        return start, self._unpacked(bytes(raw), mask, step * DESCRIPTOR.itemsize)

    def _unpacked(self, raw: bytes, mask: int, count: int) -> bytes:
        """A chunk before its filters, which are undone from the last to the first."""
        for place, kind in reversed(list(enumerate(self._filters))):
            if mask >> place & 1:
                continue
            if kind == DEFLATE:
                raw = zlib.decompressobj().decompress(raw, count + 4)
            elif kind == FLETCHER32:
                raw = raw[:-4]
            elif kind == SHUFFLE:
                raw = np.frombuffer(raw, np.uint8).reshape(DESCRIPTOR.itemsize, -1).T.tobytes()
            else:
                raise ValueError(f"{self.name} has filter {kind}; h5repack -f NONE undoes it")
        if len(raw) != count:
            raise ValueError(f"{self.name} has a chunk of {len(raw)} bytes instead of {count}")
        return raw


MOST_VALUES = 8 * MOST_VOXELS
"""Of a row: eight columns a voxel."""


def room(dataset: Any, name: str, item: int, raw: Raw) -> None:
    """Refuse a dataset that claims more rows than there is room for in its file.

    Args:
        dataset: an h5py dataset of one axis.
        name: for errors.
        item: bytes of a row as stored.
        raw: the file that it is in.
    """
    count, layout = len(dataset), dataset.id.get_create_plist().get_layout()
    if layout == CHUNKED:
        step = dataset.chunks[0]
        if step * item > MOST_BYTES:
            raise ValueError(f"{name} has chunks of {step} rows; the file is broken")
        there = dataset.id.get_num_chunks() * step
    elif layout == CONTIGUOUS:
        there = dataset.id.get_storage_size() // item
        offset = dataset.id.get_offset()
        if count and (offset is None or offset + count * item > raw.size):
            there = 0
    else:
        raise ValueError(f"{name} is stored in a way that is not read; h5repack the file")
    if count > there:
        raise ValueError(f"{name} claims {count} rows, {there} are there: cut short")
