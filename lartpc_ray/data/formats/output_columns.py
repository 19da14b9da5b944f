"""Network outputs as columns: one HDF5 dataset per quantity, one row per voxel.

Datasets, with the voxels of all events one after the other:

* `event` integer (voxel,): number of the event, ascending.
* `class` integer (voxel,): 0 HIP, 1 MIP, 2 SHOWER, 3 DELTA, 4 MICHEL, -1 unknown.
* `cluster` integer (voxel,): true cluster in the event, -1 none.
* `position` float (voxel, axis): embedding position, any number of axes.
* `margin` float (voxel,): kernel width sigma, above 0.
* `seediness` float (voxel,): 0 to 1.
* `coords` integer (voxel, axis), optional: voxel indices, for methods that need the image.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lartpc_ray.data.formats.outputs import (
    COLUMNS,
    OutputsFile,
    check_lengths,
    find_column,
    read_rows,
)
from lartpc_ray.data.formats.source import locate_errors

BLOCK_ROWS = 2**20
"""Rows of `event` that are read at once to find the first voxel of each event."""


class ColumnsFile(OutputsFile):
    """Network outputs as columns.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> arrays = {"event": [0, 0, 1], "class": [1, 1, 2], "cluster": [0, 0, -1],
        ...           "position": np.zeros((3, 2)), "margin": [1.0] * 3, "seediness": [0.5] * 3}
        >>> with TemporaryDirectory() as folder, h5py.File(Path(folder) / "a.h5", "w") as file:
        ...     for name, values in arrays.items():
        ...         file[name] = values
        ...     outputs = ColumnsFile(Path(folder) / "a.h5", file)
        ...     len(outputs), outputs[0]["class"].tolist()
        (2, [1, 1])
    """

    kind = "columns"

    def __init__(self, path: Path, file: h5py.File) -> None:
        super().__init__(path, file)
        with locate_errors(f"{path}: not the outputs of a network"):
            event = find_column(file, "event", "iu")
            if event.shape[1:] not in ((), (1,)):
                raise ValueError(f"event has shape {event.shape}; give (voxel,)")
            names = [*COLUMNS, *(["coords"] if "coords" in file else [])]
            self._columns = {name: find_column(file, name) for name in names}
            check_lengths([event, *self._columns.values()])
            self._starts = _first_rows(event)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _arrays(self, index: int) -> dict[str, np.ndarray]:
        rows = int(self._starts[index]), int(self._starts[index + 1])
        return {name: read_rows(column, *rows) for name, column in self._columns.items()}


def _first_rows(event: h5py.Dataset) -> np.ndarray:
    """Return the first row of each event, and the number of rows at the end.

    Raises:
        ValueError: if the event numbers do not ascend.
    """
    starts, last = [], None
    for first in range(0, len(event), BLOCK_ROWS):
        numbers = np.asarray(event[first : first + BLOCK_ROWS]).reshape(-1)
        before = np.concatenate([numbers[:1] if last is None else [last], numbers[:-1]])
        if (numbers < before).any():
            row = first + int(np.argmax(numbers < before))
            raise ValueError(f"event {numbers[row - first]} in row {row}: sort the rows by event")
        changed = numbers != before
        changed[:1] |= last is None
        starts.append(first + np.flatnonzero(changed))
        last = numbers[-1]
    return np.concatenate([*starts, [len(event)]]).astype(np.int64)
