"""Read one event from an .npz with the arrays coord, energy, motif, pid and instance.

`motif` holds the semantic codes of PILArNet-M, `pid` its particles, `instance` the group, -1 none.
A test event of PILArNet-M is published in this format.
"""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
    MAX_ARRAY_BYTES,
    EventSource,
    assign_classes,
    find_side,
    list_names,
    locate_errors,
    to_indices,
)

ARRAYS = {"coord": "fiu", "energy": "fiu", "motif": "iu", "pid": "iu", "instance": "iu"}
"""The arrays of an event, and the kinds of their numbers."""


class ArrayFile(EventSource):
    """The single event of a file of arrays; for the arguments see `EventFile`."""

    def __init__(self, path: Path, layout: Layout, *, from_voxels: bool = False) -> None:
        self.path, self.layout = path, layout
        self.kind = "arrays of one event (npz)"
        with locate_errors(self.path):
            self._zip = ZipFile(self.path)
            missing = ARRAYS.keys() - {name.removesuffix(".npy") for name in self._zip.namelist()}
            if missing:
                names = list_names(self._zip.namelist())
                raise ValueError(f"no array {list_names(missing)} (found: {names})")
            if from_voxels:
                side = find_side([self._array("coord")])
                self.layout = layout.model_copy(update={"side": side})

    def __len__(self) -> int:
        return 1

    def _event(self, index: int) -> Event:
        arrays = {name: self._array(name) for name in ARRAYS}
        coords = arrays.pop("coord")
        if coords.ndim != 2 or any(array.shape != coords.shape[:1] for array in arrays.values()):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(f"sizes do not agree: coord {coords.shape}, {shapes}")
        semantic, kept = assign_classes(arrays["motif"], arrays["pid"], self.layout.classes)
        return self._make_event(
            to_indices(coords),
            arrays["energy"],
            (self.layout.side,) * 3,
            semantic,
            arrays["instance"].astype(np.int64),
            kept,
        )

    def _array(self, name: str) -> np.ndarray:
        """Read an array after a check of its header against the size of its bytes."""
        entry = self._zip.getinfo(f"{name}.npy")
        if entry.file_size > MAX_ARRAY_BYTES:
            raise ValueError(f"{name} claims {entry.file_size} bytes; the file is broken")
        data = self._zip.read(entry)
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(stream)
        if kind.kind not in ARRAYS[name]:
            raise ValueError(f"{name} holds {kind}, which it cannot be")
        body = data[stream.tell() :]
        if min(shape, default=0) < 0 or np.prod([float(n) for n in shape]) * kind.itemsize != len(
            body
        ):
            raise ValueError(f"{name} claims shape {shape}, and holds {len(body)} bytes")
        return np.frombuffer(body, kind).reshape(shape, order="F" if fortran else "C")

    def close(self) -> None:
        self._zip.close()
