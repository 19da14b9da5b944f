"""Read and write files of events; the PILArNet-M HDF5 format.

PILArNet-M in its versions v1, v2 and v3 holds one variable-length row per event and dataset, to be
reshaped; the voxels are ordered by cluster:

* `point` float32 (voxel, 8): x, y, z, energy [MeV], deposit, time, electrons, dx.
* `cluster` integer (cluster, 5): voxels, fragment, group, interaction, semantic; v2, v3 add pid.
* `cluster_extra` float32: v2 (cluster, 5), v3 (cluster, 6); absent in v1.

`write_events` adds a dataset `filled` if an infill has put voxels into dead regions: the row
numbers of these voxels. Other readers of the format ignore it.

A file that is packed with xz (`events.h5.xz`) is unpacked in memory.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.larcv import HDF5File, RootFile
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.npz import ArrayFile
from lartpc_ray.data.formats.source import (
    MAX_EVENT_VOXELS,
    PROTON,
    EventSource,
    assign_classes,
    find_side,
    list_names,
    locate_errors,
    to_indices,
)
from lartpc_ray.data.formats.vlen import FileBytes, VlenRows
from lartpc_ray.terminal.text import error_text

POINT_COLUMNS = 8
CLUSTER_COLUMNS = {"v1": 5, "v2": 6, "v3": 6}
EXTRA_COLUMNS = {"v2": 5, "v3": 6}
PREDICTED = "predicted"
"""HDF5 attribute of a file with the classes and clusters that a network predicted."""
CODES = np.array([4, 1, 1, 0, 3, 2])
"""Semantic code of each class, unknown first; HIP and MIP differ in the pid."""
CHUNK_EVENTS = 256
"""Rows per chunk; a chunk holds 16 bytes per row."""
DATASETS = (("point", "fiu"), ("cluster", "iu"))
"""Datasets of every version, and the kinds of their numbers."""
MAX_VALUES = POINT_COLUMNS * MAX_EVENT_VOXELS
MAX_UNPACKED = 2**30
"""Largest size of an unpacked file, bytes."""
MAX_SIDE_EVENTS = 200
"""Events that are read, spread over a file, to find the side of its images."""
Version = Literal["v1", "v2", "v3"]


class EventFile(EventSource):
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
        ('v3', 60)
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
        self._file, self._bytes = opened or _open(self.path)
        with locate_errors(self.path):
            self._point, self._cluster = _find_rows(self._file, self._bytes)
            self.version = _find_version(self._file, self._bytes, self._point, self._cluster)
            self.predicted = bool(self._file.attrs.get(PREDICTED, False))
        self.kind = f"PILArNet-M {self.version}"
        if from_voxels:
            step = -(-len(self) // MAX_SIDE_EVENTS) or 1
            coords = (self._points(index)[:, :3] for index in range(0, len(self), step))
            with locate_errors(self.path):
                self.layout = self.layout.model_copy(update={"side": find_side(coords)})

    def __len__(self) -> int:
        return len(self._point)

    def voxels(self, index: int) -> int:
        """Return the number of voxels of an event from its table of clusters alone."""
        with locate_errors(f"{self.path}: event {index}"):
            cluster, _, kept = self._clusters(index)
            return int(cluster[kept, 0].sum())

    def _points(self, index: int) -> np.ndarray:
        return _read_table(self._point, index, POINT_COLUMNS).astype(np.float32)

    def _event(self, index: int) -> Event:
        point = self._points(index)
        cluster, semantic, kept = self._clusters(index)
        sizes = cluster[:, 0]
        if ((sizes < 0) | (sizes > len(point))).any() or sizes.sum() != len(point):
            raise ValueError(f"the clusters hold {sizes.sum()} voxels, the image {len(point)}")
        return self._make_event(
            to_indices(point[:, :3]),
            point[:, 3],
            (self.layout.side,) * 3,
            np.repeat(semantic, sizes),
            np.repeat(cluster[:, 2], sizes),
            np.repeat(kept, sizes),
        )

    def _clusters(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an event's table of clusters, the class of each, and whether to keep each."""
        columns = CLUSTER_COLUMNS[self.version]
        cluster = _read_table(self._cluster, index, columns).astype(np.int64)
        pid = cluster[:, 5] if columns > 5 else np.full(len(cluster), -1)
        return cluster, *assign_classes(cluster[:, 4], pid, self.layout.classes)

    def close(self) -> None:
        self._file.close()
        self._bytes.close()


def open_events(
    path: str | Path, layout: Layout | None = None, *, from_voxels: bool | None = None
) -> EventSource:
    """Open a file of events: PILArNet-M, larcv3, LArCV2 ROOT or npz, recognized by its content.

    LArCV files hold the size of their images. The other formats do not: without a layout the side
    is 512 voxels, or the smallest of 768, 1024, ... that holds the voxels of up to 200
    events spread over the file; progress then names the side.

    Args:
        path: the file.
        layout: how to read the file: side of the images, classes, LArCV products.
        from_voxels: take the side from the voxels, whatever the layout has; by default if no
            layout is given.

    Returns:
        A sequence of `Event` with random access, which a `with` statement closes.

    Raises:
        ValueError: if the file is missing, broken or of no known format; in one line.

    Example:
        >>> from lartpc_ray.data.splits import sample
        >>> with open_events(sample("test")) as events:
        ...     events.kind, len(events), events[0].coords.shape
        ('PILArNet-M v3', 60, (4302, 3))
    """
    path, from_voxels = Path(path), layout is None if from_voxels is None else from_voxels
    layout = layout or Layout()
    start = _start(path)
    if start.startswith(b"root"):
        return RootFile(path, layout)
    opened = None if start.startswith(b"PK") else _open(path)
    if opened and _is_larcv(path, opened[0]):
        return HDF5File(path, layout, opened)
    if layout.larcv.projection is not None:
        raise ValueError(f"{path}: larcv.projection is set, but this is no LArCV file")
    if opened:
        return EventFile(path, layout, opened, from_voxels=from_voxels)
    return ArrayFile(path, layout, from_voxels=from_voxels)


def read_events(
    path: str | Path, *, indices: Iterable[int] | None = None, layout: Layout | None = None
) -> Iterator[Event]:
    """Stream the events of a file, one in memory at a time.

    Args:
        path: the file, of any format that `open_events` knows.
        indices: the numbers of the events to read, in this order; by default all events.
        layout: how to read the file; by default the side of the images is found (`open_events`).

    Yields:
        `Event` objects with energies in MeV (ADC counts in 2D).

    Raises:
        ValueError: if the file or an event is invalid, with the file, the event and the value.
        IndexError: if there is no event of such a number.

    Example:
        >>> from lartpc_ray.data.splits import sample
        >>> [len(event) for event in read_events(sample("test"), indices=[0, 5])]
        [4302, 797]
    """
    with open_events(path, layout) as events:
        for index in range(len(events)) if indices is None else indices:
            yield events[index]


def write_events(
    path: str | Path,
    events: Iterable[Event],
    *,
    version: Version = "v3",
    predicted: bool = False,
) -> int:
    """Write events as a PILArNet-M file, whole or not at all.

    The file keeps positions, energies [MeV], classes and clusters. Columns that an `Event` does
    not have are 0 (points) or -1 (clusters), as in the public files.

    Args:
        path: the file to write.
        events: 3D events; they are taken one by one, so that any number fits into memory.
        version: of the format; v1 has no HIP, whose voxels are read back as MIP.
        predicted: note in the file that a network predicted the classes and clusters.

    Returns:
        The number of events written.

    Raises:
        ValueError: for an event that is not 3D.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (512, 512, 512))
        >>> with TemporaryDirectory() as folder:
        ...     write_events(Path(folder) / "events.h5", [event, event])
        2
    """
    names = ["point", "cluster"] + (["cluster_extra"] if version != "v1" else [])
    with replace_file(Path(path)) as part, h5py.File(part, "w") as file:
        file.attrs.update({PREDICTED: True} if predicted else {})
        tables = {name: _make_table(file, name) for name in names}
        count = 0
        for count, event in enumerate(events, 1):
            _append(file, tables, _make_rows(event, version), count)
        for table in tables.values():
            table.resize(count, axis=0)
    return count


def _append(
    file: h5py.File, tables: dict[str, h5py.Dataset], rows: dict[str, np.ndarray], count: int
) -> None:
    """Append the rows of the event number `count`, counted from 1."""
    if len(rows["filled"]) and "filled" not in tables:
        tables["filled"] = _make_table(file, "filled")
    for name, table in tables.items():
        if len(table) < count:
            table.resize(-(-count // CHUNK_EVENTS) * CHUNK_EVENTS, axis=0)
        table[count - 1] = rows[name].ravel()


def _make_table(file: h5py.File, name: str) -> h5py.Dataset:
    kind = h5py.vlen_dtype(np.int64 if name in ("cluster", "filled") else np.float32)
    return file.create_dataset(name, (0,), maxshape=(None,), chunks=(CHUNK_EVENTS,), dtype=kind)


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a file of events")
    with path.open("rb") as file:
        return file.read(8)


def _is_larcv(path: Path, file: h5py.File) -> bool:
    with locate_errors(path):
        return "Data" in file and "Events" in file


def _open(path: Path) -> tuple[h5py.File, FileBytes]:
    """Open an HDF5 file, plain or packed."""
    packed = _start(path).startswith(b"\xfd7zXZ")
    try:
        if packed:
            unpacked = io.BytesIO(_unpack(path.read_bytes()))
            return h5py.File(unpacked, "r"), FileBytes(unpacked)
        return h5py.File(path, "r"), FileBytes(path.open("rb"))
    except (OSError, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        reason = error_text(error)
        raise ValueError(f"{path}: not a readable HDF5 file, or cut short ({reason})") from error


def _unpack(packed: bytes) -> bytes:
    parts, size = [], 0
    while packed:
        unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28)
        parts.append(unpack.decompress(packed, MAX_UNPACKED + 1 - size))
        size += len(parts[-1])
        if size > MAX_UNPACKED:
            raise ValueError(f"more than {MAX_UNPACKED} bytes unpacked; use xz -d first")
        if not unpack.eof:
            raise EOFError("the packed data ends too early")
        packed = unpack.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _find_rows(file: h5py.File, content: FileBytes) -> tuple[VlenRows, VlenRows]:
    point, cluster = (_find_dataset(file, content, name, kinds) for name, kinds in DATASETS)
    if len(point) != len(cluster):
        sizes = f"{len(point)} and {len(cluster)}"
        raise ValueError(f"point and cluster hold {sizes} events; the file is cut short")
    return point, cluster


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


def _find_version(
    file: h5py.File, content: FileBytes, point: VlenRows, cluster: VlenRows
) -> Version:
    if "cluster_extra" not in file:
        return "v1" if _cluster_columns(point, cluster) == 5 else "v2"
    extra = _find_dataset(file, content, "cluster_extra", "fiu")
    for index in range(min(len(cluster), len(extra))):
        clusters, rest = divmod(cluster.length(index), 6)
        if rest:
            break
        if clusters:
            return "v3" if extra.length(index) == 6 * clusters else "v2"
    return "v3"


def _cluster_columns(point: VlenRows, cluster: VlenRows) -> int:
    """Return 5 or 6: the number of columns with which the clusters hold all points."""
    for index in range(len(cluster)):
        flat = cluster.row(index, MAX_VALUES)
        points = point.length(index) // POINT_COLUMNS
        fits = [n for n in (5, 6) if len(flat) % n == 0 and flat[::n].sum() == points]
        if len(flat) and len(fits) == 1:
            return fits[0]
        if not fits:
            raise ValueError(f"event {index}: the cluster table fits neither v1 nor v2, v3")
    return 5


def _read_table(rows: VlenRows, index: int, columns: int) -> np.ndarray:
    flat = rows.row(index, MAX_VALUES)
    if len(flat) % columns:
        raise ValueError(f"{rows.name} has {len(flat)} values, not a multiple of {columns}")
    return flat.reshape(-1, columns)


def _make_rows(event: Event, version: Version) -> dict[str, np.ndarray]:
    """Return an event's rows; a cluster of two classes becomes two clusters of one group."""
    if len(event.shape) != 3:
        raise ValueError(f"a PILArNet-M file holds 3D images, not {len(event.shape)}D")
    key = event.cluster.astype(np.int64) * len(CODES) + event.semantic + 1
    unique, index = np.unique(key, return_inverse=True)
    group, semantic = unique // len(CODES), unique % len(CODES) - 1
    order = np.argsort(index, kind="stable")
    point = np.zeros((len(event), POINT_COLUMNS), np.float32)
    point[:, :3] = event.coords[order]
    point[:, 3] = event.energy[order]
    cluster = np.full((len(unique), CLUSTER_COLUMNS[version]), -1, np.int64)
    cluster[:, 0] = np.bincount(index, minlength=len(unique))
    cluster[:, 1] = np.arange(len(unique))
    cluster[:, 2] = group
    cluster[:, 4] = CODES[semantic + 1]
    if version != "v1":
        cluster[:, 5] = np.where(semantic == ParticleClass.HIP, PROTON, -1)
    extra = np.full((len(unique), EXTRA_COLUMNS.get(version, 0)), -1, np.float32)
    filled = np.flatnonzero(event.dead[order])
    return {"point": point, "cluster": cluster, "cluster_extra": extra, "filled": filled}
