"""Read the variable-length rows of an HDF5 dataset without HDF5's own reader of them.

HDF5 allocates the length that a row claims before it checks that the file holds it, and hangs on
some broken heaps. A row is a descriptor of 16 bytes (length u4, address u8, number u4) in the
dataset. Its values lie in a heap at that address, never compressed: `GCOL`, u1 version, 3 bytes, u8
size of the heap; then objects of u2 number (0: free space), 6 bytes, u8 size, values, each object
padded to 8 bytes.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from lartpc_ray.data.formats.source import MAX_ARRAY_BYTES

HEADER_BYTES = 16
"""Size of the header of a heap, and of an object in it."""
DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
MAX_HEAP_BYTES = 2**28
"""Size of a heap: twice that of an event of 4,000,000 voxels."""
CONTIGUOUS, CHUNKED = 1, 2
DEFLATE, SHUFFLE, LZF = 1, 2, 32000
FILTER_NAMES = {
    **{
        3: "Fletcher32",
        4: "SZIP",
        5: "N-bit",
        6: "scale-offset",
        307: "bzip2",
        32001: "Blosc",
        32004: "LZ4",
    },
    **{32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32015: "Zstandard", 32026: "Blosc2"},
}
"""Names of the filters that are not undone here."""


class FileBytes:
    """The bytes of a file on disk or in memory; threads may read them at the same time."""

    def __init__(self, file: io.BytesIO | io.BufferedReader) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        if isinstance(self._file, io.BytesIO):
            return bytes(self._file.getbuffer()[offset : offset + count])
        return os.pread(self._file.fileno(), count, offset)

    def close(self) -> None:
        self._file.close()


class VlenRows:
    """A dataset of variable-length rows of numbers, one row per event.

    Args:
        name: name of the dataset, for errors.
        dataset: the h5py dataset.
        content: the bytes of its file.

    Raises:
        ValueError: if the dataset claims more rows than its file has room for.
    """

    def __init__(self, name: str, dataset: Any, content: FileBytes) -> None:
        self.name = name
        self._dataset = dataset
        self._bytes = content
        self._kind = dataset.dtype.metadata["vlen"]
        self._piece: tuple[int, np.ndarray] = (0, np.zeros(0, DESCRIPTOR))
        self._heap: tuple[int, bytes] = (-1, b"")
        created, file = dataset.id.get_create_plist(), dataset.file.id.get_create_plist()
        self._filters = [created.get_filter(n)[0] for n in range(created.get_nfilters())]
        self._start = int(file.get_userblock())
        if file.get_sizes() != (8, 8):
            raise ValueError(
                f"{name} has addresses of another size than 8 bytes; h5repack the file"
            )
        check_room(dataset, name, DESCRIPTOR.itemsize, content)

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def row(self, index: int, most: int) -> np.ndarray:
        """Read the values of a row.

        Raises:
            ValueError: if the row claims more than `most` values, or more or fewer than are stored.
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
        """Return the number of values that a row claims to hold."""
        return self._descriptor(index)[0]

    def filled(self) -> Iterator[int]:
        """Yield the numbers of the rows that claim to hold values."""
        start = 0
        while start < len(self):
            self._descriptor(start)
            first, descriptors = self._piece
            yield from (first + np.flatnonzero(descriptors["length"])).tolist()
            start = first + len(descriptors)

    def _descriptor(self, index: int) -> tuple[int, int, int]:
        start, descriptors = self._piece
        if not start <= index < start + len(descriptors):
            start, piece = self._read_descriptors(index)
            descriptors = np.frombuffer(piece, DESCRIPTOR)
            self._piece = (start, descriptors)
        length, address, number = descriptors[index - start].item()
        return length, address, number

    def _heap_at(self, address: int) -> bytes:
        known, heap = self._heap
        if known != address:
            offset = self._start + address
            header = self._bytes.read(offset, 16) if address < self._bytes.size else b""
            size = int.from_bytes(header[8:], "little")
            if header[:5] != b"GCOL\1" or size > min(self._bytes.size - offset, MAX_HEAP_BYTES):
                raise ValueError(f"{self.name} has its values at {address}, where none are")
            heap = self._bytes.read(offset, size)
            self._heap = (address, heap)
        return heap

    def _object(self, heap: bytes, number: int) -> tuple[int, int]:
        """Return first byte and size of an object of a heap."""
        offset = HEADER_BYTES
        while offset + HEADER_BYTES <= len(heap):
            present, size = struct.unpack_from("<H6xQ", heap, offset)
            if present == number and offset + HEADER_BYTES + size <= len(heap):
                return offset + HEADER_BYTES, size
            padded = HEADER_BYTES + -(-size // 8) * 8
            offset += padded if present else max(size, HEADER_BYTES)
        raise ValueError(f"{self.name} has no values of number {number} where they should be")

    def _read_descriptors(self, index: int) -> tuple[int, bytes]:
        """Return the first row of the chunk that holds a row, and the chunk's descriptors."""
        if self._dataset.chunks is None:
            start = index - index % 4096
            count = min(4096, len(self) - start) * DESCRIPTOR.itemsize
            offset = self._dataset.id.get_offset() + start * DESCRIPTOR.itemsize
            return start, self._bytes.read(offset, count)
        step = self._dataset.chunks[0]
        start = index - index % step
        info = self._dataset.id.get_chunk_info_by_coord((start,))
        if info.byte_offset is None:
            return start, bytes(step * DESCRIPTOR.itemsize)
        if info.size > self._bytes.size:
            raise ValueError(f"{self.name} claims a chunk of {info.size} bytes; cut short")
        if not self._filters and info.size != step * DESCRIPTOR.itemsize:  # HDF5 would overrun
            raise ValueError(f"{self.name} claims a chunk of {info.size} bytes; the file is broken")
        mask, chunk = self._dataset.id.read_direct_chunk((start,))
        return start, self._unpack(bytes(chunk), mask, step * DESCRIPTOR.itemsize)

    def _unpack(self, chunk: bytes, mask: int, count: int) -> bytes:
        """Undo the filters of a chunk from the last to the first; `mask` marks unused filters."""
        for number, kind in reversed(list(enumerate(self._filters))):
            if mask >> number & 1:
                continue
            if kind == DEFLATE:
                chunk = zlib.decompressobj().decompress(chunk, count)
            elif kind == SHUFFLE:
                chunk = np.frombuffer(chunk, np.uint8).reshape(DESCRIPTOR.itemsize, -1).T.tobytes()
            elif kind == LZF:
                chunk = unpack_lzf(chunk, count)
            else:
                name = FILTER_NAMES.get(kind, f"number {kind}")
                raise ValueError(
                    f"{self.name} has the filter {name}; h5repack -f NONE IN.h5 OUT.h5 undoes it"
                )
        if len(chunk) != count:
            raise ValueError(f"{self.name} has a chunk of {len(chunk)} bytes instead of {count}")
        return chunk


def unpack_lzf(packed: bytes, count: int) -> bytes:
    """Undo LZF: copies of bytes, and references to bytes that are already unpacked.

    A first byte below 32 starts a run of copied bytes. Otherwise its upper 3 bits, plus a second
    byte if they are 7, give the length, and its lower 5 bits with the next byte the distance.

    Args:
        packed: a packed chunk; h5py stores a chunk that does not shrink as it is.
        count: number of unpacked bytes.

    Example:
        >>> unpack_lzf(bytes([1, 65, 66, 0x40, 1]), 6)
        b'ABABAB'
    """
    out, place = bytearray(), 0
    while place < len(packed) and len(out) <= count:
        control = packed[place]
        place += 1
        if control < 32:
            out += packed[place : place + control + 1]
            place += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[place]
            place += 1
        start = len(out) - ((control & 31) << 8) - packed[place] - 1
        place += 1
        if start < 0:
            raise ValueError("a chunk that LZF cannot unpack; the file is broken")
        for offset in range(start, start + length + 2):  # the bytes may overlap
            out.append(out[offset])
    return bytes(out)


def check_room(dataset: Any, name: str, row_bytes: int, content: FileBytes) -> None:
    """Refuse a dataset of one axis that claims more rows than its file has room for.

    Args:
        dataset: the h5py dataset.
        name: its name, for errors.
        row_bytes: size of a stored row.
        content: the bytes of its file.
    """
    count, layout = len(dataset), dataset.id.get_create_plist().get_layout()
    if dataset.is_virtual or dataset.external:
        kind = "a virtual dataset" if dataset.is_virtual else "a dataset with external storage"
        raise ValueError(
            f"{name} is {kind}: its values are in other files, which are never read; "
            "copy them into one file"
        )
    if layout == CHUNKED:
        step = dataset.chunks[0]
        if step * row_bytes > MAX_ARRAY_BYTES:
            raise ValueError(f"{name} has chunks of {step} rows; the file is broken")
        stored = dataset.id.get_num_chunks() * step
    elif layout == CONTIGUOUS:
        stored = dataset.id.get_storage_size() // row_bytes
        offset = dataset.id.get_offset()
        if count and (offset is None or offset + count * row_bytes > content.size):
            stored = 0
    else:
        raise ValueError(f"{name} has an unknown storage layout; h5repack the file")
    if count > stored:
        raise ValueError(f"{name} claims {count} rows, {stored} are there: cut short")
