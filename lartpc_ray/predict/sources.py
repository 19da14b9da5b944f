"""The events of a prediction: a split, or files and folders of files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from lartpc_ray.data.event import Events
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.shards import ENDS, list_shards
from lartpc_ray.data.splits import Split, Splits
from lartpc_ray.settings import Settings


class SplitEvents(Settings):
    """The events of a split, after the transforms that all tasks share."""

    kind: Literal["split"] = "split"
    splits: Splits
    split: Split

    def open(self) -> Events:
        """Open the events."""
        return self.splits.events(self.split)


class FileEvents(Settings):
    """The events of one or more files, in the order of the files, as the files hold them."""

    kind: Literal["files"] = "files"
    files: tuple[Path, ...]
    layout: Layout

    def open(self) -> Events:
        """Open the events; read the number of events of every file."""
        return JoinedEvents(self.files, self.layout)


class JoinedEvents(Events):
    """The events of many files as one sequence; one file is open at a time."""

    def __init__(self, files: Sequence[Path], layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self._open: tuple[int, Any] | None = None
        self._starts = [0, *accumulate(len(self._source(file)) for file in range(len(files)))]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> Any:
        file, number = self._locate(index)
        return self._source(file)[number]

    def voxels(self, index: int) -> int:
        file, number = self._locate(index)
        return int(self._source(file).voxels(number))

    def tables(self, index: int) -> Tables | None:
        """Return all that a PILArNet-M file holds of an event; None in another format."""
        file, number = self._locate(index)
        tables: Tables | None = self._source(file).tables(number)
        return tables

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the file of an event, and its number in the file."""
        file = min(bisect_right(self._starts, index), len(self._files)) - 1
        return file, index - self._starts[file]

    def _source(self, file: int) -> Any:
        if self._open is None or self._open[0] != file:
            if self._open:
                self._open[1].close()
            self._open = file, open_events(self._files[file], self._layout)
        return self._open[1]


def event_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the given files, and the files of the given folders in the order of their names.

    Raises:
        ValueError: for a folder without files of events.
    """
    files: list[Path] = []
    for path in paths:
        inside = list_shards(path) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: no event file ({', '.join(ENDS)}) in this folder")
        files += inside
    return tuple(file.resolve() for file in files)
