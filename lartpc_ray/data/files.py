"""Files of events, known by their content; PILArNet-M HDF5 <-> Event; the splits of a data set.

PILArNet-M in its layouts v1, v2 and v3 holds one variable-length row an event, to be reshaped,
ordered by cluster:

* `point` float32 (voxel, 8): x, y, z, energy [MeV], deposit, time, electrons, dx.
* `cluster` integer (cluster, 5): voxels, fragment, group, interaction, semantic; v2, v3 add pid.
* `cluster_extra` float32: v2 (cluster, 5), v3 (cluster, 6); absent in v1.

In files written here `filled` holds the numbers of the points that an infill has put into dead
regions; the dataset is there only if any is, and readers of the layout pass it over.

A file may be packed with xz (`events.h5.xz`): it is unpacked in memory, never on disk.
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
    MOST_VOXELS,
    PROTON,
    EventSource,
    classed,
    listed,
    named,
    positions,
)
from lartpc_ray.data.formats.vlen import Raw, Rows
from lartpc_ray.terminal.text import error_text

POINT_COLUMNS = 8
CLUSTER_COLUMNS = {"v1": 5, "v2": 6, "v3": 6}
EXTRA_COLUMNS = {"v2": 5, "v3": 6}
PREDICTED = "predicted"
"""Attribute of a file whose classes and clusters were found by a network."""
MOST_CODES = 8
"""More than there are classes: a cluster and a class as one number."""
CHUNK_EVENTS = 256
"""Rows of a chunk, which holds 16 bytes of each event."""
ROW_KINDS = (("point", "fiu"), ("cluster", "iu"))
"""Datasets of every layout, and the kinds of numbers that they may hold."""
MOST_VALUES = POINT_COLUMNS * MOST_VOXELS
MOST_UNPACKED = 2**30
"""Bytes that a packed file may have in memory."""
Split = Literal["train", "tune", "test"]


class EventFile(EventSource):
    """Random access to the events of one PILArNet-M file.

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
        opened: tuple[h5py.File, Raw] | None = None,
    ) -> None:
        self.path = Path(path)
        self.layout = layout or Layout()
        self._file, self._raw = opened or _open(self.path)
        with named(self.path):
            self._point, self._cluster = _truth_rows(self._file, self._raw)
            self.version = _version(self._file, self._raw, self._point, self._cluster)
            self.predicted = bool(self._file.attrs.get(PREDICTED, False))
        self.kind = f"PILArNet-M {self.version}"

    def __len__(self) -> int:
        return len(self._point)

    def voxels(self, index: int) -> int:
        """Voxels of an event, from its table of clusters alone."""
        with named(f"{self.path}: event {index}"):
            cluster, _, kept = self._clusters(index)
            return int(cluster[kept, 0].sum())

    def _event(self, index: int) -> Event:
        point = _table(self._point, index, POINT_COLUMNS).astype(np.float32)
        cluster, semantic, kept = self._clusters(index)
        sizes = cluster[:, 0]
        if ((sizes < 0) | (sizes > len(point))).any() or sizes.sum() != len(point):
            raise ValueError(f"the clusters hold {sizes.sum()} voxels, the image {len(point)}")
        return self._made(
            positions(point[:, :3]),
            point[:, 3],
            (self.layout.side,) * 3,
            np.repeat(semantic, sizes),
            np.repeat(cluster[:, 2], sizes),
            np.repeat(kept, sizes),
        )

    def _clusters(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The table of an event's clusters, the class of each, and whether it is kept."""
        cluster = _table(self._cluster, index, CLUSTER_COLUMNS[self.version]).astype(np.int64)
        pid = cluster[:, 5] if cluster.shape[1] > 5 else np.full(len(cluster), -1)
        return cluster, *classed(cluster[:, 4], pid, self.layout.classes)

    def close(self) -> None:
        self._file.close()
        self._raw.close()


def open_events(path: str | Path, layout: Layout | None = None) -> EventSource:
    """The events of a file of any known format: PILArNet-M, larcv3, LArCV2 ROOT or npz.

    What the file holds tells the format, not its name.

    Raises:
        ValueError: in one line, where it is none of them or broken.

    Example:
        >>> from lartpc_ray.data.splits import sample
        >>> with open_events(sample("test")) as events:
        ...     events.kind
        'PILArNet-M v3'
    """
    path, layout = Path(path), layout or Layout()
    start = _start(path)
    if start.startswith(b"root"):
        return RootFile(path, layout)
    opened = None if start.startswith(b"PK") else _open(path)
    if opened and _is_larcv(path, opened[0]):
        return HDF5File(path, layout, opened)
    if layout.larcv.projection is not None:
        raise ValueError(f"{path}: larcv.projection is set, but this is no LArCV file")
    return EventFile(path, layout, opened) if opened else ArrayFile(path, layout)


def read_events(
    path: str | Path, *, indices: Iterable[int] | None = None, layout: Layout | None = None
) -> Iterator[Event]:
    """Stream the events of a file, one in memory at a time.

    Args:
        path: the file, of any format that `open_events` knows.
        indices: which events and in which order; all by default.
        layout: image size, class map, products.

    Raises:
        ValueError: with the file, the event and the value that cannot be.
    """
    with open_events(path, layout) as events:
        for index in range(len(events)) if indices is None else indices:
            yield events[index]


def write_events(
    path: str | Path,
    events: Iterable[Event],
    *,
    version: Literal["v1", "v2", "v3"] = "v3",
    predicted: bool = False,
) -> int:
    """Write events in the PILArNet-M layout; an interrupted write leaves no file of that name.

    Columns that an `Event` does not know are 0 (points) or -1 (clusters), as in the public files.

    Args:
        path: to write.
        events: taken one by one, so that any number fits into memory.
        version: of the layout.
        predicted: say in the file that a network found its classes and clusters.

    Returns:
        the number of events written.
    """
    with replace_file(Path(path)) as part, h5py.File(part, "w") as file:
        file.attrs.update({PREDICTED: True} if predicted else {})
        names = ["point", "cluster"] + (["cluster_extra"] if version != "v1" else [])
        tables = {name: _make_table(file, name) for name in names}
        count = 0
        for count, event in enumerate(events, 1):
            rows = _rows(event, version)
            if len(rows["filled"]) and "filled" not in tables:
                tables["filled"] = _make_table(file, "filled")
            for name, table in tables.items():
                if len(table) < count:
                    table.resize(-(-count // CHUNK_EVENTS) * CHUNK_EVENTS, axis=0)
                table[count - 1] = rows[name].ravel()
        for table in tables.values():
            table.resize(count, axis=0)
    return count


def _make_table(file: h5py.File, name: str) -> h5py.Dataset:
    kind = h5py.vlen_dtype(np.int64 if name in ("cluster", "filled") else np.float32)
    return file.create_dataset(name, (0,), maxshape=(None,), chunks=(CHUNK_EVENTS,), dtype=kind)


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a file of events")
    with path.open("rb") as file:
        return file.read(8)


def _is_larcv(path: Path, file: h5py.File) -> bool:
    with named(path):
        return "Data" in file and "Events" in file


def _open(path: Path) -> tuple[h5py.File, Raw]:
    """An HDF5 file, plain or packed, and its bytes."""
    packed = _start(path).startswith(b"\xfd7zXZ")
    try:
        if packed:
            plain = io.BytesIO(_unpacked(path.read_bytes()))
            return h5py.File(plain, "r"), Raw(plain)
        return h5py.File(path, "r"), Raw(path.open("rb"))
    except (OSError, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        reason = error_text(error)
        raise ValueError(f"{path}: not a readable HDF5 file, or cut short ({reason})") from error


def _unpacked(packed: bytes) -> bytes:
    parts, size = [], 0
    while packed:
        unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28)
        parts.append(unpack.decompress(packed, MOST_UNPACKED + 1 - size))
        size += len(parts[-1])
        if size > MOST_UNPACKED:
            raise ValueError(f"more than {MOST_UNPACKED} bytes unpacked; use xz -d first")
        if not unpack.eof:
            raise EOFError("the packed data ends too early")
        packed = unpack.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _truth_rows(file: h5py.File, raw: Raw) -> tuple[Rows, Rows]:
    point, cluster = (_dataset(file, raw, name, kinds) for name, kinds in ROW_KINDS)
    if len(point) != len(cluster):
        sizes = f"{len(point)} and {len(cluster)}"
        raise ValueError(f"point and cluster hold {sizes} events; the file is cut short")
    return point, cluster


def _dataset(file: h5py.File, raw: Raw, name: str, kinds: str) -> Rows:
    if name not in file or not isinstance(file[name], h5py.Dataset):
        found = listed(file)
        raise ValueError(f"no dataset '{name}' (found: {found}); not PILArNet-M, nor larcv3")
    base = h5py.check_vlen_dtype(file[name].dtype)
    if base is None or file[name].ndim != 1:
        raise ValueError(f"dataset '{name}' is not one variable-length row an event")
    if np.dtype(base).kind not in kinds:
        raise ValueError(f"dataset '{name}' holds {base}, which its columns cannot be")
    return Rows(name, file[name], raw)


def _version(file: h5py.File, raw: Raw, point: Rows, cluster: Rows) -> Literal["v1", "v2", "v3"]:
    if "cluster_extra" not in file:
        return "v1" if _columns(point, cluster) == 5 else "v2"
    extra = _dataset(file, raw, "cluster_extra", "fiu")
    for index in range(min(len(cluster), len(extra))):
        clusters, rest = divmod(cluster.length(index), 6)
        if rest:
            break
        if clusters:
            return "v3" if extra.length(index) == 6 * clusters else "v2"
    return "v3"


def _columns(point: Rows, cluster: Rows) -> int:
    """5 or 6: the columns with which every event's clusters hold its points."""
    for index in range(len(cluster)):
        flat = cluster.row(index, MOST_VALUES)
        points = point.length(index) // POINT_COLUMNS
        fits = [n for n in (5, 6) if len(flat) % n == 0 and flat[::n].sum() == points]
        if len(flat) and len(fits) == 1:
            return fits[0]
        if not fits:
            raise ValueError(f"event {index}: the cluster table fits neither v1 nor v2, v3")
    return 5


def _table(rows: Rows, index: int, columns: int) -> np.ndarray:
    flat = rows.row(index, MOST_VALUES)
    if len(flat) % columns:
        raise ValueError(f"{rows.name} has {len(flat)} values, not a multiple of {columns}")
    return flat.reshape(-1, columns)


def _rows(event: Event, version: str) -> dict[str, np.ndarray]:
    """The rows of one event in the file's layout: clusters by (instance, class), voxels after."""
    if len(event.shape) != 3:
        raise ValueError(f"a PILArNet-M file holds 3D images, not {len(event.shape)}D")
    key = event.cluster.astype(np.int64) * MOST_CODES + event.semantic + 1
    unique, place = np.unique(key, return_inverse=True)
    group, semantic = unique // MOST_CODES, unique % MOST_CODES - 1
    order = np.argsort(place, kind="stable")
    point = np.zeros((len(event), POINT_COLUMNS), np.float32)
    point[:, :3] = event.coords[order]
    point[:, 3] = event.energy[order]
    cluster = np.full((len(unique), CLUSTER_COLUMNS[version]), -1, np.int64)
    cluster[:, 0] = np.bincount(place, minlength=len(unique))
    cluster[:, 1] = np.arange(len(unique))
    cluster[:, 2] = group
    cluster[:, 4] = np.array([4, 1, 1, 0, 3, 2])[semantic + 1]
    if version != "v1":
        cluster[:, 5] = np.where(semantic == ParticleClass.HIP, PROTON, -1)
    extra = np.full((len(unique), EXTRA_COLUMNS.get(version, 0)), -1, np.float32)
    filled = np.flatnonzero(event.dead[order])
    return {"point": point, "cluster": cluster, "cluster_extra": extra, "filled": filled}
