"""Tables in an HDF5 file whose rows belong to events: find them, check their room, read rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
    MAX_ARRAY_BYTES,
    MAX_EVENT_VOXELS,
    EventSource,
    check_count,
    list_names,
    locate_errors,
)
from lartpc_ray.data.formats.vlen import FileBytes, check_room
from lartpc_ray.terminal.command import log

STEP = 2**16
"""Rows that are read at once to find the events of a table."""


class TableFile(EventSource):
    """Random access to the events of an HDF5 file of tables.

    Args:
        path: the file.
        layout: how to read it.
        opened: the file and its bytes, which this object closes.
        from_voxels: take the side of the images from the positions (see `open_events`).
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        opened: tuple[h5py.File, FileBytes],
        *,
        from_voxels: bool = False,
    ) -> None:
        self.path, self.layout = path, layout
        self._file, self._content = opened
        with locate_errors(path):
            self._find_events()
            check_count(len(self), self._content.size)
            self._find_truth()
            if from_voxels:
                self.layout = layout.model_copy(update={"side": self._side()})
        if from_voxels and self.limits:
            log.info(f"{path}: {self.limits}")

    @abstractmethod
    def _find_events(self) -> None:
        """Find the events and their rows; set `kind`."""

    @abstractmethod
    def _find_truth(self) -> None:
        """Find the tables of the truth; set `limits` if the file has none."""

    @abstractmethod
    def _side(self) -> int:
        """Return the side of an image that holds all events."""

    def close(self) -> None:
        self._file.close()
        self._content.close()


def find_table(file: h5py.File, name: str, content: FileBytes) -> h5py.Dataset:
    """Return a dataset of one row per entry, after a check of its claims.

    Args:
        file: the file.
        name: of the dataset, with its groups.
        content: the bytes of the file.

    Raises:
        ValueError: if it is missing, or claims more than the file has room for.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim not in (1, 2):
        parent = file.get(name.rpartition("/")[0] or "/")
        names = list_names(parent) if isinstance(parent, h5py.Group) else "nothing"
        raise ValueError(f"no table {name} (found: {names})")
    width = int(np.prod(found.shape[1:]))
    if found.chunks and int(np.prod(found.chunks)) * found.dtype.itemsize > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} has chunks of {found.chunks} values; h5repack the file")
    check_room(found, name, max(width, 1) * found.dtype.itemsize, content)
    return found


def find_column(
    file: h5py.File, name: str, kinds: str, content: FileBytes, *, width: int = 1
) -> h5py.Dataset:
    """Return a dataset of numbers of these kinds, (row, width) or, for width 1, also (row,)."""
    found = find_table(file, name, content)
    if found.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {found.dtype}, which it cannot be")
    if int(np.prod(found.shape[1:])) != width:
        raise ValueError(f"{name} has shape {found.shape}; give (row, {width})")
    return found


def read_rows(table: Any, name: str, first: int, last: int) -> np.ndarray:
    """Read the rows `first` to `last` - 1 of a table, which are those of one event.

    Args:
        table: a dataset, or fields of it.
        name: its name, for errors.
        first, last: rows; they must exist.
    """
    if last - first > MAX_EVENT_VOXELS:
        raise ValueError(f"{name}: {last - first} rows of one event; the file is broken")
    rows = np.asarray(table[first:last])
    if len(rows) != last - first:
        raise ValueError(f"{name}: rows {first} to {last}: {len(rows)} are there")
    return rows


def steps(table: Any, count: int) -> Iterator[np.ndarray]:
    """Yield all rows of a table, some at a time."""
    for first in range(0, count, STEP):
        yield np.asarray(table[first : min(first + STEP, count)])


def group_rows(numbers: Iterable[np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the events of a table from the column of their numbers.

    Args:
        numbers: the column, piece by piece: (row,), or (row, 3) for run, subrun, event.
        name: of the table, for errors.

    Returns:
        the number of each event, (event, 1 or 3), in the order of the rows; the first row of each,
        and the number of rows at the end, (event + 1,).

    Raises:
        ValueError: for an event whose rows are not together.

    Example:
        >>> events, starts = group_rows([np.array([7, 7]), np.array([7, 3])], "hits")
        >>> events[:, 0].tolist(), starts.tolist()
        ([7, 3], [0, 3, 4])
    """
    events: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    row, last = 0, None
    for piece in numbers:
        if not len(piece):  # a row group without rows
            continue
        column = piece.reshape(len(piece), -1).astype(np.int64)
        before = column[:1] if last is None else last
        new = (column != np.concatenate([before, column[:-1]])).any(axis=1)
        new[:1] |= last is None
        events.append(column[new])
        starts.append(row + np.flatnonzero(new))
        row, last = row + len(column), column[-1:]
    found = np.concatenate(events) if events else np.empty((0, 1), np.int64)
    firsts = np.concatenate([*starts, [row]]).astype(np.int64)
    again = np.flatnonzero(repeated(found))
    if len(again):
        number = " ".join(map(str, found[again[0]]))
        raise ValueError(
            f"{name} row {firsts[again[0]]}: event {number} begins again; sort the rows by event"
        )
    return found, firsts


def repeated(numbers: np.ndarray) -> np.ndarray:
    """Return which of the numbers (event, ...) occurred before.

    Example:
        >>> repeated(np.array([7, 3, 7])).tolist()
        [False, False, True]
    """
    _, first, index = np.unique(numbers, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[index.reshape(-1)] != np.arange(len(numbers)))


def match_events(
    events: np.ndarray, others: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last row in another table of each event; equal where it has none.

    Args:
        events: (event, k) numbers of the events.
        others, starts: of the other table, from `group_rows`.
    """
    known = {tuple(number): row for row, number in enumerate(others.tolist())}
    rows = np.array([known.get(tuple(number), -1) for number in events.tolist()], np.int64)
    first = np.where(rows >= 0, starts[rows], 0)
    return first, np.where(rows >= 0, starts[rows + 1], 0)
