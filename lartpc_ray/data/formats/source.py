"""EventSource: random access to the events of one file of any format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event, Events, VoxelError
from lartpc_ray.data.formats.layout import ClassMap, Code, Layout
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text

PROTON = 4
"""The pid of a proton in PILArNet-M; nuclei have larger values."""
MAX_EVENT_VOXELS = 4_000_000
"""Events in use have thousands of voxels, up to 200,000; a larger count is broken."""
MAX_ARRAY_BYTES = 2**26
"""Unpacked size of a chunk, a basket or an array of a file."""
MAX_EMPTY_EVENTS = 1_000_000
"""Events that a small file may hold; packed empty events take less than a byte each."""
SIDES = (512, 768, 1024, 1536, 2048, 3072, 4096)
FLAT_SIDES = (*SIDES, 6144, 8192)
"""Sides that `find_side` chooses from, in 3D and in 2D."""
Tables = dict[str, np.ndarray]
"""The tables of a PILArNet-M event (`tables.py`): name to (row, column); other data: (value,)."""


class BrokenFileError(ValueError):
    """A file or an event that cannot be read; its cause is an error of the system, if any."""


class EventSource(Events, ABC):
    """The events of one file, a sequence of `Event`.

    An invalid file or event raises a `ValueError` of one line with the file and the event.

    Attributes:
        path: the file.
        layout: how the file is read.
        kind: the name of the format.
        predicted: whether a network predicted the classes and clusters.
        limits: a sentence on the truth that the format does not hold, if any.
    """

    path: Path
    layout: Layout
    kind: str
    predicted: bool = False
    limits: str = ""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: event {index} of {len(self)}; count from 0")
        with locate_errors(f"{self.path}: event {index}"):
            return self._event(int(index))

    @abstractmethod
    def _event(self, index: int) -> Event:
        """Read an event of the file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def tables(self, index: int) -> Tables | None:
        """Return all that a PILArNet-M file holds of an event; None in another format."""
        return None

    def left_out(self) -> list[str]:
        """Name the data in the file that `tables` does not give, a line each."""
        return []

    def __enter__(self) -> EventSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_event(
        self,
        coords: np.ndarray,
        energy: np.ndarray,
        shape: tuple[int, ...],
        semantic: np.ndarray,
        cluster: np.ndarray,
        kept: np.ndarray,
    ) -> Event:
        """Make the event of the voxels to keep; a voxel without a class is in no cluster.

        An error has the number of the voxel in the file.
        """
        cluster = np.where(semantic < 0, -1, cluster)
        if ((cluster < -(2**31)) | (cluster >= 2**31)).any():
            raise ValueError(f"cluster number {np.abs(cluster).max()}: it needs more than 32 bits")
        merge = self.layout.duplicates == "merge"
        truth = {"semantic": semantic[kept], "cluster": cluster[kept]}
        try:
            return Event.of(coords[kept], energy[kept], shape, **truth, merge=merge)
        except VoxelError as error:
            raise VoxelError(int(np.flatnonzero(kept)[error.voxel]), error.reason) from None


@contextmanager
def locate_errors(location: str | Path) -> Iterator[None]:
    """Turn any exception into a `BrokenFileError` of one line that begins with the location.

    The libraries that read files raise nearly any exception on a broken file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenFileError(f"{location}: {error_text(error)}") from error


def check_count(events: int, size: int) -> None:
    """Refuse more events than a file of this size in bytes can hold; to read them takes hours.

    Raises:
        ValueError: for more events than bytes, and more than `MAX_EMPTY_EVENTS`.
    """
    if events > max(size, MAX_EMPTY_EVENTS):
        raise ValueError(f"{events:,} events in {size:,} bytes; the file is broken")


def find_side(coords: Iterable[np.ndarray], sides: Sequence[int] = SIDES) -> int:
    """Return the smallest usual side of an image that holds all voxels, and log a larger one.

    Args:
        coords: (voxel, axis) positions, event by event.
        sides: ascending sides to choose from.
    """
    largest = max((np.max(xyz, initial=0) for xyz in coords), default=0)
    side = next((side for side in sides if largest < side), sides[0])
    if side != sides[0]:
        log.info(f"image size: {side} voxels per side, from the file")
    return side


def apply_codes(code: np.ndarray, table: Sequence[Code]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each code, and whether to keep its voxel.

    Raises:
        ValueError: for a code that is not in the table.

    Example:
        >>> semantic, kept = apply_codes(np.array([0, 2, 1]), ("MIP", "drop", "unlabelled"))
        >>> semantic.tolist(), kept.tolist()
        ([1, -1, -1], [True, True, False])
    """
    wrong = (code < 0) | (code >= len(table))
    if wrong.any():
        raise ValueError(f"semantic code {code[wrong][0]}: 0 to {len(table) - 1} are known")
    known = ParticleClass.__members__
    classes = [known.get(name, NO_CLASS) for name in table]
    kept = np.array([name != "drop" for name in table])
    return np.array(classes, np.int32)[code], kept[code]


def assign_classes(
    code: np.ndarray, pid: np.ndarray, classes: ClassMap
) -> tuple[np.ndarray, np.ndarray]:
    """Return class and keep of PILArNet-M's semantic codes; the pid selects the proton tracks."""
    table = classes.table()
    proton_track = len(table) - 1
    wrong = (code < 0) | (code >= proton_track)
    if wrong.any():
        raise ValueError(
            f"semantic code {code[wrong][0]}: 0 to {proton_track - 1} are known; "
            "layout.classes.further (--further) gives codes from 5 a class"
        )
    return apply_codes(np.where((code == 1) & (pid >= PROTON), proton_track, code), table)


def to_indices(xyz: np.ndarray) -> np.ndarray:
    """Convert positions of any number type to voxel indices.

    Raises:
        ValueError: for a position that is not a whole number.
    """
    xyz = xyz.astype(np.float64)
    wrong = ~(np.isfinite(xyz) & (np.abs(xyz) < 2**30) & (xyz == np.floor(xyz)))
    if wrong.any():
        voxel = int(np.argmax(wrong.any(axis=1)))
        position = xyz[voxel].tolist()
        raise ValueError(f"voxel {voxel}: position {position}: voxel indices are whole numbers")
    return xyz.astype(np.int32)


def list_names(names: Iterable[str]) -> str:
    """Join names for an error message, at most twelve, with odd characters escaped.

    Example:
        >>> list_names(["b", "a"]), list_names([])
        ('a, b', 'nothing')
    """
    ordered = sorted(names)
    shown = [name if name.isprintable() else ascii(name) for name in ordered[:12]]
    more = [f"{len(ordered) - 12} more"] if len(ordered) > 12 else []
    return ", ".join(shown + more) or "nothing"
