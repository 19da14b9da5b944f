"""Open an HDF5 file, plain or packed with xz, that keeps all its values itself; make a new file."""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path
from typing import Any

import h5py

from lartpc_ray.data.formats.source import BrokenFileError, locate_errors
from lartpc_ray.data.formats.vlen import FileBytes
from lartpc_ray.terminal.system_errors import shortage
from lartpc_ray.terminal.text import error_text

MAX_UNPACKED = 2**29
"""Largest size of an unpacked file, bytes."""
STEP = 2**24
"""Bytes that one call unpacks at most."""
BLOCK = 2**16
"""Bytes that are unpacked at a time; with larger blocks a file of many streams takes far longer."""


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file, which show its format.

    Raises:
        ValueError: if there is no such file.
        OSError: with the name of the file, if its disk fails.
    """
    if path.exists() and not path.is_file():
        raise BrokenFileError(f"{path}: a pipe or a device; give a file of events")
    if not path.is_file():
        missing = FileNotFoundError(ENOENT, "no such file", str(path))
        raise BrokenFileError(f"{path}: no such file; give a file of events") from missing
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        error.filename = str(path)
        raise


def open_hdf5(path: Path) -> tuple[h5py.File, FileBytes]:
    """Open an HDF5 file, and return it with its bytes.

    Raises:
        ValueError: for another format, a broken file, or a link to another file.
    """
    try:
        file, content = _open(path, packed=read_start(path).startswith(b"\xfd7zXZ"))
    except (OSError, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise unreadable(path, error) from error
    with locate_errors(path):
        name = file.visititems_links(_external)  # a link to a pipe would wait for ever
        if name is not None:
            raise ValueError(
                f"{name!r} is a link to another file, which is never followed; copy the data into "
                "one file"
            )
    return file, content


def unreadable(path: Path, error: Exception) -> BrokenFileError:
    """Return the error of a file that HDF5 cannot open: locked, out of reach now, or broken."""
    reason = error_text(error)
    if "unable to lock file" in reason:
        return BrokenFileError(
            f"{path}: locked by a program that writes it; wait for the end of that program, or "
            "set HDF5_USE_FILE_LOCKING=FALSE for a disk without locks"
        )
    if failure := shortage(error):
        return BrokenFileError(f"{path}: cannot be read now ({failure})")
    return BrokenFileError(f"{path}: not a readable HDF5 file, or cut short ({reason})")


def _open(path: Path, *, packed: bool) -> tuple[h5py.File, FileBytes]:
    if packed:
        unpacked = _unpack(path)
        return h5py.File(unpacked, "r"), FileBytes(unpacked)
    return h5py.File(path, "r"), FileBytes(path.open("rb"))


def _external(name: str, link: Any) -> str | None:
    """Return the name of a link to another file; h5py loses an error that is raised here."""
    return None if isinstance(link, h5py.HardLink | h5py.SoftLink) else name


def _unpack(path: Path) -> io.BytesIO:
    """Unpack a file of one or several xz streams, with work and memory that the limits bound."""
    unpacked = io.BytesIO()
    unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28)
    with path.open("rb") as file:
        packed = file.read(BLOCK)
        while True:
            unpacked.write(unpack.decompress(packed, STEP))
            if unpacked.tell() > MAX_UNPACKED:
                raise ValueError(f"more than {MAX_UNPACKED} bytes unpacked; use xz -d first")
            packed = b""
            if unpack.eof:
                packed = unpack.unused_data.lstrip(b"\0")  # padding between streams
                while not packed and (block := file.read(BLOCK)):
                    packed = block.lstrip(b"\0")
                if not packed:
                    break
                unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28)
            elif unpack.needs_input and not (packed := file.read(BLOCK)):
                raise EOFError("the packed data ends too early")
    unpacked.seek(0)
    return unpacked


class DiskFile(io.FileIO):
    """A new file for HDF5 in which no write fails.

    HDF5 cannot close a file after a failed write: the process ends with a segmentation fault. So
    the writes after an error go into memory, and `check` raises the error.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the error of an earlier write, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of the data, to the disk or, after an error, into memory."""
        content, position = memoryview(data).cast("B"), self.tell()
        done = 0
        while self._error is None and done < len(content):
            try:
                done += super().write(content[done:])
            except OSError as error:
                self._error = error
        if done < len(content):
            self._kept.append((position + done, bytes(content[done:])))
            self.seek(position + len(content))
        return len(content)

    def readinto(self, data: Any) -> int:
        """Read from the disk, and from memory where an error has kept data there."""
        content, position = memoryview(data).cast("B"), self.tell()
        super().readinto(content)
        for start, kept in self._kept:
            first, last = max(start, position), min(start + len(kept), position + len(content))
            if first < last:
                content[first - position : last - position] = kept[first - start : last - start]
        self.seek(position + len(content))
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Set the size on the disk."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0


@contextmanager
def create_hdf5(path: Path) -> Iterator[tuple[h5py.File, DiskFile]]:
    """Give a new HDF5 file and the file below it, for `check` after each event.

    Raises:
        OSError: if a write has failed.
    """
    with DiskFile(path) as below:
        with h5py.File(below, "w") as file:
            yield file, below
        below.check()
