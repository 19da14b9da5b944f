"""Read one event from an .npz with the arrays coord, energy, motif, pid and instance.

`motif` holds the semantic codes of PILArNet-M, `pid` its particles, `instance` the group, -1 none.
A test event of PILArNet-M is published in this format.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.arrays import read_member
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
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
        """Read an array of the right kind of numbers."""
        array = read_member(self._zip, name)
        if array.dtype.kind not in ARRAYS[name]:
            raise ValueError(f"{name} holds {array.dtype}, which it cannot be")
        return array

    def close(self) -> None:
        self._zip.close()
