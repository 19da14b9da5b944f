"""PILArNet-M HDF5 (layouts v1, v2, v3) <-> Event, and the splits of a data set.

The layout (one variable-length row an event, to be reshaped; ordered by cluster):

* `point` float32 (voxel, 8): x, y, z, energy [MeV], deposit, time, electrons, dx.
* `cluster` integer (cluster, 5): voxels, fragment, group, interaction, semantic; v2, v3 add pid.
* `cluster_extra` float32: v2 (cluster, 5), v3 (cluster, 6); absent in v1.

In files written here `filled` holds the numbers of the points that an infill has put into dead
regions; the dataset is there only if any is, and readers of the layout pass it over.

A file may be packed with xz (`events.h5.xz`): it is unpacked in memory, never on disk.
"""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

import h5py
import numpy as np
from pydantic import Field, PositiveInt

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.steps import Plane, box, project
from lartpc_ray.settings import Settings

POINT_COLUMNS = 8
CLUSTER_COLUMNS = {"v1": 5, "v2": 6, "v3": 6}
EXTRA_COLUMNS = {"v2": 5, "v3": 6}
PROTON = 4
Split = Literal["train", "tune", "test"]
Code = Literal["HIP", "MIP", "SHOWER", "DELTA", "MICHEL", "drop", "unlabelled"]


class ClassMap(Settings):
    """What a file's semantic codes mean.

    `drop` removes the voxels, `unlabelled` keeps them in the image with no class and no cluster.
    """

    shower: Code = "SHOWER"
    track: Code = "MIP"
    proton_track: Code = Field(default="HIP", description="tracks with pid 4 or above (nuclei)")
    michel: Code = "MICHEL"
    delta: Code = "DELTA"
    low_energy: Code = Field(default="drop", description="LED, the low-energy deposits")

    def table(self) -> tuple[Code, ...]:
        """The class of each code of the file: 0 to 4, then 5 for the proton tracks."""
        return (
            self.shower,
            self.track,
            self.michel,
            self.delta,
            self.low_energy,
            self.proton_track,
        )


class Layout(Settings):
    """How a PILArNet-M file is to be read."""

    side: PositiveInt = Field(default=512, description="voxels along each axis of the image")
    classes: ClassMap = ClassMap()
    duplicates: Literal["error", "merge"] = Field(
        default="error",
        description="merge: energies of a voxel listed twice are added, the larger's truth kept",
    )


class EventFile(Sequence[Event]):
    """Random access to the events of one PILArNet-M file.

    Example:
        >>> with EventFile(sample("test")) as events:
        ...     events.version, len(events)
        ('v3', 60)
    """

    def __init__(self, path: str | Path, layout: Layout | None = None) -> None:
        self.path = Path(path)
        self.layout = layout or Layout()
        self._file = _open(self.path)
        self.version = _version(self.path, self._file)

    def __len__(self) -> int:
        return int(self._file["point"].shape[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: event {index} of {len(self)}; count from 0")
        try:
            return self._event(int(index))
        except (ValueError, OSError) as error:
            raise ValueError(f"{self.path}: event {index}: {error}") from None

    def _event(self, index: int) -> Event:
        point = _table(self._file, "point", index, POINT_COLUMNS, np.float32)
        columns = CLUSTER_COLUMNS[self.version]
        cluster = _table(self._file, "cluster", index, columns, np.int64)
        sizes = cluster[:, 0]
        if (sizes < 0).any() or sizes.sum() != len(point):
            raise ValueError(f"the clusters hold {sizes.sum()} voxels, the image {len(point)}")
        semantic, instance, kept = self._truth(cluster)
        keep = np.repeat(kept, sizes)
        coords = _positions(point[:, :3])
        event = (
            coords[keep],
            point[keep, 3],
            np.repeat(semantic, sizes)[keep],
            np.repeat(instance, sizes)[keep],
        )
        merge = self.layout.duplicates == "merge"
        shape = (self.layout.side,) * 3
        return Event.of(event[0], event[1], shape, semantic=event[2], cluster=event[3], merge=merge)

    def _truth(self, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(class, instance, kept) of each row of the file's cluster table."""
        code = cluster[:, 4].copy()
        if ((code < 0) | (code > 4)).any():
            raise ValueError(f"semantic code {code[(code < 0) | (code > 4)][0]}: 0 to 4 are known")
        if cluster.shape[1] > 5:
            code[(code == 1) & (cluster[:, 5] >= PROTON)] = 5
        names = self.layout.classes.table()
        meaning = [
            ParticleClass[name] if name in ParticleClass.__members__ else NO_CLASS for name in names
        ]
        semantic = np.array(meaning, np.int32)[code]
        kept = np.array([name != "drop" for name in names])[code]
        return semantic, np.where(semantic < 0, -1, cluster[:, 2]).astype(np.int32), kept

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_events(
    path: str | Path, *, indices: Iterable[int] | None = None, layout: Layout | None = None
) -> Iterator[Event]:
    """Stream the events of a PILArNet-M file, one in memory at a time.

    Args:
        path: the file, plain or packed (`.h5`, `.h5.xz`).
        indices: which events and in which order; all by default.
        layout: image size and class map.

    Raises:
        ValueError: with the file, the event and the value that cannot be.
    """
    with EventFile(path, layout) as events:
        for index in range(len(events)) if indices is None else indices:
            yield events[index]


def write_events(
    path: str | Path, events: Iterable[Event], *, version: Literal["v1", "v2", "v3"] = "v3"
) -> int:
    """Write events in the PILArNet-M layout; an interrupted write leaves no file.

    Columns that an `Event` does not know are 0 (points) or -1 (clusters), as in the public files.

    Returns:
        the number of events written.
    """
    part = Path(f"{path}.part")
    try:
        with h5py.File(part, "w") as file:
            for name in ["point", "cluster"] + (["cluster_extra"] if version != "v1" else []):
                _create(file, name)
            count = 0
            for event in events:
                rows = _rows(event, version)
                if len(rows["filled"]) and "filled" not in file:
                    _create(file, "filled")
                for name in file:
                    file[name].resize(count + 1, axis=0)
                    file[name][count] = rows[name].ravel()
                count += 1
        os.replace(part, path)
        return count
    finally:
        part.unlink(missing_ok=True)


SAMPLE_SIZES = {"train": 150, "tune": 40, "test": 60}


def sample(split: Split) -> Path:
    """The packaged Geant4 sample: 150 train, 40 tune and 60 test events, 512³ voxels of 3 mm."""
    return Path(__file__).parent / "sample" / f"{split}.h5.xz"


class Splits(Settings):
    """Where the three splits come from.

    `path` is `sample` (packaged), a folder with train, tune and test files (`.h5` or `.h5.xz`), or
    one file, cut by event number into `fractions`.
    """

    path: str = "sample"
    fractions: tuple[
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[float, Field(gt=0, lt=1)],
    ] = (0.7, 0.1, 0.2)
    layout: Layout = Layout()
    plane: Plane | None = Field(
        default=None, description="see 3D events as this wire plane does, in 2D"
    )

    box: PositiveInt | None = Field(
        default=None, description="see only a box of this side, around the median voxel"
    )

    @property
    def axes(self) -> int:
        """2 or 3."""
        return 2 if self.plane else 3

    def seen(self, event: Event) -> Event:
        """An event of a file as the trial wants it: whole or a box of it, in 3D or on a plane."""
        event = project(event, self.plane) if self.plane else event
        return box(event, self.box) if self.box else event

    def events(self, split: Split) -> Sequence[Event]:
        """The events of one split, read when asked for.

        Raises:
            ValueError: where there is no such file, or no event in it.
        """
        path = Path(self.path)
        if self.path == "sample":
            events: Sequence[Event] = EventFile(sample(split), self.layout)
        elif path.is_dir():
            events = EventFile(_in_folder(path, split), self.layout)
        else:
            file = EventFile(path, self.layout)
            events = Part(file, _share(len(file), self.fractions, split))
        if not len(events):
            raise ValueError(f"{self.path}: no event in the {split} split; give more events")
        return Seen(events, self.seen) if self.plane or self.box else events


class Part(Sequence[Event]):
    """Some of the events of a file, in a given order."""

    def __init__(self, events: Sequence[Event], indices: np.ndarray) -> None:
        self._events = events
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self._events, self._indices[index])
        return self._events[int(self._indices[index])]


class Seen(Sequence[Event]):
    """Events of a file after a step that all tasks share."""

    def __init__(self, events: Sequence[Event], step: Callable[[Event], Event]) -> None:
        self._events = events
        self._step = step

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        found = self._events[index]
        return Seen(found, self._step) if isinstance(index, slice) else self._step(found)


def _share(count: int, fractions: tuple[float, ...], split: Split) -> np.ndarray:
    """The events of one split: shuffled once, always the same for a file of this length."""
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"data.fractions {fractions}: they must add up to 1")
    order = np.random.default_rng(0).permutation(count)
    edges = np.round(np.cumsum((0.0, *fractions)) * count).astype(int)
    place = ("train", "tune", "test").index(split)
    return np.sort(order[edges[place] : edges[place + 1]])


def _in_folder(folder: Path, split: Split) -> Path:
    for name in (f"{split}.h5", f"{split}.h5.xz"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder}: no {split}.h5 or {split}.h5.xz in this folder")


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a PILArNet-M HDF5 file")
    try:
        if path.suffix == ".xz":
            return h5py.File.in_memory(lzma.decompress(path.read_bytes()))
        return h5py.File(path, "r")
    except (OSError, lzma.LZMAError, EOFError, zlib.error, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a readable HDF5 file, or cut short ({reason})") from None


def _version(path: Path, file: h5py.File) -> Literal["v1", "v2", "v3"]:
    for name in ("point", "cluster"):
        if name not in file or not isinstance(file[name], h5py.Dataset):
            found = ", ".join(sorted(file)) or "nothing"
            raise ValueError(f"{path}: no dataset '{name}' (found: {found}); not PILArNet-M")
        if h5py.check_vlen_dtype(file[name].dtype) is None or file[name].ndim != 1:
            raise ValueError(f"{path}: dataset '{name}' is not one variable-length row an event")
    if len(file["point"]) != len(file["cluster"]):
        sizes = f"{len(file['point'])} and {len(file['cluster'])}"
        raise ValueError(f"{path}: point and cluster hold {sizes} events; the file is cut short")
    if "cluster_extra" not in file:
        return "v1" if _columns(path, file) == 5 else "v2"
    for index in range(len(file["cluster"])):
        clusters, rest = divmod(len(file["cluster"][index]), 6)
        if rest:
            break
        if clusters:
            return "v3" if len(file["cluster_extra"][index]) == 6 * clusters else "v2"
    return "v3"


def _columns(path: Path, file: h5py.File) -> int:
    """5 or 6: the columns with which every event's clusters hold its points."""
    for index in range(len(file["cluster"])):
        flat = np.asarray(file["cluster"][index])
        points = len(file["point"][index]) // POINT_COLUMNS
        fits = [n for n in (5, 6) if len(flat) % n == 0 and flat[::n].sum() == points]
        if len(flat) and len(fits) == 1:
            return fits[0]
        if not fits:
            raise ValueError(f"{path}: event {index}: the cluster table fits neither v1 nor v2, v3")
    return 5


def _table(file: h5py.File, name: str, index: int, columns: int, kind: type) -> np.ndarray:
    flat = np.asarray(file[name][index])
    if len(flat) % columns:
        raise ValueError(f"{name} has {len(flat)} values, not a multiple of {columns}")
    return flat.reshape(-1, columns).astype(kind)


def _positions(xyz: np.ndarray) -> np.ndarray:
    wrong = ~(np.isfinite(xyz) & (np.abs(xyz) < 2**30) & (xyz == np.floor(xyz)))
    if wrong.any():
        voxel = int(np.argmax(wrong.any(axis=1)))
        position = xyz[voxel].tolist()
        raise ValueError(f"voxel {voxel}: position {position}: voxel indices are whole numbers")
    return xyz.astype(np.int32)


def _create(file: h5py.File, name: str) -> None:
    kind = h5py.vlen_dtype(np.int64 if name in ("cluster", "filled") else np.float32)
    file.create_dataset(name, (0,), maxshape=(None,), chunks=(256,), dtype=kind)


def _rows(event: Event, version: str) -> dict[str, np.ndarray]:
    """The rows of one event in the file's layout: clusters by (instance, class), voxels after."""
    if len(event.shape) != 3:
        raise ValueError(f"a PILArNet-M file holds 3D images, not {len(event.shape)}D")
    label = np.stack([event.cluster, event.semantic], axis=1)
    unique, place = np.unique(label, axis=0, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    point = np.zeros((len(event), POINT_COLUMNS), np.float32)
    point[:, :3] = event.coords[order]
    point[:, 3] = event.energy[order]
    cluster = np.full((len(unique), CLUSTER_COLUMNS[version]), -1, np.int64)
    cluster[:, 0] = np.bincount(place.ravel(), minlength=len(unique))
    cluster[:, 1] = np.arange(len(unique))
    cluster[:, 2] = unique[:, 0]
    code = {0: 1, 1: 1, 2: 0, 3: 3, 4: 2, -1: 4}
    cluster[:, 4] = [code[int(semantic)] for semantic in unique[:, 1]]
    if version != "v1":
        cluster[:, 5] = np.where(unique[:, 1] == ParticleClass.HIP, PROTON, -1)
    extra = np.full((len(unique), EXTRA_COLUMNS.get(version, 0)), -1, np.float32)
    filled = np.flatnonzero(event.dead[order])
    return {"point": point, "cluster": cluster, "cluster_extra": extra, "filled": filled}
