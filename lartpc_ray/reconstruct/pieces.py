"""Pieces of the clusters of a class, the features of their pairs, and the order of their joining.

A piece is a connected part of a cluster of untuned seeds, so few pieces hold voxels of two
particles. A network scores each pair of pieces (networks/joining.py), and the pieces are joined by
average linkage. Koh et al. 2020 leave better post-processing open (IV.B.4); Drielsma et al. 2021
(GrapPA) join shower fragments by a graph network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lartpc_ray.reconstruct.clusters import Labels, cluster
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.links import absorb_small, nearest_voxels, split
from lartpc_ray.reconstruct.names import UNTUNED

REACH = 1.8
"""Largest distance of neighbouring voxels of a piece, in voxels: they share a corner."""
MAX_PIECES = 256
"""Pieces of one class of one event; the voxels of smaller ones go to the nearest of these."""
FEATURES = 37
"""Features of a pair of pieces."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of one class of one event.

    Attributes:
        labels: (voxel,) piece of each voxel, from 0.
        order: (voxel,) the voxels, piece by piece.
        starts: (piece + 1,) first place of each piece in `order`.
        size: (piece,) number of voxels.
    """

    labels: Labels
    order: Int[np.ndarray, " voxel"]
    starts: Int[np.ndarray, " bound"]
    size: Int[np.ndarray, " piece"]

    @staticmethod
    def of(labels: Labels) -> Pieces:
        """Return the pieces of labels that count from 0 without a gap."""
        size = np.bincount(labels)
        order = np.argsort(labels, kind="stable")
        return Pieces(labels, order, np.concatenate([[0], np.cumsum(size)]), size)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean (piece, ...) of values (voxel, ...)."""
        sums = np.add.reduceat(values[self.order], self.starts[:-1], axis=0)
        return np.asarray(sums / self.size.reshape(-1, *[1] * (values.ndim - 1)))

    def voxels(self, piece: int) -> Int[np.ndarray, " voxel"]:
        """Return the voxels of a piece."""
        return self.order[self.starts[piece] : self.starts[piece + 1]]


def find_pieces(voxels: Mapping[str, np.ndarray]) -> Labels:
    """Cut the voxels of one class of one event into pieces.

    Args:
        voxels: `coords`, `position`, `margin`, `seediness`, (voxel, ...) each.

    Returns:
        piece of each voxel, counted from 0; every voxel is in a piece.

    Example:
        >>> coords = np.array([[0, 0], [1, 0], [9, 0], [9, 1]])
        >>> outputs = {"margin": np.full(4, 0.5), "seediness": np.array([0.9, 0.8, 0.7, 0.6])}
        >>> find_pieces({"coords": coords, "position": coords / 10, **outputs})
        array([0, 0, 1, 1])
    """
    coords = voxels["coords"]
    seeded = cluster(voxels["position"], voxels["margin"], voxels["seediness"], **UNTUNED)
    labels = split(seeded, dbscan(coords, eps=REACH))
    sizes = np.bincount(labels) if len(labels) else np.empty(0, np.int64)
    if len(sizes) > MAX_PIECES:
        smallest = int(np.sort(sizes)[-MAX_PIECES]) + 1
        smallest = min(smallest, int(sizes.max()))
        labels = absorb_small(labels, coords, nearest_voxels(coords), smallest)
        labels = np.unique(labels, return_inverse=True)[1]
        rest = labels >= MAX_PIECES  # of equal size
        if rest.any():
            labels[rest] = labels[~rest][cKDTree(coords[~rest]).query(coords[rest])[1]]
    return np.asarray(labels, np.int64)


def all_pairs(pieces: Pieces) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Return the pairs of pieces, the larger piece of each first."""
    first, second = np.triu_indices(len(pieces.size), 1)
    swap = pieces.size[first] < pieces.size[second]
    return np.where(swap, second, first), np.where(swap, first, second)


def pair_features(voxels: Mapping[str, np.ndarray], pieces: Pieces) -> Float[np.ndarray, "pair 37"]:
    """Return the features of `all_pairs`: of both pieces, and of their distance and direction.

    Lengths and energies (in voxels, in MeV) enter as log(1 + x). Distances in the embedding are in
    margins.

    Args:
        voxels: `coords`, `energy`, `position`, `margin`, `seediness`, (voxel, ...) each.
        pieces: of these voxels.
    """
    first, second = all_pairs(pieces)
    shape, embedded = _Shape.of(voxels, pieces), _Embedded.of(voxels, pieces)
    gap, near_voxels = _gaps(voxels["coords"], pieces)
    rank = np.argsort(np.argsort(-pieces.size, kind="stable"), kind="stable")
    image = [
        *(column[ends] for ends in (first, second) for column in shape.columns(pieces.size)),
        np.log1p(gap[first, second]),
        *shape.directions(first, second),
        *(np.log1p(_smallest(gap)[ends]) for ends in (first, second)),
        np.full(len(first), np.log1p(len(pieces.size))),
        np.full(len(first), np.log1p(shape.energy.sum())),
        *(np.log1p(rank[ends]) for ends in (first, second)),
    ]
    link = near_voxels[first, second], near_voxels[second, first]
    columns = image + embedded.columns(first, second, _link_length(voxels, *link))
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Shape:
    """Energy, centre, direction, linearity (0 to 1) and length of each piece in the image."""

    energy: np.ndarray
    centre: np.ndarray
    axis: np.ndarray
    linearity: np.ndarray
    length: np.ndarray

    @staticmethod
    def of(voxels: Mapping[str, np.ndarray], pieces: Pieces) -> _Shape:
        coords = voxels["coords"].astype(np.float64)
        centre = pieces.mean(coords)
        side = coords - centre[pieces.labels]
        spread, axes = np.linalg.eigh(pieces.mean(side[:, :, None] * side[:, None, :]))
        spread = np.maximum(spread, 0)
        linear = (spread[:, -1] - spread[:, -2]) / (spread.sum(axis=1) + 1e-3)
        return _Shape(
            pieces.mean(voxels["energy"].astype(np.float64)) * pieces.size,
            centre,
            axes[:, :, -1],
            np.where(pieces.size > 2, linear, 0),
            np.sqrt(spread[:, -1]),
        )

    def columns(self, size: np.ndarray) -> list[np.ndarray]:
        """Return the features of a piece."""
        density = np.log(np.maximum(self.energy, 0) / size + 1e-2)
        logs = [np.log1p(size), np.log1p(np.maximum(self.energy, 0)), density]
        return [*logs, self.linearity, np.log1p(self.length)]

    def directions(self, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        """Return the distance of the centres, cosines, and distances from the other's axis."""
        between = self.centre[second] - self.centre[first]
        distance = np.linalg.norm(between, axis=1)
        unit = between / np.maximum(distance, 1e-6)[:, None]
        both = np.abs((self.axis[first] * self.axis[second]).sum(axis=1))
        along = [np.abs((self.axis[ends] * unit).sum(axis=1)) for ends in (first, second)]
        aside = [np.log1p(distance * np.sqrt(np.maximum(0, 1 - cosine**2))) for cosine in along]
        return [np.log1p(distance), both, *along, *aside]


@dataclass(frozen=True, eq=False)
class _Embedded:
    """Mean position, mean margin, spread and seediness of each piece, and its best seed."""

    centre: np.ndarray
    margin: np.ndarray
    spread: np.ndarray
    seediness: np.ndarray
    best: np.ndarray
    seed_position: np.ndarray
    seed_margin: np.ndarray

    @staticmethod
    def of(voxels: Mapping[str, np.ndarray], pieces: Pieces) -> _Embedded:
        names = ("position", "margin", "seediness")
        position, margin, seediness = (voxels[name].astype(np.float64) for name in names)
        centre = pieces.mean(position)
        side = ((position - centre[pieces.labels]) ** 2).sum(axis=1)
        numbers = range(len(pieces.size))
        seeds = [own[seediness[own].argmax()] for own in map(pieces.voxels, numbers)]
        means = pieces.mean(margin), np.sqrt(pieces.mean(side)), pieces.mean(seediness)
        return _Embedded(centre, *means, seediness[seeds], position[seeds], margin[seeds])

    def columns(self, first: np.ndarray, second: np.ndarray, link: np.ndarray) -> list[np.ndarray]:
        """Return the features of pairs; `link` is the distance of their nearest voxels."""
        square = ((self.centre[:, None] - self.centre[None]) ** 2).sum(axis=-1)
        distance = np.sqrt(square / (self.margin[:, None] * self.margin[None]))
        ends, others = (first, second), (second, first)
        from_seed = [
            np.linalg.norm(self.seed_position[end] - self.centre[other], axis=1)
            / self.seed_margin[end]
            for end, other in zip(ends, others, strict=True)
        ]
        return [
            *(column[end] for end in ends for column in (self.seediness, self.best)),
            *(np.log1p(value) for value in (distance[first, second], link, *from_seed)),
            *(np.log1p(_smallest(distance)[end]) for end in ends),
            *(10 * self.margin[end] for end in ends),
            *(np.log1p((self.spread / self.margin)[end]) for end in ends),
        ]


def _smallest(distance: np.ndarray) -> np.ndarray:
    """Return the distance of each piece from the nearest other one; 0 for a single piece."""
    if len(distance) < 2:
        return np.zeros(len(distance))
    return np.asarray((distance + np.diag(np.full(len(distance), np.inf))).min(axis=1))


def _gaps(coords: np.ndarray, pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest distance of two pieces, and the voxel of the first one there."""
    count = len(pieces.size)
    gap, near = np.zeros((count, count)), np.zeros((count, count), np.int64)
    for piece in range(count - 1):
        own, rest = pieces.voxels(piece), pieces.order[pieces.starts[piece + 1] :]
        distance, nearest = cKDTree(coords[own]).query(coords[rest])
        places = pieces.starts[piece + 1 : -1] - pieces.starts[piece + 1]
        shortest = np.lexsort((distance, pieces.labels[rest]))[places]
        others = np.arange(piece + 1, count)
        gap[piece, others] = gap[others, piece] = distance[shortest]
        near[piece, others], near[others, piece] = own[nearest[shortest]], rest[shortest]
    return gap, near


def _link_length(
    voxels: Mapping[str, np.ndarray], start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Return the distance of voxels in the embedding, over the root of the mean squared margin."""
    position, margin = (voxels[name].astype(np.float64) for name in ("position", "margin"))
    square = ((position[start] - position[end]) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(2 * square / (margin[start] ** 2 + margin[end] ** 2)))


def join_pieces(
    pieces: Pieces, logit: Float[np.ndarray, " pair"]
) -> tuple[Int[np.ndarray, " piece"], Float[np.ndarray, " piece"]]:
    """Join the pieces one after the other, the most probable pair first, until one is left.

    The score of two groups of pieces is the mean logit of their pairs, weighted by the product of
    the sizes (average linkage). It only falls from one joining to the next.

    Args:
        pieces: of one class of one event.
        logit: of each of `all_pairs`.

    Returns:
        parent (piece,) the piece whose group each one's group has joined, itself for the last
        group; probability (piece,) at which it joined, 0 for the last group.
    """
    count = len(pieces.size)
    score = np.full((count, count), -np.inf)
    first, second = all_pairs(pieces)
    score[first, second] = score[second, first] = logit
    parent, value = _link(score, pieces.size.astype(np.float64))
    probability = 1 / (1 + np.exp(-np.clip(value, -500, 500)))
    return parent, np.where(np.isneginf(value), 0.0, probability)


@njit(cache=True, nogil=True)
def _link(score, size):  # type: ignore[no-untyped-def]
    """Join the groups of highest score; -inf in `score` marks no pair. Both inputs change."""
    count = len(size)
    parent, value = np.arange(count), np.full(count, -np.inf)
    for _ in range(count - 1):
        best, into, other = -np.inf, -1, -1
        for row in range(count):
            for column in range(row + 1, count):
                if score[row, column] > best:
                    best, into, other = score[row, column], row, column
        parent[other], value[other] = into, best
        for group in range(count):
            if group not in (into, other) and score[into, group] > -np.inf:
                total = size[into] * score[into, group] + size[other] * score[other, group]
                score[into, group] = total / (size[into] + size[other])
                score[group, into] = score[into, group]
        score[other, :] = -np.inf
        score[:, other] = -np.inf
        size[into] += size[other]
    return parent, value


def joined(piece: Labels, parent: Labels, probability: np.ndarray, threshold: float) -> Labels:
    """Return the clusters of pieces that joined with at least a probability.

    Args:
        piece: (voxel,) piece of each voxel; -1 none.
        parent, probability: (voxel,) those of its piece, see `join_pieces`.
        threshold: of the probability, 0 to 1.

    Returns:
        labels (voxel,) counted from 0; -1 where there is no piece.

    Example:
        >>> piece, parent = np.array([0, 1, 1, 2]), np.array([0, 0, 0, 0])
        >>> joined(piece, parent, np.array([0.0, 0.9, 0.9, 0.3]), 0.5)
        array([0, 0, 0, 1])
    """
    count = int(piece.max(initial=-1)) + 1
    keep = (piece >= 0) & (probability >= threshold)
    ends = piece[keep].astype(np.int64), parent[keep].astype(np.int64)
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    return np.where(piece >= 0, groups[piece], -1).astype(np.int64) if count else piece.copy()
