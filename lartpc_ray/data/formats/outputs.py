"""The outputs of a clustering network for the voxels of an event, and their checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.formats.hdf5 import read_start, unreadable
from lartpc_ray.data.formats.source import (
    MAX_ARRAY_BYTES,
    MAX_EVENT_VOXELS,
    list_names,
    locate_errors,
)

FORMATS = "docs/how-to/spine.md has the datasets"
COLUMNS = ("class", "cluster", "position", "margin", "seediness")
"""Arrays of an event, one row per voxel; `coords` may be there, too."""
TWO_AXES = ("position", "coords")
LARGEST = 1e100
"""Larger numbers overflow when they are squared."""
RANGES = {
    "position": (-LARGEST, LARGEST, f"give positions of the embedding, at most {LARGEST}"),
    "margin": (1 / LARGEST, LARGEST, f"give sigma, above 0 (from {1 / LARGEST} to {LARGEST})"),
    "seediness": (0.0, 1.0, "give 0 to 1, after the sigmoid"),
}
"""Lowest and highest value, and what to give instead of another one."""
Outputs = dict[str, np.ndarray]


class OutputsFile(ABC):
    """The outputs of a network for the events of one file, read event by event.

    Attributes:
        path: the file.
        kind: the name of its format.
    """

    kind: str

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of events."""

    @abstractmethod
    def _arrays(self, index: int) -> Mapping[str, np.ndarray]:
        """Read the arrays of an event."""

    def __getitem__(self, index: int) -> Outputs:
        """Read the outputs of an event, counted from 0, and check them."""
        with locate_errors(f"{self.path}: event {index}"):
            return checked_outputs(self._arrays(index))

    def __iter__(self) -> Iterator[Outputs]:
        return (self[index] for index in range(len(self)))


def checked_outputs(event: Mapping[str, Any]) -> Outputs:
    """Return the outputs of an event as arrays; `class` as numbers of `ParticleClass`.

    Args:
        event: `class (voxel,)`, numbers or names; `cluster (voxel,)`, -1 none; `position (voxel,
            axis)`; `margin (voxel,)`; `seediness (voxel,)`; optional `coords (voxel, axis)`.

    Raises:
        ValueError: for missing arrays, arrays of unequal lengths, and values that an output
            cannot have.
    """
    if missing := [name for name in COLUMNS if name not in event]:
        raise ValueError(f"outputs without {', '.join(missing)}; give {', '.join(COLUMNS)}")
    names = [*COLUMNS, *(["coords"] if "coords" in event else [])]
    arrays = {name: np.asarray(event[name]) for name in names}
    for name, values in arrays.items():
        arrays[name] = _shaped(name, values, axes=2 if name in TWO_AXES else 1)
    if len({len(values) for values in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in arrays.items())
        raise ValueError(f"outputs of unequal lengths: {lengths}; give one row per voxel")
    arrays["class"] = _class_numbers(arrays["class"])
    arrays["cluster"] = _whole("cluster", arrays["cluster"], -1, np.iinfo(np.int32).max)
    if "coords" in arrays:
        arrays["coords"] = _whole("coords", arrays["coords"], 0, np.iinfo(np.int32).max)
    for name, (low, high, advice) in RANGES.items():
        _check_range(name, arrays[name], low, high, advice)
    return arrays


def _shaped(name: str, values: np.ndarray, axes: int) -> np.ndarray:
    """Return an array of one or two axes; one column is the same as none."""
    if axes == 1 and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != axes or 0 in values.shape[1:]:
        wanted = "(voxel, axis)" if axes == 2 else "(voxel,)"
        raise ValueError(f"{name} has shape {values.shape}; give {wanted}")
    return values


def _class_numbers(values: np.ndarray) -> np.ndarray:
    """Return classes as numbers, from numbers or names."""
    if values.dtype.kind in "OU":
        known = {particle.name: int(particle) for particle in ParticleClass}
        unknown = {value for value in values.tolist() if value not in (*known, *known.values(), -1)}
        if unknown:
            raise ValueError(f"class {sorted(map(str, unknown))[0]!r}: give {', '.join(known)}")
        values = np.array([known.get(value, value) for value in values.tolist()], np.int64)
    return _whole("class", values, NO_CLASS, max(ParticleClass))


def _whole(name: str, values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return whole numbers of a range as integers."""
    advice = f"give whole numbers from {low} to {high}"
    _check_numbers(name, values, advice)
    wrong = ~((values >= low) & (values <= high) & (values == np.floor(values)))
    _refuse(name, values, wrong, advice)
    return values.astype(np.int64)


def _check_range(name: str, values: np.ndarray, low: float, high: float, advice: str) -> None:
    """Refuse values outside a range, and NaN."""
    _check_numbers(name, values, "give finite numbers")
    _refuse(name, values, ~np.isfinite(values), "give finite numbers")
    outside = (values < np.float64(low)) | (values > np.float64(high))
    _refuse(name, values, outside, advice)


def _check_numbers(name: str, values: np.ndarray, advice: str) -> None:
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds {values.dtype}: {advice}")


def _refuse(name: str, values: np.ndarray, wrong: np.ndarray, advice: str) -> None:
    """Raise for the first value where `wrong` is true."""
    if wrong.any():
        voxel = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        value = values[voxel][wrong[voxel]].flat[0] if values.ndim > 1 else values[voxel]
        raise ValueError(f"voxel {voxel}: {name} {value}: {advice}")


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file to read.

    Raises:
        ValueError: for a file that is missing, locked or no HDF5 file.
        OSError: with the name of the file, if it may not be read.
    """
    if not path.is_file():
        found = "a folder, a pipe or a device" if path.exists() else "no such file"
        raise ValueError(f"{path}: {found}; give an HDF5 file of network outputs")
    read_start(path)
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(path, error) from error


def find_column(group: h5py.Group, name: str, kinds: str = "fiu") -> h5py.Dataset:
    """Return a dataset of numbers with one row per voxel or event.

    A link to another file is refused: it would read a file that nobody gave.

    Args:
        group: which holds the dataset.
        name: of the dataset, without slashes.
        kinds: numpy's kinds of its numbers.

    Raises:
        ValueError: for no such dataset, other numbers, or more rows than the file has room for.
    """
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        found = list_names(group)
        raise ValueError(f"no dataset {name!r} in {group.name} (found: {found}); {FORMATS}")
    dataset, label = group[name], f"{group.name}/{name}".strip("/")
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim not in (1, 2):
        raise ValueError(f"{label} is no dataset with one row per voxel")
    if dataset.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers (int64)"
        raise ValueError(f"{label} holds {dataset.dtype}; give {wanted}")
    created = dataset.id.get_create_plist()
    if created.get_external_count() or dataset.is_virtual:
        raise ValueError(f"{label} lies in another file; h5repack the file")
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size() // dataset.dtype.itemsize
    else:
        chunk = int(np.prod(dataset.chunks))
        if chunk * dataset.dtype.itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"{label} has chunks of {dataset.chunks} values; h5repack the file")
        stored = dataset.id.get_num_chunks() * chunk
    if dataset.size > stored:
        raise ValueError(f"{label} claims {dataset.size} values, {stored} are there: cut short")
    return dataset


def read_rows(dataset: h5py.Dataset, start: int, stop: int) -> np.ndarray:
    """Read the rows of one event."""
    if not 0 <= start <= stop <= len(dataset) or stop - start > MAX_EVENT_VOXELS:
        raise ValueError(f"rows {start} to {stop} of {len(dataset)}: no event has these")
    return np.asarray(dataset[start:stop])


def check_lengths(columns: Sequence[h5py.Dataset]) -> None:
    """Refuse columns of unequal lengths."""
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{column.name} {len(column)}" for column in columns)
        raise ValueError(f"columns of unequal lengths: {lengths}; give one row per voxel")
