"""The variable-length rows of an HDF5 dataset, read without HDF5's own reader of them.

That one makes room for whatever length a row claims before it looks whether the file holds it, and
does not come back from some broken heaps. A row is a descriptor of 16 bytes (length u4, address u8,
number u4) in the dataset. Its values lie in a heap at that address, never compressed: `GCOL`, u1
version, 3 bytes, u8 size of the heap; then objects of u2 number (0: free space), 6 bytes, u8 size,
values, each object padded to 8 bytes.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any

import numpy as np

from lartpc_ray.data.formats.source import MOST_BYTES, MOST_VOXELS

HEAD = 16
"""Bytes before the objects of a heap, and before the values of an object."""
DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
MOST_HEAP = 2**28
"""Bytes of a heap: one event of 4,000,000 voxels has half of them."""
CONTIGUOUS, CHUNKED = 1, 2
DEFLATE, SHUFFLE = 1, 2


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
        self._kind = dataset.dtype.metadata["vlen"]
        self._known: tuple[int, np.ndarray] = (0, np.zeros(0, DESCRIPTOR))
        self._heap: tuple[int, bytes] = (-1, b"")
        plan, start = dataset.id.get_create_plist(), dataset.file.id.get_create_plist()
        self._filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        self._base = int(start.get_userblock())
        if start.get_sizes() != (8, 8):
            raise ValueError(
                f"{name} has addresses of another size than 8 bytes; h5repack the file"
            )
        room(dataset, name, DESCRIPTOR.itemsize, raw)

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def row(self, index: int, most: int) -> np.ndarray:
        """The values of one row.

        Raises:
            ValueError: where the row claims more than `most` values, or others than are there.
        """
        length, address, number = self._descriptor(index)
        if not length:
            return np.zeros(0, self._kind)
        if length > most:
            raise ValueError(f"{self.name} claims {length} values; the file is broken")
        heap = self._heap_at(address)
        start, size = self._object(heap, number)
        if size != length * self._kind.itemsize:
            raise ValueError(f"{self.name} claims {length} values, there are {size} bytes of them")
        return np.frombuffer(heap, self._kind, length, start)

    def length(self, index: int) -> int:
        """How many values a row claims to hold."""
        return self._descriptor(index)[0]

    def _descriptor(self, index: int) -> tuple[int, int, int]:
        start, known = self._known
        if not start <= index < start + len(known):
            start, raw = self._descriptors(index)
            known = np.frombuffer(raw, DESCRIPTOR)
            self._known = (start, known)
        length, address, number = known[index - start].item()
        return length, address, number

    def _heap_at(self, address: int) -> bytes:
        at, heap = self._heap
        if at != address:
            head = self._raw.read(self._base + address, 16) if address < self._raw.size else b""
            size = int.from_bytes(head[8:], "little")
            there = min(self._raw.size - self._base - address, MOST_HEAP)
            if head[:5] != b"GCOL\1" or size > there:
                raise ValueError(f"{self.name} has its values at {address}, where none are")
            heap = self._raw.read(self._base + address, size)
            self._heap = (address, heap)
        return heap

    def _object(self, heap: bytes, number: int) -> tuple[int, int]:
        """(first byte, bytes) of an object of a heap."""
        place = HEAD
        while place + HEAD <= len(heap):
            found, size = struct.unpack_from("<H6xQ", heap, place)
            if found == number and place + HEAD + size <= len(heap):
                return place + HEAD, size
            place += HEAD + -(-size // 8) * 8 if found else max(size, HEAD)
        raise ValueError(f"{self.name} has no values of number {number} where they should be")

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
                raw = zlib.decompressobj().decompress(raw, count)
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
