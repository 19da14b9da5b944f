"""Write PILArNet-M HDF5 files: one variable-length row per event and dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from lartpc_ray.atomic import refuse_existing, replace_file
from lartpc_ray.data.formats.hdf5 import create_hdf5
from lartpc_ray.data.formats.pilarnet import PREDICTED
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import LAYOUTS, Version

CHUNK_EVENTS = 256
"""Rows per chunk; a chunk holds 16 bytes per row."""
INTEGER_TABLES = ("cluster", "filled", "truth")
OTHER_FORMATS = (".csv", ".json", ".npy", ".npz", ".root", ".txt", ".xz")
"""Endings of files that are not HDF5."""


def refuse_other_format(path: Path, instead: str = "NAME.h5") -> None:
    """Refuse the name of a file of another format, which would get HDF5 as its content.

    Args:
        path: the file to write.
        instead: the names that are right.

    Raises:
        ValueError: for a name that ends as those of another format.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise ValueError(f"{path}: the command does not write {path.suffix} files; give {instead}")


def write_tables(
    path: Path,
    events: Iterable[Tables],
    *,
    version: Version = "v3",
    predicted: bool = False,
    sidecar: bool = False,
    new: bool = False,
) -> int:
    """Write the tables of events, whole or not at all.

    Args:
        path: the file to write.
        events: the tables of each event, in this layout; they are taken one by one.
        version: the layout.
        predicted: note in the file that a network predicted the classes and clusters.
        sidecar: also write the number of voxels of each event, see `sidecar_path`.
        new: refuse to write over a file.

    Returns:
        The number of events written.

    Raises:
        ValueError: for a table with other columns, or numbers of another kind, than before; with
            `new` for a file that exists.
    """
    with replace_events(path, sidecar=sidecar, new=new) as (part, sizes):
        sizes += fill_file(part, events, version=version, predicted=predicted)
    return len(sizes)


def fill_file(
    path: Path, events: Iterable[Tables], *, version: Version, predicted: bool
) -> list[int]:
    """Write the tables of events to a new file, and return the number of voxels of each event."""
    sizes: list[int] = []
    with create_hdf5(path) as (file, below):
        file.attrs.update({PREDICTED: True} if predicted else {})
        written: dict[str, _Rows] = {}
        for tables in events:
            for name, table in tables.items():
                if name not in written:
                    written[name] = _Rows(file, name, table.dtype)
                written[name].append(table, len(sizes))
            sizes.append(len(tables["point"]))
            below.check()
        for name in LAYOUTS[version].keys() - written.keys():  # no event
            written[name] = _Rows(file, name, None)
        for rows in written.values():
            rows.dataset.resize(len(sizes), axis=0)
    return sizes


@contextmanager
def replace_events(
    path: Path, *, sidecar: bool, new: bool = False
) -> Iterator[tuple[Path, list[int]]]:
    """Give a temporary path beside `path`, see `replace_file`, and a list for the sidecar file.

    Args:
        path: the event file to write.
        sidecar: write the sidecar file; one that is there already is always written again.
        new: refuse to write over an event file.
    """
    beside, sizes = sidecar_path(path), list[int]()
    wanted = sidecar or beside.exists()
    with replace_file(path, exclusive=True, new=new) as part:
        yield part, sizes
        if new:
            refuse_existing(path)  # before its sidecar file is removed
        beside.unlink(missing_ok=True)  # a process that ends here leaves none of another file
    if wanted:
        with replace_file(beside) as part, part.open("wb") as file:
            np.save(file, np.array(sizes, np.int64))


def sidecar_path(path: Path) -> Path:
    """Return the file beside an event file with the number of voxels of each event.

    Readers of PILArNet-M select events by it.

    Example:
        >>> sidecar_path(Path("train/generic_v2_80_v2.h5")).name
        'generic_v2_80_v2_points.npy'
    """
    return path.with_name(f"{path.name.split('.h5')[0]}_points.npy")


class _Rows:
    """A new dataset of variable-length rows, one per event.

    Args:
        file: the file.
        name: of the dataset.
        kind: of its numbers; by default that of the layout.
    """

    def __init__(self, file: h5py.File, name: str, kind: np.dtype | None) -> None:
        self._name = name
        self._kind = kind or np.dtype(np.int64 if name in INTEGER_TABLES else np.float32)
        self._columns: int | None = None
        self.dataset = file.create_dataset(
            name,
            (0,),
            maxshape=(None,),
            chunks=(CHUNK_EVENTS,),
            dtype=h5py.vlen_dtype(self._kind),
        )

    def append(self, table: np.ndarray, event: int) -> None:
        """Write the table of an event."""
        columns = table.shape[1] if table.ndim > 1 else 1
        self._columns = self._columns or columns
        for what, new, known in (
            ("columns", columns, self._columns),
            ("numbers of type", table.dtype, self._kind),
        ):
            if new != known:
                raise ValueError(
                    f"event {event} of the output: {self._name} has {what} {new}, the events "
                    f"before have {known}; write these files one by one"
                )
        if len(self.dataset) <= event:
            self.dataset.resize((event // CHUNK_EVENTS + 1) * CHUNK_EVENTS, axis=0)
        self.dataset[event] = table.ravel()
