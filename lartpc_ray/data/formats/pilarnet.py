"""Read PILArNet-M HDF5 files: one variable-length row per event and dataset.

`tables.py` has the columns of the layouts.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import h5py
import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.hdf5 import open_hdf5
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
    MAX_EVENT_VOXELS,
    EventSource,
    Tables,
    assign_classes,
    check_count,
    find_side,
    list_names,
    locate_errors,
    to_indices,
)
from lartpc_ray.data.formats.tables import (
    COLUMNS,
    EXTRA_TABLES,
    LAYOUTS,
    PACKED_WIDTHS,
    ROWS_OF,
    Version,
)
from lartpc_ray.data.formats.vlen import FileBytes, VlenRows
from lartpc_ray.terminal.command import log

PREDICTED = "predicted"
"""HDF5 attribute of a file with the classes and clusters that a network predicted."""
DATASETS = (("point", "fiu"), ("cluster", "iu"))
"""Datasets of every layout, and the kinds of their numbers."""
NO_PID = "layout v1 has no particle code: a proton is MIP, no voxel is HIP"
MAX_VALUES = len(COLUMNS["point"]) * MAX_EVENT_VOXELS
MAX_SIDE_EVENTS = 200
"""Events that are read, spread over a file, to find the side of its images."""


class TableSource(EventSource):
    """Events that a file holds as the tables of PILArNet-M.

    Attributes:
        version: the layout.
        extra_columns: columns of `cluster_extra`, 0 without it.
    """

    version: Version
    extra_columns: int

    @abstractmethod
    def _main_tables(self, index: int) -> Tables:
        """Return the tables `point` and `cluster` of an event."""

    def _describe(self, names: list[str]) -> str:
        """Name the layout of tables of these names."""
        kind = f"PILArNet-M {self.version}"
        if self.extra_columns in PACKED_WIDTHS:
            return f"{kind}, packed: {self.extra_columns} columns in cluster_extra"
        return f"{kind}_extra" if set(EXTRA_TABLES) <= set(names) else kind

    def _find_side(self) -> None:
        """Take the side of the images from the voxels, and log the limits of the layout."""
        step = -(-len(self) // MAX_SIDE_EVENTS) or 1
        coords = (self._main_tables(index)["point"][:, :3] for index in range(0, len(self), step))
        with locate_errors(self.path):
            self.layout = self.layout.model_copy(update={"side": find_side(coords)})
        if self.limits:
            log.info(f"{self.path}: {self.limits}")

    def _event(self, index: int) -> Event:
        tables = self._main_tables(index)
        point = tables["point"].astype(np.float32)
        cluster, semantic, kept = self._classes(tables["cluster"])
        sizes = cluster[:, 0]
        if ((sizes < 0) | (sizes > len(point))).any() or sizes.sum() != len(point):
            empty = "" if len(point) and len(cluster) else "cluster" if len(point) else "point"
            raise ValueError(
                f"the clusters hold {sizes.sum()} voxels, the image {len(point)}"
                + (
                    f"; the program that made the file never wrote this row of {empty}"
                    * bool(empty)
                )
            )
        return self._make_event(
            to_indices(point[:, :3]),
            point[:, 3],
            (self.layout.side,) * 3,
            np.repeat(semantic, sizes),
            np.repeat(cluster[:, 2], sizes),
            np.repeat(kept, sizes),
        )

    def _classes(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the table of clusters, the class of each, and whether to keep each."""
        cluster = table.astype(np.int64)
        pid = cluster[:, 5] if cluster.shape[1] > 5 else np.full(len(cluster), -1)
        return cluster, *assign_classes(cluster[:, 4], pid, self.layout.classes)


class EventFile(TableSource):
    """Random access to the events of one PILArNet-M file.

    Args:
        path: the file.
        layout: how to read the file.
        opened: the file and its bytes, which this object closes; by default `path` is opened.
        from_voxels: take the side of the images from the voxels (see `open_events`).

    Example:
        >>> from lartpc_ray.data.splits import sample
        >>> events = EventFile(sample("test"))
        >>> events.version, len(events)
        ('v3', 200)
    """

    def __init__(
        self,
        path: str | Path,
        layout: Layout | None = None,
        opened: tuple[h5py.File, FileBytes] | None = None,
        *,
        from_voxels: bool = False,
    ) -> None:
        self.path = Path(path)
        self.layout = layout or Layout()
        self._file, self._bytes = opened or open_hdf5(self.path)
        with locate_errors(self.path):
            self._rows = _find_rows(self._file, self._bytes)
            check_count(len(self), self._bytes.size)
            if "cluster_extra" in self._file:
                self._rows["cluster_extra"] = self._dataset("cluster_extra")
            self.version, self.extra_columns = _find_version(self._rows)
            self.predicted = bool(self._file.attrs.get(PREDICTED, False))
        self.kind = self._describe(list(self._file))
        self.limits = NO_PID if self.version == "v1" else ""
        if from_voxels:
            self._find_side()
            self._report_unwritten()

    def __len__(self) -> int:
        return len(self._rows["point"])

    def voxels(self, index: int) -> int:
        """Return the number of voxels of an event from its table of clusters alone."""
        with locate_errors(f"{self.path}: event {index}"):
            cluster, _, kept = self._classes(self._table("cluster", index))
            return int(cluster[kept, 0].sum())

    def _main_tables(self, index: int) -> Tables:
        return {name: self._table(name, index) for name, _ in DATASETS}

    def _report_unwritten(self) -> None:
        """Log the number of events without any row, as HDF5 fills a table that was not finished."""
        written = {index for name, _ in DATASETS for index in self._rows[name].filled()}
        if missing := len(self) - len(written):
            log.warning(
                f"{self.path}: {missing} of {len(self)} events have no row; the program that made "
                "the file never wrote them, and they read as empty events"
            )

    def tables(self, index: int) -> Tables:
        with locate_errors(f"{self.path}: event {index}"):
            for name in self._file:
                if name not in self._rows and self._has_rows(name):
                    self._rows[name] = self._dataset(name)
            for name, rows in self._rows.items():
                if len(rows) != len(self):
                    raise ValueError(
                        f"{name} holds {len(rows)} events, point {len(self)}; the file is cut short"
                    )
            tables = {name: self._table(name, index) for name in self._rows}
            _check_rows(tables)
            return tables

    def left_out(self) -> list[str]:
        with locate_errors(self.path):
            kept = {name: self._file[name] for name in self._file if self._has_rows(name)}
            other = [name for name in self._file if name not in kept]
            attributes = [name for name in self._file.attrs if name != PREDICTED]
            attributes += [f"{key} of {name}" for name in kept for key in kept[name].attrs]
        lines = [f"{name}, which has no row of numbers per event" for name in other]
        return lines + [f"attributes {list_names(attributes)}"] * bool(attributes)

    def _has_rows(self, name: str) -> bool:
        """Return whether a dataset has one variable-length row of numbers per event."""
        data = self._file[name]
        if not isinstance(data, h5py.Dataset) or data.shape != (len(self),):
            return False
        number = h5py.check_vlen_dtype(data.dtype)
        return number is not None and np.dtype(number).kind in "fiu"

    def _dataset(self, name: str) -> VlenRows:
        return _find_dataset(self._file, self._bytes, name, "fiu")

    def _table(self, name: str, index: int) -> np.ndarray:
        flat = self._rows[name].row(index, MAX_VALUES)
        if name not in COLUMNS:
            return flat
        columns = LAYOUTS[self.version].get(name, len(COLUMNS[name]))
        columns = self.extra_columns if name == "cluster_extra" else columns
        if len(flat) % columns:
            raise ValueError(f"{name} has {len(flat)} values, not a multiple of {columns}")
        return flat.reshape(-1, columns)

    def close(self) -> None:
        self._file.close()
        self._bytes.close()


def _check_rows(tables: Tables) -> None:
    """Refuse tables whose rows belong to no cluster or point; an event may lack such a table."""
    for name, owner in ROWS_OF.items():
        rows, wanted = len(tables.get(name, ())), len(tables[owner])
        if rows not in (0, wanted):
            raise ValueError(f"{name} has {rows} rows, {owner} {wanted}; the file is broken")


def _find_rows(file: h5py.File, content: FileBytes) -> dict[str, VlenRows]:
    rows = {name: _find_dataset(file, content, name, kinds) for name, kinds in DATASETS}
    if len(rows["point"]) != len(rows["cluster"]):
        sizes = f"{len(rows['point'])} and {len(rows['cluster'])}"
        raise ValueError(f"point and cluster hold {sizes} events; the file is cut short")
    return rows


def _find_dataset(file: h5py.File, content: FileBytes, name: str, kinds: str) -> VlenRows:
    if name not in file or not isinstance(file[name], h5py.Dataset):
        names = list_names(file)
        raise ValueError(f"no dataset '{name}' (found: {names}); not PILArNet-M, nor larcv3")
    number = h5py.check_vlen_dtype(file[name].dtype)
    if number is None or file[name].ndim != 1:
        raise ValueError(f"dataset '{name}' is not one variable-length row per event")
    if np.dtype(number).kind not in kinds:
        raise ValueError(f"dataset '{name}' holds {number}, which its columns cannot be")
    return VlenRows(name, file[name], content)


def _find_version(rows: dict[str, VlenRows]) -> tuple[Version, int]:
    """Return the layout, and the number of columns of `cluster_extra`."""
    cluster, extra = rows["cluster"], rows.get("cluster_extra")
    if extra is None:
        return ("v1" if _cluster_columns(rows["point"], cluster) == 5 else "v2"), 0
    for index in cluster.filled():
        clusters, rest = divmod(cluster.length(index), 6)
        if rest or index >= len(extra):
            break
        return _extra_layout(extra.length(index), clusters)
    return "v3", LAYOUTS["v3"]["cluster_extra"]


def _extra_layout(values: int, clusters: int) -> tuple[Version, int]:
    columns, rest = divmod(values, clusters)
    known = (*(widths.get("cluster_extra") for widths in LAYOUTS.values()), *PACKED_WIDTHS)
    if rest or columns not in known:
        raise ValueError(
            f"cluster_extra has {values / clusters:g} columns for {clusters} clusters; "
            "5 (v2), 6 (v3), 9 and 11 (v3, packed) are known"
        )
    return ("v2" if columns == LAYOUTS["v2"]["cluster_extra"] else "v3"), columns


def _cluster_columns(point: VlenRows, cluster: VlenRows) -> int:
    """Return 5 or 6: the number of columns with which the clusters hold all points."""
    for index in cluster.filled():
        flat = cluster.row(index, MAX_VALUES)
        points = point.length(index) // len(COLUMNS["point"])
        fits = [n for n in (5, 6) if len(flat) % n == 0 and flat[::n].sum() == points]
        if len(fits) == 1:
            return fits[0]
        if not fits:
            raise ValueError(f"event {index}: the cluster table fits neither v1 nor v2, v3")
    return 5
