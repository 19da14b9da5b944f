"""Event: the voxels of one image and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from lartpc_ray.data.classes import NO_CLASS, ParticleClass

PER_VOXEL = ("coords", "energy", "truth", "semantic", "cluster", "weight", "dead")
"""Fields of an event with one row per voxel."""


class VoxelError(ValueError):
    """An invalid voxel.

    Args:
        voxel: its number among the voxels that were given.
        reason: name, value, and what to do.
    """

    def __init__(self, voxel: int, reason: str) -> None:
        super().__init__(voxel, reason)  # what pickle makes it of, in another process
        self.voxel = voxel
        self.reason = reason

    def __str__(self) -> str:
        return f"voxel {self.voxel}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Event:
    """One image: sparse voxels with energy and, if known, their truth.

    Every array has one row per voxel. `Event.of` makes an event from fewer arrays.

    Attributes:
        coords: (voxel, axis) int32 voxel indices, 2 or 3 axes.
        energy: (voxel,) float32 energy, MeV (ADC counts in 2D planes).
        truth: (voxel,) float32 true energy; differs from `energy` only in dead regions.
        semantic: (voxel,) int32 `ParticleClass`, -1 unknown.
        cluster: (voxel,) int32 particle instance, -1 none. A cluster has one class: voxels of two
            classes with the same number are two clusters.
        weight: (voxel,) float32 weight in the loss.
        dead: (voxel,) bool, whether the voxel is a candidate in a dead region.
        shape: number of voxels of the image along each axis.
        regions: the dead regions of the image, if any.

    Raises:
        ValueError: for an invalid value (NaN, a negative energy, a voxel outside the image or
            listed twice, an unknown class) or arrays of different lengths.

    Example:
        >>> event = Event.of(np.array([[1, 2, 3], [1, 2, 4]]), np.array([0.5, 2.0]), (8, 8, 8))
        >>> event.select(event.energy > 1).coords.tolist()
        [[1, 2, 4]]
    """

    coords: Int32[np.ndarray, "voxel axis"]
    energy: Float32[np.ndarray, " voxel"]
    truth: Float32[np.ndarray, " voxel"]
    semantic: Int32[np.ndarray, " voxel"]
    cluster: Int32[np.ndarray, " voxel"]
    weight: Float32[np.ndarray, " voxel"]
    dead: Bool[np.ndarray, " voxel"]
    shape: tuple[int, ...]
    regions: DeadRegions | None = None

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_energies()
        self._check_positions()
        known = (self.semantic >= NO_CLASS) & (self.semantic < len(ParticleClass))
        _refuse(~known, self.semantic, "class", "use -1 to 4 (see data/classes.py)")

    @staticmethod
    def of(
        coords: Integer[np.ndarray, "voxel axis"],
        energy: np.ndarray,
        shape: tuple[int, ...],
        *,
        semantic: np.ndarray | None = None,
        cluster: np.ndarray | None = None,
        merge: bool = False,
    ) -> Event:
        """Make an event from positions and energies; other fields take neutral values.

        Args:
            coords: (voxel, axis) voxel indices.
            energy: (voxel,) energy, MeV; also the true energy.
            shape: number of voxels of the image along each axis.
            semantic: (voxel,) `ParticleClass`; by default -1.
            cluster: (voxel,) particle instance; by default -1.
            merge: add the energies of a voxel listed twice, and keep class and cluster of the
                larger energy.

        Example:
            >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (8, 8, 8))
            >>> len(event), event.cluster.tolist()
            (1, [-1])
        """
        count = len(coords)
        unknown = np.full(count, NO_CLASS, np.int32)
        coords = _whole(coords, "position")
        semantic = unknown if semantic is None else _whole(semantic, "class")
        cluster = unknown if cluster is None else _whole(cluster, "cluster")
        value = np.asarray(energy, np.float32)
        given = None
        if merge and count:
            _refuse_energies(value, "energy")  # a sum would hide a negative one
            given, value = _merge(coords, value)
            coords, semantic, cluster = coords[given], semantic[given], cluster[given]
        try:
            return Event(
                coords=np.ascontiguousarray(coords),
                energy=value,
                truth=value,
                semantic=semantic,
                cluster=cluster,
                weight=np.ones(len(value), np.float32),
                dead=np.zeros(len(value), bool),
                shape=tuple(int(side) for side in shape),
            )
        except VoxelError as error:
            voxel = error.voxel if given is None else int(given[error.voxel])
            raise VoxelError(voxel, error.reason) from None

    def __len__(self) -> int:
        return len(self.coords)

    def select(self, mask: Bool[np.ndarray, " voxel"]) -> Event:
        """Return the event with only the voxels where `mask` is true."""
        return replace(self, **{name: getattr(self, name)[mask] for name in PER_VOXEL})

    def _check_sizes(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != len(self.shape):
            raise ValueError(
                f"coords has shape {self.coords.shape}, but the image {self.shape} needs "
                f"(voxel, {len(self.shape)})"
            )
        for name in PER_VOXEL[1:]:
            if getattr(self, name).shape != (len(self.coords),):
                size = getattr(self, name).shape
                raise ValueError(f"{name} has shape {size} for {len(self.coords)} voxels")

    def _check_energies(self) -> None:
        for name in ("energy", "truth"):
            _refuse_energies(getattr(self, name), name)

    def _check_positions(self) -> None:
        negative = np.asarray((self.coords < 0).any(axis=1))
        _refuse(negative, self.coords, "position", "voxel indices start at 0")
        outside = (self.coords >= np.array(self.shape)).any(axis=1)
        advice = f"outside the image {self.shape}; give the side (--side, or layout.side)"
        _refuse(np.asarray(outside), self.coords, "position", advice)
        if len(self.coords):
            key = voxel_keys(self.coords, self.shape)
            order = np.argsort(key, kind="stable")
            repeated = np.zeros(len(key), bool)
            repeated[order[1:]] = key[order[1:]] == key[order[:-1]]
            advice = "this voxel is listed twice; duplicates=merge adds such energies"
            _refuse(repeated, self.coords, "position", advice)


class Events(Sequence[Any]):
    """A sequence of events, each read on access.

    It is typed as a sequence of `Any`: the type checks of the tests would read an event.
    """

    def voxels(self, index: int) -> int:
        """Return the number of voxels of an event, exactly or nearly, to balance batches."""
        return len(self[index])


@dataclass(frozen=True, eq=False)
class DeadRegions:
    """The dead regions of an image, and their hidden voxels.

    Attributes:
        corners: (region, 2, axis) int32, the lowest voxel of each box and the first beyond it.
        truth: the hidden voxels, for scores only; a network must not read them.
    """

    corners: Int32[np.ndarray, "region 2 axis"]
    truth: Event


def voxel_keys(
    coords: Integer[np.ndarray, "voxel axis"], shape: tuple[int, ...]
) -> Integer[np.ndarray, " voxel"]:
    """Return one integer per voxel of an image, in the order of its voxels.

    `sparse.keys` has the keys of tensors and of batches; it imports torch, which reading events
    does not need.
    """
    return np.asarray(np.ravel_multi_index(tuple(coords.T), shape))


def _whole(values: np.ndarray, name: str) -> Int32[np.ndarray, " voxel ..."]:
    """Return whole numbers as int32; refuse those that the cast would change."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {values.dtype}; give whole numbers")
    known = np.iinfo(np.int32)
    right = (values >= known.min) & (values <= known.max)
    if values.dtype.kind == "f":
        right &= values == np.floor(values)
    wrong = np.logical_not(right.all(axis=tuple(range(1, right.ndim))))
    _refuse(np.asarray(wrong), values, name, "give whole numbers from -2**31 to 2**31 - 1")
    return values.astype(np.int32, copy=False)


def _refuse_energies(value: np.ndarray, name: str) -> None:
    wrong = ~(np.isfinite(value) & (value >= 0))
    _refuse(wrong, value, name, "energies are finite and not negative")


def _merge(coords: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of most energy of each voxel, voxels in order, and the sum of its energies."""
    order = np.lexsort((-energy, *coords.T[::-1]))
    ordered = coords[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    total = np.bincount(np.cumsum(first) - 1, energy[order])
    return order[first], total.astype(np.float32)


def _refuse(wrong: np.ndarray, values: np.ndarray, name: str, advice: str) -> None:
    """Raise for the first voxel where `wrong` is true."""
    if wrong.any():
        voxel = int(np.argmax(wrong))
        raise VoxelError(voxel, f"{name} {values[voxel].tolist()}: {advice}")
