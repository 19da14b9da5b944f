"""The six kinds of mistakes that Koh et al. 2020 describe in section IV.B, found by rules.

The paper describes them in words and pictures; the rules and their numbers are ours. A mistake may
be of several kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Integer

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.metrics.clustering import PART, true_index

KINDS = {
    "leftover": "fewer than 10 voxels beside another class, cut off from the main cluster",
    "collinear tracks": "two touching tracks within 20° of each other are one",
    "long track": "a track over half of the image is split",
    "post-processing": "two clusters are one, though the embedding separates them",
    "overlapping showers": "two touching showers are one",
    "scattered shower": "deposits away from the main cluster are clusters of their own",
}
"""Kind to its rule, in the order of the paper."""
SMALL = 10
"""Voxels below which a piece is a leftover, and from which scattered deposits count."""
TOUCH = 3.0
"""Distance in voxels up to which two sets of voxels touch."""
COLLINEAR = float(np.cos(np.deg2rad(20)))
SEPARATED = 0.95
"""Share of each of two clusters that is nearer to its own mean in a separating embedding."""
LONG = 0.5
"""Share of the image that a long track spans along an axis."""
TRACKS = (ParticleClass.HIP, ParticleClass.MIP)


@dataclass(frozen=True)
class Mistake:
    """A mistake, the true clusters that it concerns, and the number of their voxels."""

    kind: str
    clusters: tuple[int, ...]
    voxels: int


@dataclass(frozen=True, eq=False)
class ClassVoxels:
    """The voxels of one class of an event.

    Attributes:
        coords: (voxel, axis) voxel indices.
        truth: (voxel,) true cluster, -1 none.
        predicted: (voxel,) predicted cluster, -1 none.
        position: (voxel, axis) in the embedding.
        others: (other, axis) voxel indices of the event's other classes.
        particle: the class.
        side: voxels of the image along an axis.
    """

    coords: Integer[np.ndarray, "voxel axis"]
    truth: Integer[np.ndarray, " voxel"]
    predicted: Integer[np.ndarray, " voxel"]
    position: Float[np.ndarray, "voxel dimension"]
    others: Integer[np.ndarray, "other axis"]
    particle: ParticleClass
    side: int


def find_mistakes(voxels: ClassVoxels, *, min_voxels: int = 0) -> list[Mistake]:
    """Return the mistakes of a prediction; true clusters below `min_voxels` are left out."""
    index = true_index(voxels.truth, min_voxels)
    labels, column = np.unique(np.maximum(voxels.predicted, -1), return_inverse=True)
    table = np.zeros((index.max(initial=-1) + 1, len(labels)), np.int64)
    np.add.at(table, (index[index >= 0], column[index >= 0]), 1)
    found = [*_merged(voxels, index, table, labels), *_cut(voxels, index, table, labels, column)]
    known, first = np.unique(index, return_index=True)
    names = dict(zip(known.tolist(), voxels.truth[first].tolist(), strict=True))
    sizes = table.sum(axis=1)
    return [
        Mistake(
            kind,
            tuple(names[row] for row in sorted(rows, key=lambda row: -sizes[row])),
            int(sizes[list(rows)].sum()),
        )
        for kind, rows in found
    ]


Found = Iterator[tuple[str, tuple[int, ...]]]
"""Kind, and rows of the true clusters."""


def _merged(voxels: ClassVoxels, index: np.ndarray, table: np.ndarray, labels: np.ndarray) -> Found:
    """Yield the pairs of true clusters that share a predicted one, by their kind."""
    sizes, seen = table.sum(axis=1), set()
    for column in np.flatnonzero(labels >= 0):
        shared = table[:, column]
        members = (shared > 0) & (shared >= PART * sizes) & (shared >= PART * shared.sum())
        for pair in combinations(np.flatnonzero(members).tolist(), 2):
            if pair in seen:
                continue
            seen.add(pair)
            first, second = (index == row for row in pair)
            near = distance(voxels.coords[first], voxels.coords[second]) <= TOUCH
            if near and voxels.particle in TRACKS:
                ends = [direction(voxels.coords[own]) for own in (first, second)]
                if abs(ends[0] @ ends[1]) >= COLLINEAR:
                    yield "collinear tracks", pair
            if near and voxels.particle == ParticleClass.SHOWER:
                yield "overlapping showers", pair
            if is_separated(voxels.position[first], voxels.position[second]):
                yield "post-processing", pair


def _cut(
    voxels: ClassVoxels,
    index: np.ndarray,
    table: np.ndarray,
    labels: np.ndarray,
    column: np.ndarray,
) -> Found:
    """Yield the true clusters that are cut into pieces, by their kind."""
    owner = table.argmax(axis=0) if len(table) else np.zeros(len(labels), np.int64)
    whole = np.where(labels >= 0, np.bincount(column, minlength=len(labels)), 0)
    for row, pieces in enumerate(table * (labels >= 0)):
        main, size = int(pieces.argmax()), int(table[row].sum())
        own = index == row
        rest = [n for n in np.flatnonzero(pieces) if n != main and owner[n] == row]
        parts = int(((pieces > 0) & (pieces >= PART * size)).sum())
        extent = np.ptp(voxels.coords[own], axis=0).max()
        long = LONG * voxels.side <= extent <= 2 * size  # fewer voxels are scattered ones
        if voxels.particle in TRACKS and parts > 1 and long:
            yield "long track", (row,)
        scattered = 0
        for piece in rest:
            coords = voxels.coords[own & (column == piece)]
            if whole[piece] < SMALL and distance(coords, voxels.others) <= TOUCH:
                yield "leftover", (row,)
            if distance(coords, voxels.coords[own & (column == main)]) > TOUCH:
                scattered += len(coords)
        if (
            voxels.particle == ParticleClass.SHOWER
            and pieces[main] >= size / 2
            and scattered >= SMALL
        ):
            yield "scattered shower", (row,)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the least distance of two sets of voxels; infinite if one is empty.

    Example:
        >>> distance(np.array([[0, 0], [5, 0]]), np.array([[9, 3]]))
        5.0
    """
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        return float("inf")
    small, large = sorted((first, second), key=len)
    return float(cKDTree(large).query(small)[0].min())


def direction(coords: np.ndarray) -> np.ndarray:
    """Return the unit vector along which voxels extend most."""
    centred = coords - coords.mean(axis=0)
    vector: np.ndarray = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return vector


def is_separated(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether nearly all points of two clusters are nearer to the mean of their own.

    Example:
        >>> is_separated(np.array([[0.0], [0.1]]), np.array([[1.0], [1.1]]))
        True
    """
    means = first.mean(axis=0), second.mean(axis=0)
    for own, points in enumerate((first, second)):
        far = [((points - mean) ** 2).sum(axis=1) for mean in means]
        if (far[own] < far[1 - own]).mean() < SEPARATED:
            return False
    return True
