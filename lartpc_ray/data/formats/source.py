"""EventSource: random access to the events of one file, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.formats.layout import ClassMap, Code, Layout
from lartpc_ray.terminal.text import error_text

PROTON = 4
"""The pid of a proton in PILArNet-M; above are the nuclei."""
MOST_VOXELS = 4_000_000
"""Of an event; one in use has some thousands, the largest 200,000. More is a broken count."""
MOST_SIDE = 2**20
"""Voxels along an axis; ids of three axes then fit 60 bits."""
MOST_BYTES = 2**26
"""Of a chunk, a basket or an array of a file, unpacked."""


class EventSource(Events, ABC):
    """The events of one file.

    What is wrong in a file is a `ValueError` of one line that names the file and the event.

    Attributes:
        path: of the file.
        layout: how it is read.
        kind: the format, for people.
        predicted: whether its classes and clusters are what a network found.
    """

    path: Path
    layout: Layout
    kind: str
    predicted: bool = False

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: event {index} of {len(self)}; count from 0")
        with named(f"{self.path}: event {index}"):
            return self._event(int(index))

    @abstractmethod
    def _event(self, index: int) -> Event:
        """The event of that number, which is in the file."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> EventSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _made(
        self,
        coords: np.ndarray,
        energy: np.ndarray,
        shape: tuple[int, ...],
        semantic: np.ndarray,
        cluster: np.ndarray,
        kept: np.ndarray,
    ) -> Event:
        """The event of the voxels that are kept; a voxel of no class is in no cluster."""
        cluster = np.where(semantic < 0, -1, cluster)
        if ((cluster < -(2**31)) | (cluster >= 2**31)).any():
            raise ValueError(f"cluster number {np.abs(cluster).max()}: 32 bits are read")
        return Event.of(
            coords[kept],
            energy[kept],
            shape,
            semantic=semantic[kept],
            cluster=cluster[kept],
            merge=self.layout.duplicates == "merge",
        )


@contextmanager
def named(place: str | Path) -> Iterator[None]:
    """Whatever is raised within becomes a `ValueError` of one line that begins with the place.

    The libraries that read files raise nearly anything on a broken one.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{place}: {error_text(error)}") from error


def meanings(code: np.ndarray, table: Sequence[Code]) -> tuple[np.ndarray, np.ndarray]:
    """(class, kept) of each code, by the class that each code of the table means.

    Raises:
        ValueError: for a code that is not in the table.

    Example:
        >>> semantic, kept = meanings(np.array([0, 2, 1]), ("MIP", "drop", "unlabelled"))
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


def classed(code: np.ndarray, pid: np.ndarray, classes: ClassMap) -> tuple[np.ndarray, np.ndarray]:
    """(class, kept) of PILArNet-M's semantic codes, 0 to 4; a track of a proton has its own."""
    wrong = (code < 0) | (code > 4)
    if wrong.any():
        raise ValueError(f"semantic code {code[wrong][0]}: 0 to 4 are known")
    return meanings(np.where((code == 1) & (pid >= PROTON), 5, code), classes.table())


def positions(xyz: np.ndarray) -> np.ndarray:
    """Voxel indices given as any numbers.

    Raises:
        ValueError: where one is not whole.
    """
    xyz = xyz.astype(np.float64)
    wrong = ~(np.isfinite(xyz) & (np.abs(xyz) < 2**30) & (xyz == np.floor(xyz)))
    if wrong.any():
        voxel = int(np.argmax(wrong.any(axis=1)))
        position = xyz[voxel].tolist()
        raise ValueError(f"voxel {voxel}: position {position}: voxel indices are whole numbers")
    return xyz.astype(np.int32)


def listed(names: Iterable[str]) -> str:
    """Names for an error, at most a dozen, in quotes where they hold anything odd.

    Example:
        >>> listed(["b", "a"]), listed([])
        ('a, b', 'nothing')
    """
    found = sorted(names)
    shown = [name if name.isprintable() else ascii(name) for name in found[:12]]
    more = [f"{len(found) - 12} more"] if len(found) > 12 else []
    return ", ".join(shown + more) or "nothing"
