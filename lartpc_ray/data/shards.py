"""The events of a folder of files, as one sequence; few files are open at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.arrays import read_npy
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.pilarnet import MAX_SIDE_EVENTS
from lartpc_ray.data.formats.pilarnet_writer import sidecar_path
from lartpc_ray.data.formats.source import (
    MAX_EVENT_VOXELS,
    EventSource,
    Tables,
    find_side,
    list_names,
    locate_errors,
)
from lartpc_ray.data.limits import MAX_SIDE
from lartpc_ray.terminal.command import log

ENDS = (".h5", ".hdf5", ".h5.xz", ".root", ".parquet", ".csv", ".npz")
"""Ends of the names of event files; other files of a folder are no events."""
TABLE_ENDS = (".clusters.parquet", ".metrics.parquet")
"""Ends of the names of the tables beside predicted events (`predict --tables`)."""
MAX_OPEN = 32
"""Files that are open at the same time."""
MAX_HEADER_BYTES = 2**16
"""Bytes of the header of a sidecar file, at most."""
Opener = Callable[[Path, Layout], EventSource]


def list_shards(folder: Path) -> list[Path]:
    """Return the event files of a folder in the order of their names.

    Raises:
        ValueError: for a link to a file that is not there, a pipe or a device.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(ENDS)
        and not path.name.lower().endswith(TABLE_ENDS)
        and not path.name.startswith(".")
        and not path.is_dir()
    )
    for path in paths:
        if not path.is_file():
            reason = f"a link to {path.readlink()}" if path.is_symlink() else "a pipe or a device"
            raise ValueError(f"{path}: {reason}, which is no file; remove it, or mount its disk")
    return paths


def find_lonely_sidecars(folder: Path, files: list[Path]) -> list[str]:
    """Return the names of sidecar files beside which there is no event file."""
    known = {sidecar_path(path).name for path in files}
    return sorted(path.name for path in folder.glob("*_points.npy") if path.name not in known)


class ShardFolder(EventSource):
    """Random access to the events of all files of a folder, file after file.

    Each file is opened once for its number of events, and again when an event of it is read.

    Args:
        path: the folder.
        layout: how to read the files.
        open_file: opens one of them.
        from_voxels: take the side of the images from the voxels (see `open_events`).

    Raises:
        ValueError: for a folder without event files, or with a broken one.
    """

    def __init__(
        self, path: Path, layout: Layout, open_file: Opener, *, from_voxels: bool = False
    ) -> None:
        self.path, self.layout, self._open_file = path, layout, open_file
        self._files = list_shards(path)
        if not self._files:
            raise ValueError(f"{path}: no event file ({', '.join(ENDS)}) in this folder")
        self._opened: dict[int, EventSource] = {}
        shards = [self._shard(number) for number in range(len(self._files))]
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        kinds = Counter(shard.kind for shard in shards)
        self.kind = ", ".join(
            f"{count} {'file' if count == 1 else 'files'} of {kind}"
            for kind, count in kinds.items()
        )
        self.predicted = any(shard.predicted for shard in shards)
        self._sizes = [read_sidecar(*pair) for pair in zip(self._files, shards, strict=True)]
        if from_voxels:
            self._describe({shard.limits for shard in shards if shard.limits})

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) or not 0 <= index < len(self):
            return super().__getitem__(index)
        return self._event(index)  # the file adds its name to an error

    def voxels(self, index: int) -> int:
        """Return the number of voxels of an event, from the sidecar file if there is one."""
        number, row = self._locate(index)
        sizes = self._sizes[number]
        return self._shard(number).voxels(row) if sizes is None else int(sizes[row])

    def tables(self, index: int) -> Tables | None:
        number, row = self._locate(index)
        return self._shard(number).tables(row)

    def left_out(self) -> list[str]:
        return sorted({line for n in range(len(self._files)) for line in self._shard(n).left_out()})

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()

    def _event(self, index: int) -> Event:
        number, row = self._locate(index)
        event: Event = self._shard(number)[row]
        return event

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the file that holds an event, and the event's number there."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, int(index - self._starts[number])

    def _shard(self, number: int) -> EventSource:
        """Open a file unless it is open, and close the one that was used longest ago."""
        shard = self._opened.pop(number, None)
        if shard is None:
            while len(self._opened) >= MAX_OPEN:
                self._opened.pop(next(iter(self._opened))).close()
            shard = self._open_file(self._files[number], self.layout)
        self._opened[number] = shard
        return shard

    def _describe(self, limits: set[str]) -> None:
        """Take the side of the images from the voxels; log the limits of the layouts."""
        for limit in sorted(limits):
            log.info(f"{self.path}: {limit}")
        if lonely := find_lonely_sidecars(self.path, self._files):
            log.warning(
                f"{self.path}: {list_names(lonely)} without the events; a file of the folder is "
                "missing"
            )
        known = self.layout
        self._use(known.model_copy(update={"side": MAX_SIDE}))
        step = -(-len(self) // MAX_SIDE_EVENTS) or 1
        events: list[Event] = [self._event(index) for index in range(0, len(self), step)]
        if all(event.shape[0] == MAX_SIDE for event in events):  # no file holds its own size
            with locate_errors(self.path):
                side = find_side(event.coords for event in events)
            known = known.model_copy(update={"side": side})
        self._use(known)

    def _use(self, layout: Layout) -> None:
        self.close()
        self.layout = layout


def read_sidecar(path: Path, events: EventSource) -> np.ndarray | None:
    """Return the number of voxels of each event from the sidecar of a file, if there is one.

    Raises:
        ValueError: for a damaged sidecar, or one of another number of events.
    """
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return None
    with locate_errors(sidecar):
        if sidecar.stat().st_size > MAX_HEADER_BYTES + 8 * len(events):
            raise ValueError(
                f"larger than the sizes of {len(events)} events of {path.name}; remove the sidecar "
                "file or write it again"
            )
        try:
            sizes = read_npy(sidecar.read_bytes())
        except ValueError as error:
            raise ValueError(f"{error}; remove the sidecar file or write it again") from error
        if sizes.shape != (len(events),) or sizes.dtype.kind not in "iu":
            raise ValueError(
                f"{sizes.dtype} of shape {sizes.shape} for {len(events)} events of {path.name}; "
                "remove the sidecar file or write it again"
            )
        wrong = (sizes < 0) | (sizes > MAX_EVENT_VOXELS)
        if wrong.any():
            event = int(np.argmax(wrong))
            raise ValueError(
                f"event {event} of {path.name}: {sizes[event]} voxels; remove the sidecar file or "
                "write it again"
            )
    return sizes
