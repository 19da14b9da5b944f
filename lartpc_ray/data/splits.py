"""The splits of a data set, and the transforms that all tasks share."""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOENT
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import BrokenFileError
from lartpc_ray.data.shards import ENDS
from lartpc_ray.data.smearing import smear
from lartpc_ray.data.transforms import Plane, Wires, above, box, project
from lartpc_ray.settings import Settings

Split = Literal["train", "tune", "test"]
NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "tune": ("tune", "val", "validation"),
    "test": ("test",),
}
"""Names of a split's file or folder, the first that exists."""
SAMPLE_SIZES: dict[Split, int] = {"train": 150, "tune": 200, "test": 200}


def sample(split: Split) -> Path:
    """Return the packaged Geant4 sample: 150, 200 and 200 events of 512³ voxels of 3 mm."""
    return Path(__file__).parent / "sample" / f"{split}.h5.xz"


class Splits(Settings):
    """Files and shared transforms of the three splits.

    `path` is `sample` (packaged); a folder with train, tune and test, each a file or a folder of
    files; or one file, cut by event number into `fractions`. If there is no `tune`, the tune split
    is `val` or `validation`, or a part of it.
    """

    path: str = Field(default="sample", description="`sample`, a folder or a file; --data")
    fractions: tuple[
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[float, Field(gt=0, lt=1)],
    ] = Field(default=(0.7, 0.1, 0.2), description="shares of train, tune and test in one file")
    most_events: PositiveInt | None = Field(
        default=None, description="largest number of events per split, the first ones"
    )
    train_events: PositiveInt | None = Field(
        default=None,
        description="largest number of training events, the first ones: for a learning curve",
    )
    val_events: PositiveInt = Field(
        default=2000,
        description="largest number of events of the tune split if it is named val, at random",
    )
    layout: Layout = Layout()
    smear: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="standard deviation of the smearing, voxels",
    )
    threshold: float = Field(
        default=0.0, ge=0, description="voxels above it are kept, after the smearing, MeV"
    )
    plane: Plane | None = Field(default=None, description="project 3D events on this wire plane")
    wires: Wires = Wires()
    box: PositiveInt | None = Field(
        default=None, description="side of the box around the median voxel that is kept, voxels"
    )

    @property
    def axes(self) -> int:
        """Return the number of axes of the images, 2 or 3."""
        layout = self.layout
        flat = layout.larcv.projection is not None or layout.hits.plane is not None
        return 2 if self.plane or flat else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the voxels along each axis of the image, where the file does not hold them."""
        return (self.layout.side,) * self.axes

    def seen(self, event: Event) -> Event:
        """Apply the shared transforms: smear, cut on energy, project on a plane, cut a box."""
        event = smear(event, self.smear) if self.smear else event
        event = above(event, self.threshold) if self.threshold else event
        event = project(event, self.plane, self.wires) if self.plane else event
        return box(event, self.box) if self.box else event

    def file(self, split: Split) -> Path:
        """Return the file, or the folder of files, that holds the events of a split."""
        path = sample(split) if self.path == "sample" else Path(self.path)
        return _in_folder(path, split) if path.is_dir() else path

    def drawn_from(self) -> int | None:
        """Return the number of events of `val` of which the tune split is a part, if it is."""
        file = self.file("tune")
        if file == Path(self.path) or _split_name(file) not in NAMES["tune"][1:]:
            return None
        with open_events(file, self.layout) as events:
            return len(events) if len(events) > self.val_events else None

    def events(self, split: Split) -> Events:
        """Open the events of a split.

        Raises:
            ValueError: if the file is missing, or holds no event of the split.
        """
        file = self.file(split)
        events: Events = open_events(file, self.layout)
        if file == Path(self.path):
            events = Part(events, _share(len(events), self.fractions, split))
        elif split == "tune" and _split_name(file) in NAMES["tune"][1:]:
            events = _draw(events, self.val_events)
        if not len(events):
            raise ValueError(f"{self.path}: no event in the {split} split; give more events")
        limits = (self.most_events, self.train_events if split == "train" else None)
        if any(limits):
            most = min(limit for limit in limits if limit)
            events = Part(events, np.arange(min(most, len(events))))
        transformed = self.smear or self.threshold or self.plane or self.box
        return Transformed(events, self.seen) if transformed else events


class Part(Events):
    """A part of a sequence of events, in a given order."""

    def __init__(self, events: Events, indices: np.ndarray) -> None:
        self._events = events
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self._events, self._indices[index])
        return self._events[int(self._indices[index])]

    def voxels(self, index: int) -> int:
        return self._events.voxels(int(self._indices[index]))


class Transformed(Events):
    """A sequence of events after a transform."""

    def __init__(self, events: Events, apply: Callable[[Event], Event]) -> None:
        self._events = events
        self._apply = apply

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        events = self._events[index]
        return Transformed(events, self._apply) if isinstance(index, slice) else self._apply(events)

    def voxels(self, index: int) -> int:
        return self._events.voxels(index)


def _share(count: int, fractions: tuple[float, ...], split: Split) -> np.ndarray:
    """Return the events of a split, shuffled; the same for every file of this length."""
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"data.fractions {fractions}: they must add up to 1")
    order = np.random.default_rng(0).permutation(count)
    edges = np.round(np.cumsum((0.0, *fractions)) * count).astype(int)
    number = ("train", "tune", "test").index(split)
    return np.sort(order[edges[number] : edges[number + 1]])


def _draw(events: Events, most: int) -> Events:
    """Return at most so many events, drawn at random with seed 0, in their order."""
    if len(events) <= most:
        return events
    return Part(events, np.sort(np.random.default_rng(0).permutation(len(events))[:most]))


def _split_name(path: Path) -> str:
    return path.name.split(".")[0]


def _in_folder(folder: Path, split: Split) -> Path:
    for name in NAMES[split]:
        if (folder / name).is_dir():
            return folder / name
        for end in ENDS:
            if (folder / f"{name}{end}").is_file():
                return folder / f"{name}{end}"
    missing = FileNotFoundError(ENOENT, "no such file", str(folder / f"{split}.h5"))
    folders = " or ".join(f"{name}/" for name in NAMES[split])
    others = " or ".join(NAMES[split][1:])
    also = f", or of {others}" if others else ""
    raise BrokenFileError(
        f"{folder}: no {split}.h5 in this folder, no {split} of another ending "
        f"({', '.join(ENDS[1:])}){also}, and no folder {folders}"
    ) from missing
