"""Read and write files of events, of any format.

A PILArNet-M file holds one variable-length row per event and dataset, to be reshaped
(`formats/tables.py`); the voxels are ordered by cluster:

* `point` float32 (voxel, 8): x, y, z, energy [MeV], deposit, time, electrons, dx.
* `cluster` integer (cluster, 5): voxels, fragment, group, interaction, semantic; v2, v3 add pid.
* `cluster_extra` float32: v2 (cluster, 5), v3 (cluster, 6); absent in v1.

`write_events` adds a dataset `filled` if an infill has put voxels into dead regions: the row
numbers of these voxels. Other readers of the format ignore it.

A file that is packed with xz (`events.h5.xz`) is unpacked in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.edep_sim import SegmentFile
from lartpc_ray.data.formats.hdf5 import open_hdf5, read_start
from lartpc_ray.data.formats.larcv import HDF5File, RootFile
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.npz import ArrayFile
from lartpc_ray.data.formats.open_samples import HitFile
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.formats.pilarnet_writer import write_tables
from lartpc_ray.data.formats.source import EventSource, locate_errors
from lartpc_ray.data.formats.tables import Version, event_tables, to_layout
from lartpc_ray.data.formats.voxel_table import CsvTable, ParquetTable, is_csv
from lartpc_ray.data.shards import ShardFolder


def open_events(
    path: str | Path, layout: Layout | None = None, *, from_voxels: bool | None = None
) -> EventSource:
    """Open a file of events of any format, recognized by its content.

    The formats: PILArNet-M, larcv3, LArCV2 ROOT, npz, edep-sim segments, MicroBooNE OpenSamples,
    and CSV or Parquet tables (docs/data-formats.md).

    A folder of such files is one sequence, in the order of their names (`data/shards.py`).

    LArCV files hold the size of their images. The other formats do not: without a layout the side
    is 512 voxels, or the smallest of 768, 1024, ... that holds the voxels of up to 200
    events spread over the file; progress then names the side.

    Args:
        path: the file, or the folder.
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
        ('PILArNet-M v3', 200, (4302, 3))
    """
    path, from_voxels = Path(path), layout is None if from_voxels is None else from_voxels
    layout = layout or Layout()
    if path.is_dir():
        return ShardFolder(path, layout, open_events, from_voxels=from_voxels)
    start = read_start(path)
    if start.startswith(b"root"):
        _check_axes(path, layout, larcv=True)
        return RootFile(path, layout)
    if start.startswith(b"PAR1"):
        _check_axes(path, layout, hits=True)
        return ParquetTable(path, layout, from_voxels=from_voxels)
    if start.startswith(b"PK"):
        _check_axes(path, layout)
        return ArrayFile(path, layout, from_voxels=from_voxels)
    if not start.startswith((b"\x89HDF", b"\xfd7zXZ")) and is_csv(path):
        _check_axes(path, layout, hits=True)
        return CsvTable(path, layout, from_voxels=from_voxels)
    return _open_hdf5(path, layout, from_voxels=from_voxels)


def _open_hdf5(path: Path, layout: Layout, *, from_voxels: bool) -> EventSource:
    """Open an HDF5 file by the names of its groups and datasets."""
    opened = open_hdf5(path)
    with locate_errors(path):
        names = set(opened[0])
    hits, larcv = "hit_table" in names, {"Data", "Events"} <= names
    _check_axes(path, layout, hits=hits, larcv=larcv)
    if larcv:
        return HDF5File(path, layout, opened)
    reader = HitFile if hits else SegmentFile if "segments" in names else EventFile
    return reader(path, layout, opened, from_voxels=from_voxels)


def _check_axes(path: Path, layout: Layout, *, larcv: bool = False, hits: bool = False) -> None:
    """Refuse settings of 2D images for a file that has none."""
    if layout.hits.plane is not None and not hits:
        raise ValueError(f"{path}: hits.plane is set, but this file has no hits on wires")
    if layout.larcv.projection is not None and not larcv:
        raise ValueError(f"{path}: larcv.projection is set, but this is no LArCV file")


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
    sidecar: bool = False,
) -> int:
    """Write events as a PILArNet-M file, whole or not at all.

    The file keeps positions, energies [MeV], classes and clusters. Columns that an `Event` does
    not have are 0 (points) or -1 (clusters), as in the public files.

    Args:
        path: the file to write.
        events: 3D events; they are taken one by one, so that any number fits into memory.
        version: of the format; v1 has no HIP, whose voxels are read back as MIP.
        predicted: note in the file that a network predicted the classes and clusters.
        sidecar: also write `NAME_points.npy`, the number of voxels of each event, which other
            readers of PILArNet-M need.

    Returns:
        The number of events written.

    Raises:
        ValueError: for an event that is not 3D.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (512, 512, 512))
        >>> with TemporaryDirectory() as folder:
        ...     write_events(Path(folder) / "events.h5", [event, event])
        2
    """
    tables = (to_layout(event_tables(event), version) for event in events)
    return write_tables(Path(path), tables, version=version, predicted=predicted, sidecar=sidecar)
