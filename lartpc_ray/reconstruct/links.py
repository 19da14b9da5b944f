"""Repair the clusters of seeds: merge overlapping kernels, cut by links, absorb small clusters.

DBSCAN sees only the image, so it joins particles that touch. Seeds see only the embedding, so a
cluster may hold voxels that are far apart in the image, and a long track breaks where the network
pulls its ends to different positions. A link needs both distances to be short, from voxel to voxel
along the particle. Koh et al. 2020 leave better post-processing open (IV.B.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import KDTree

from lartpc_ray.reconstruct.clusters import (
    Labels,
    PerVoxel,
    Position,
    check_threshold,
    exponent_limit,
)

Coords = Int[np.ndarray, "voxel axis"]
CHUNK = 1_000
"""Voxels per search for neighbours: it bounds the memory."""
NEAR = 16
"""Nearest voxels that are searched for a large cluster before all voxels are."""
SHORTEST = 1e-12
"""Length of a link between equal positions; scipy's graphs read a 0 as no link."""


@dataclass(frozen=True, eq=False)
class Links:
    """The shortest links that hold voxels together: a minimum spanning forest.

    Voxels that links up to a length join, the forest's links up to that length join too. So one
    forest serves all limits of the length.

    Attributes:
        start, end: the voxels of each link.
        length: distance of the two in the embedding, in margins: |f_i - f_j| over the root of the
            mean of their squared margins.
        voxels: their number.
    """

    start: Int[np.ndarray, " link"]
    end: Int[np.ndarray, " link"]
    length: Float[np.ndarray, " link"]
    voxels: int

    def labels(self, max_length: float) -> Labels:
        """Label the clusters that links of at most `max_length` margins make, from 0."""
        kept = self.length <= max_length
        graph = _graph(self.start[kept], self.end[kept], self.length[kept], self.voxels)
        _, labels = connected_components(graph, directed=False)
        return np.asarray(labels, np.int64)

    def join(self, start: np.ndarray, end: np.ndarray, length: np.ndarray) -> Links:
        """Return the forest of these and further links."""
        ends = np.concatenate([self.start, start]), np.concatenate([self.end, end])
        lengths = np.concatenate([self.length, np.maximum(length, SHORTEST)])
        tree = minimum_spanning_tree(_graph(*ends, lengths, self.voxels)).tocoo()
        return Links(tree.row, tree.col, tree.data, self.voxels)


def find_links(
    coords: Coords, position: Position, margin: PerVoxel, eps: Sequence[float]
) -> list[Links]:
    """Find the links of the voxels of one class of one event.

    Args:
        coords: voxel indices.
        position: embedding position.
        margin: kernel width, above 0.
        eps: largest distances in the image, in voxels, of two linked voxels.

    Returns:
        the forest of each eps.
    """
    count = len(coords)
    none = np.empty(0, np.int64)
    forests = [Links(none, none, np.empty(0), count) for _ in eps]
    tree = KDTree(coords) if count else None
    for first in range(0, count, CHUNK):
        near = KDTree(coords[first : first + CHUNK]).sparse_distance_matrix(
            tree, max(eps), output_type="ndarray"
        )
        near["i"] += first
        near = near[near["i"] < near["j"]]
        start, end = near["i"], near["j"]
        square = np.zeros(len(near))
        for axis in range(position.shape[1]):
            square += (position[start, axis] - position[end, axis]) ** 2
        length = np.sqrt(2 * square / (margin[start] ** 2 + margin[end] ** 2))
        for number, limit in enumerate(eps):
            within = near["v"] <= limit
            forests[number] = forests[number].join(start[within], end[within], length[within])
    return forests


def cluster_by_links(
    coords: Coords, position: Position, margin: PerVoxel, eps: float, max_length: float
) -> Labels:
    """Cluster the voxels of one class of one event by links.

    Args:
        coords, position, margin: as for `find_links`.
        eps: largest distance in the image, in voxels, of two linked voxels.
        max_length: largest distance in the embedding, in margins, of two linked voxels.

    Returns:
        labels (voxel,) counted from 0; every voxel is in a cluster.

    Example:
        >>> coords = np.array([[0, 0], [1, 0], [2, 0], [9, 0]])
        >>> position = np.array([[0.0, 0.0], [0.1, 0.0], [0.8, 0.0], [0.8, 0.0]])
        >>> cluster_by_links(coords, position, np.full(4, 0.2), eps=2.0, max_length=1.0)
        array([0, 0, 1, 2])
    """
    return find_links(coords, position, margin, [eps])[0].labels(max_length)


def merge_overlapping(
    labels: Labels, position: Position, margin: PerVoxel, overlap: float
) -> Labels:
    """Merge clusters with overlapping kernels, directly or through other clusters.

    Two kernels overlap by exp(-|mu_a - mu_b|² / (2 sigma_a sigma_b)), mu and sigma the means over
    the voxels of each cluster (Koh et al. 2020, II.3). A second seed at the rim of a large shower
    lies outside the p0 of the first seed and makes a second cluster; its kernel still covers much
    of the first kernel.

    Args:
        labels: counted from 0; -1 none.
        position, margin: as for `cluster`.
        overlap: two clusters with a larger overlap are merged, 0 to 1; 1 changes nothing.

    Returns:
        labels counted from 0 in the order of the first cluster of each; -1 stays.

    Example:
        >>> position = np.array([[0.0], [1.0], [5.0]])
        >>> merge_overlapping(np.array([0, 1, 2]), position, np.ones(3), 0.5)
        array([0, 0, 1])
    """
    check_threshold("overlap", overlap)
    if overlap == 1:
        return labels
    centre, width = _kernels(labels, position, margin)
    return np.asarray(_merge(labels, centre, width, exponent_limit(overlap)))


@njit(cache=True, nogil=True)
def _kernels(labels, position, margin):  # type: ignore[no-untyped-def]
    """Return the mean position (cluster, axis) and the mean margin of each cluster."""
    count, axes = labels.max() + 1 if len(labels) else 0, position.shape[1]
    centre, width, sizes = np.zeros((count, axes)), np.zeros(count), np.zeros(count)
    for voxel, label in enumerate(labels):
        if label >= 0:
            sizes[label] += 1
            width[label] += margin[voxel]
            for axis in range(axes):
                centre[label, axis] += position[voxel, axis]
    for label in range(count):
        width[label] /= sizes[label]
        for axis in range(axes):
            centre[label, axis] /= sizes[label]
    return centre, width


@njit(cache=True, nogil=True)
def _merge(labels, centre, width, limit):  # type: ignore[no-untyped-def]
    count, axes = centre.shape
    first = np.arange(count)  # the lowest cluster that each is merged with
    for cluster in range(count):
        for other in range(cluster):
            square = 0.0
            for axis in range(axes):
                square += (centre[cluster, axis] - centre[other, axis]) ** 2
            if square < 2 * width[cluster] * width[other] * limit:
                low = min(first[cluster], first[other])
                high = max(first[cluster], first[other])
                for label in range(cluster + 1):
                    if first[label] == high:
                        first[label] = low
    number = np.cumsum(first == np.arange(count)) - 1
    merged = np.full(len(labels), -1, np.int64)
    for voxel, label in enumerate(labels):
        if label >= 0:
            merged[voxel] = number[first[label]]
    return merged


def split(labels: Labels, pieces: Labels) -> Labels:
    """Split each cluster by the piece of its voxels; -1 stays -1.

    Example:
        >>> split(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]))
        array([ 0,  1,  2, -1])
    """
    order = np.argsort(labels, kind="stable")
    return np.asarray(_split(labels, pieces, order, pieces.max(initial=-1) + 1))


@njit(cache=True, nogil=True)
def _split(labels: Labels, pieces: Labels, order: Labels, count: int) -> Labels:
    """`order` lists the voxels cluster by cluster, so each piece has one owner at a time."""
    owner = np.full(count, -1, np.int64)
    number = np.empty(count, np.int64)
    cut = np.full(len(labels), -1, np.int64)
    largest = -1
    for voxel in order:
        piece = pieces[voxel]
        if labels[voxel] < 0:
            continue
        if owner[piece] != labels[voxel]:
            largest += 1
            owner[piece], number[piece] = labels[voxel], largest
        cut[voxel] = number[piece]
    return cut


def nearest_voxels(coords: Coords) -> Int[np.ndarray, "voxel near"]:
    """Return the `NEAR` voxels nearest in the image to each voxel, itself included, in order."""
    count = min(NEAR, len(coords))
    if not count:
        return np.empty((0, 0), np.int64)
    return np.asarray(KDTree(coords).query(coords, np.arange(1, count + 1))[1], np.int64)


def absorb_small(labels: Labels, coords: Coords, near: Labels, min_size: int) -> Labels:
    """Give voxels of small clusters, and of no cluster, to the nearest large cluster.

    An event of one particle has an ARI of 0 as soon as one voxel has another label.

    Args:
        labels: cluster of each voxel, -1 none.
        coords: voxel indices.
        near: `nearest_voxels` of these coords.
        min_size: voxels of a large cluster; 1 changes nothing.

    Returns:
        labels; the same labels if no cluster is large.

    Example:
        >>> coords = np.array([[0], [1], [4], [5], [7]])
        >>> absorb_small(np.array([0, 0, 1, 2, 2]), coords, nearest_voxels(coords), 2)
        array([0, 0, 2, 2, 2])
    """
    return np.asarray(_absorb(labels, coords, near, min_size)) if min_size > 1 else labels


@njit(cache=True, nogil=True)
def _absorb(labels: Labels, coords: Coords, near: Labels, min_size: int) -> Labels:
    sizes = np.zeros(labels.max() + 2 if len(labels) else 1, np.int64)
    for label in labels:
        sizes[label] += label >= 0
    absorbed = labels.copy()
    if sizes.max() < min_size:
        return absorbed
    large = (labels >= 0) & (sizes[labels] >= min_size)
    for voxel in range(len(labels)):
        if large[voxel]:
            continue
        closest = -1
        for other in near[voxel]:
            if large[other]:
                closest = other
                break
        if closest < 0:
            closest = _nearest_of(large, coords, voxel)
        absorbed[voxel] = labels[closest]
    return absorbed


@njit(cache=True, nogil=True)
def _nearest_of(large: np.ndarray, coords: Coords, voxel: int) -> int:
    shortest, closest = np.inf, -1
    for other in np.flatnonzero(large):
        square = 0.0
        for axis in range(coords.shape[1]):
            square += (coords[voxel, axis] - coords[other, axis]) ** 2
        if square < shortest:
            shortest, closest = square, int(other)
    return closest


def _graph(start: np.ndarray, end: np.ndarray, length: np.ndarray, voxels: int) -> coo_matrix:
    return coo_matrix((length, (start, end)), shape=(voxels, voxels)).tocsr()
