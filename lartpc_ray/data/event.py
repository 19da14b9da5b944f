"""Event: the voxels of one image and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from lartpc_ray.data.classes import NO_CLASS, ParticleClass

PER_VOXEL = ("coords", "energy", "truth", "semantic", "cluster", "weight", "dead")
"""What an event holds of each voxel."""


@dataclass(frozen=True, eq=False)
class Event:
    """One image: sparse voxels with energy and, where known, their truth.

    Every array has one row a voxel. A value that cannot be (NaN, a negative energy, a voxel
    outside the image or listed twice, an unknown class) is refused when the event is made.

    Attributes:
        coords: (voxel, axis) int32 voxel indices, 2 or 3 axes.
        energy: (voxel,) float32, MeV (ADC in 2D planes).
        truth: (voxel,) float32 true energy; differs from `energy` only in dead regions.
        semantic: (voxel,) int32 `ParticleClass`, -1 unknown.
        cluster: (voxel,) int32 particle instance, -1 none. A cluster lives within one class:
            voxels of two classes with the same number are two clusters.
        weight: (voxel,) float32 loss weight.
        dead: (voxel,) bool, a candidate in a dead region: nobody saw whether it is active.
        shape: number of voxels of the image along each axis.
        regions: the dead regions of the image, where there are any.
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
        """Make an event from what is known; the rest takes its neutral value.

        With `merge` the energies of a voxel listed twice are added, and its truth is that of the
        largest.

        Example:
            >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (8, 8, 8))
            >>> len(event), event.cluster.tolist()
            (1, [-1])
        """
        count = len(coords)
        unknown = np.full(count, NO_CLASS, np.int32)
        semantic = unknown if semantic is None else np.asarray(semantic, np.int32)
        cluster = unknown if cluster is None else np.asarray(cluster, np.int32)
        value = np.asarray(energy, np.float32)
        if merge and count:
            main, value = _merged(coords, value)
            coords, semantic, cluster = coords[main], semantic[main], cluster[main]
        return Event(
            coords=np.ascontiguousarray(coords, np.int32),
            energy=value,
            truth=value,
            semantic=semantic,
            cluster=cluster,
            weight=np.ones(len(value), np.float32),
            dead=np.zeros(len(value), bool),
            shape=tuple(int(side) for side in shape),
        )

    def __len__(self) -> int:
        return len(self.coords)

    def select(self, mask: Bool[np.ndarray, " voxel"]) -> Event:
        """The event with only the voxels where `mask` is true."""
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
        advice = "energies are finite and not negative"
        for name in ("energy", "truth"):
            value = getattr(self, name)
            _refuse(~(np.isfinite(value) & (value >= 0)), value, name, advice)

    def _check_positions(self) -> None:
        outside = ((self.coords < 0) | (self.coords >= np.array(self.shape))).any(axis=1)
        advice = f"outside the image {self.shape}; give the side (--side, or layout.side)"
        _refuse(np.asarray(outside), self.coords, "position", advice)
        if len(self.coords):
            key = voxel_keys(self.coords, self.shape)
            order = np.argsort(key, kind="stable")
            again = np.zeros(len(key), bool)
            again[order[1:]] = key[order[1:]] == key[order[:-1]]
            advice = "this voxel is listed twice; duplicates=merge adds such energies"
            _refuse(again, self.coords, "position", advice)


class Events(Sequence[Any]):
    """Events by number, read when asked for.

    Not named a sequence of events: the type checks of the tests would then read one of them.
    """

    def voxels(self, index: int) -> int:
        """Voxels of an event, or nearly: it balances batches; cheaper than reading, if it can."""
        return len(self[index])


@dataclass(frozen=True, eq=False)
class DeadRegions:
    """Boxes in which nothing was seen, and what was there.

    Attributes:
        corners: (region, 2, axis) int32, the lowest voxel of each box and the first beyond it.
        truth: the voxels that lay in them: what a judge knows and a network must not.
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


def _merged(coords: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of most energy of each voxel, in the order of the voxels, and the sum of its rows."""
    order = np.lexsort((-energy, *coords.T[::-1]))
    ordered = coords[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    total = np.bincount(np.cumsum(first) - 1, energy[order])
    return order[first], total.astype(np.float32)


def _refuse(wrong: np.ndarray, values: np.ndarray, name: str, advice: str) -> None:
    """Raise for the first voxel where `wrong` is true."""
    if wrong.any():
        voxel = int(np.argmax(wrong))
        raise ValueError(f"voxel {voxel}: {name} {values[voxel].tolist()}: {advice}")
