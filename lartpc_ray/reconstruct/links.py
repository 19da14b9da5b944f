"""What mends the clusters of seeds: kernels that overlap, links, and the nearest for what is small.

DBSCAN sees only the image, so particles that touch become one; seeds see only the embedding, so
what is far away may come along, and a long track breaks where its ends are pulled to different
places. A link asks for both, step by step along the particle. It is an answer to what Koh et al.
2020 leave open in IV.B.4 (better post-processing).
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

from lartpc_ray.reconstruct.clusters import check_threshold, exponent_limit

Labels = Int[np.ndarray, " voxel"]
CHUNK = 1_000
"""Voxels whose neighbours are held at a time."""
NEAR = 16
"""Neighbours in which a voxel looks for a cluster before it looks at all."""
SHORTEST = 1e-12
"""A link of no length; 0 would be no link to scipy's graphs."""


@dataclass(frozen=True, eq=False)
class Links:
    """The shortest links that hold voxels together: a minimum spanning forest.

    What is joined by links up to a length is joined by those of the forest up to it, so all limits
    are read from one forest.

    Attributes:
        start, end: the voxels of each link.
        length: distance of the two in the embedding, in margins: |f_i - f_j| over the root of the
            mean of their squared margins.
        voxels: how many there are.
    """

    start: Int[np.ndarray, " link"]
    end: Int[np.ndarray, " link"]
    length: Float[np.ndarray, " link"]
    voxels: int

    def labels(self, reach: float) -> Int[np.ndarray, " voxel"]:
        """The clusters that links no longer than `reach` margins make, counted from 0."""
        kept = self.length <= reach
        graph = _graph(self.start[kept], self.end[kept], self.length[kept], self.voxels)
        _, labels = connected_components(graph, directed=False)
        return np.asarray(labels, np.int64)

    def join(self, start: np.ndarray, end: np.ndarray, length: np.ndarray) -> Links:
        """The forest of these and further links."""
        rows = np.concatenate([self.start, start]), np.concatenate([self.end, end])
        lengths = np.concatenate([self.length, np.maximum(length, SHORTEST)])
        tree = minimum_spanning_tree(_graph(*rows, lengths, self.voxels)).tocoo()
        return Links(tree.row, tree.col, tree.data, self.voxels)


def find_links(
    coords: Int[np.ndarray, "voxel axis"],
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    eps: Sequence[float],
) -> list[Links]:
    """The links of the voxels of one class of one event.

    Args:
        coords: voxel indices.
        position: embedding position.
        margin: kernel width, above 0.
        eps: distances in voxels up to which two voxels may be linked.

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
        for place, limit in enumerate(eps):
            within = near["v"] <= limit
            forests[place] = forests[place].join(start[within], end[within], length[within])
    return forests


def cluster_by_links(
    coords: Int[np.ndarray, "voxel axis"],
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    eps: float,
    reach: float,
) -> Int[np.ndarray, " voxel"]:
    """Cluster the voxels of one class of one event by links.

    Args:
        coords, position, margin: as for `links`.
        eps: distance in the image, in voxels, up to which two voxels may be linked.
        reach: distance in the embedding, in margins, up to which they are.

    Returns:
        labels (voxel,) counted from 0; every voxel is in a cluster.

    Example:
        >>> coords = np.array([[0, 0], [1, 0], [2, 0], [9, 0]])
        >>> position = np.array([[0.0, 0.0], [0.1, 0.0], [0.8, 0.0], [0.8, 0.0]])
        >>> cluster_by_links(coords, position, np.full(4, 0.2), eps=2.0, reach=1.0)
        array([0, 0, 1, 2])
    """
    return find_links(coords, position, margin, [eps])[0].labels(reach)


def merge_overlapping(
    labels: Int[np.ndarray, " voxel"],
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    overlap: float,
) -> Int[np.ndarray, " voxel"]:
    """Clusters whose kernels overlap made one, and what those overlap, too.

    Two kernels overlap by exp(-|mu_a - mu_b|² / (2 sigma_a sigma_b)), mu and sigma the means over
    the voxels of each cluster (Koh et al. 2020, II.3). A second seed at the rim of a large shower
    lies outside the first one's p0 and makes a cluster of its own; its kernel still covers
    much of the other's.

    Args:
        labels: counted from 0; -1 none.
        position, margin: as for `cluster`.
        overlap: above it two clusters are one, 0 to 1; with 1 nothing changes.

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
    return np.asarray(_merged(labels, position, margin, exponent_limit(overlap)))


@njit(cache=True, nogil=True)
def _merged(
    labels: np.ndarray, position: np.ndarray, margin: np.ndarray, limit: float
) -> np.ndarray:
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
    first = np.arange(count)  # the lowest cluster that each is one with
    for one in range(count):
        for other in range(one):
            square = 0.0
            for axis in range(axes):
                square += (centre[one, axis] - centre[other, axis]) ** 2
            if square < 2 * width[one] * width[other] * limit and first[one] != first[other]:
                low = min(first[one], first[other])
                high = max(first[one], first[other])
                for label in range(one + 1):
                    if first[label] == high:
                        first[label] = low
    number = np.cumsum(first == np.arange(count)) - 1
    found = np.full(len(labels), -1, np.int64)
    for voxel, label in enumerate(labels):
        if label >= 0:
            found[voxel] = number[first[label]]
    return found


def split(
    labels: Int[np.ndarray, " voxel"], pieces: Int[np.ndarray, " voxel"]
) -> Int[np.ndarray, " voxel"]:
    """Each cluster cut into those of its pieces that belong to different ones; -1 stays -1.

    Example:
        >>> split(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]))
        array([ 0,  1,  2, -1])
    """
    order = np.argsort(labels, kind="stable")
    return np.asarray(_split(labels, pieces, order, pieces.max(initial=-1) + 1))


@njit(cache=True, nogil=True)
def _split(labels: Labels, pieces: Labels, order: Labels, count: int) -> Labels:
    """`order` has the voxels of a cluster one after the other, so a piece has one owner a time."""
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


def nearest_voxels(coords: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, "voxel near"]:
    """The voxels nearest in the image to each voxel, the nearest first; itself is one of them."""
    count = min(NEAR, len(coords))
    if not count:
        return np.empty((0, 0), np.int64)
    return np.asarray(KDTree(coords).query(coords, np.arange(1, count + 1))[1], np.int64)


def absorb_small(
    labels: Labels, coords: Int[np.ndarray, "voxel axis"], near: Labels, least: int
) -> Labels:
    """The voxels of small clusters, and of none, given to the nearest large one.

    An event of one particle has an ARI of 0 as soon as one voxel is left over.

    Args:
        labels: (voxel,) cluster, -1 none.
        coords: voxel indices.
        near: their `neighbours`.
        least: voxels of a large cluster; with 1 nothing changes.

    Returns:
        labels; the same where there is no large cluster.

    Example:
        >>> coords = np.array([[0], [1], [4], [5], [7]])
        >>> absorb_small(np.array([0, 0, 1, 2, 2]), coords, nearest_voxels(coords), 2)
        array([0, 0, 2, 2, 2])
    """
    return np.asarray(_adopted(labels, coords, near, least)) if least > 1 else labels


@njit(cache=True, nogil=True)
def _adopted(labels: Labels, coords: Labels, near: Labels, least: int) -> Labels:
    sizes = np.zeros(labels.max() + 2 if len(labels) else 1, np.int64)
    for label in labels:
        sizes[label] += label >= 0
    found = labels.copy()
    if sizes.max() < least:
        return found
    for voxel in range(len(labels)):
        if labels[voxel] >= 0 and sizes[labels[voxel]] >= least:
            continue
        closest = -1
        for other in near[voxel]:
            if labels[other] >= 0 and sizes[labels[other]] >= least:
                closest = other
                break
        if closest < 0:  # none of the neighbours: all voxels are looked at
            shortest = np.inf
            for other in range(len(labels)):
                if labels[other] >= 0 and sizes[labels[other]] >= least:
                    square = 0.0
                    for axis in range(coords.shape[1]):
                        square += (coords[voxel, axis] - coords[other, axis]) ** 2
                    if square < shortest:
                        shortest, closest = square, other
        found[voxel] = labels[closest]
    return found


def _graph(start: np.ndarray, end: np.ndarray, length: np.ndarray, voxels: int) -> coo_matrix:
    return coo_matrix((length, (start, end)), shape=(voxels, voxels)).tocsr()
