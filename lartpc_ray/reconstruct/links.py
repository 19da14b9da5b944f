"""Repair the clusters of seeds: merge overlapping kernels, cut by links, absorb small clusters.

DBSCAN sees only the image, so it joins particles that touch. Seeds see only the embedding, so a
cluster may hold voxels that are far apart in the image, and a long track breaks where the network
pulls its ends to different positions. A link needs both distances to be short, from voxel to voxel
along the particle. Koh et al. 2020 leave better post-processing open (IV.B.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numba import njit
from scipy.spatial import KDTree

from lartpc_ray.reconstruct.clusters import (
    Labels,
    PerVoxel,
    Position,
    check_threshold,
    exponent_limit,
)

Coords = Int[np.ndarray, "voxel axis"]
NEAR = 16
"""Nearest voxels that are searched for a large cluster before all voxels are."""


def linked_labels(
    coords: Coords,
    position: Position,
    margin: PerVoxel,
    eps: Sequence[float],
    max_length: Sequence[float],
) -> Int[np.ndarray, "eps length voxel"]:
    """Label the voxels that links hold together, for each eps and each largest length.

    The length of a link is |f_i - f_j| over the root of the mean of the squared margins.

    Args:
        coords: voxel indices.
        position: embedding position.
        margin: kernel width, above 0.
        eps: largest distances in the image, in voxels, of two linked voxels.
        max_length: largest lengths of a link, in margins.

    Returns:
        labels that count from 0 in the order of the first voxel of each.
    """
    limits = np.array(eps, float), np.array(max_length, float)
    far, long = (np.argsort(values, kind="stable") for values in limits)
    labels = np.empty((len(far), len(long), len(coords)), np.int64)
    if len(coords):
        widest = np.ptp(coords, axis=0).argmax()
        order = np.argsort(coords[:, widest], kind="stable")
        along = coords[order, widest]
        found = _joined(coords, position, margin, order, along, limits[0][far], limits[1][long])
        labels[np.ix_(far, long)] = found
    return labels


@njit(cache=True, nogil=True)
def _joined(coords, position, margin, order, along, eps, lengths):  # type: ignore[no-untyped-def]
    """Join the voxels of each pair that is within both limits; the limits increase.

    Voxels that are joined at two limits are joined at all higher ones. `order` sorts the voxels
    by their coordinates `along` an axis, so the search of a voxel ends where the axis alone is too
    far.
    """
    count = len(order)
    root = np.empty((len(eps), len(lengths), count), np.int64)
    root[:] = np.arange(count)
    for rank in range(count):
        one = order[rank]
        for further in range(rank + 1, count):
            if along[further] - along[rank] > eps[-1]:
                break
            other = order[further]
            far = np.searchsorted(eps, _distance(coords, one, other))
            if far == len(eps):
                continue
            long = np.searchsorted(lengths, _length(position, margin, one, other))
            for row in range(far, len(eps)):
                if not _join(root[row], long, one, other):
                    break
    return _numbered(root)


@njit(cache=True, nogil=True)
def _join(roots, long, one, other):  # type: ignore[no-untyped-def]
    """Join two voxels at each length from a number on; return whether any was new."""
    new = False
    for column in range(long, len(roots)):
        low, high = _root(roots[column], one), _root(roots[column], other)
        if low == high:
            break
        new = True
        roots[column, max(low, high)] = min(low, high)
    return new


@njit(cache=True, nogil=True)
def _root(root, voxel):  # type: ignore[no-untyped-def]
    """Return the first voxel of a label; each voxel on the way then points halfway nearer to it."""
    while root[voxel] != voxel:
        root[voxel] = root[root[voxel]]
        voxel = root[voxel]
    return voxel


@njit(cache=True, nogil=True)
def _numbered(root):  # type: ignore[no-untyped-def]
    """Return labels that count the first voxels from 0."""
    labels = np.empty_like(root)
    for row in range(root.shape[0]):
        for column in range(root.shape[1]):
            own, count = labels[row, column], 0
            for voxel in range(root.shape[2]):
                first = _root(root[row, column], voxel)
                if first == voxel:
                    own[voxel] = count
                    count += 1
                else:
                    own[voxel] = own[first]
    return labels


@njit(cache=True, nogil=True)
def _distance(coords, one, other):  # type: ignore[no-untyped-def]
    square = 0
    for axis in range(coords.shape[1]):
        step = coords[one, axis] - coords[other, axis]
        square += step * step
    return np.sqrt(square)


@njit(cache=True, nogil=True)
def _length(position, margin, one, other):  # type: ignore[no-untyped-def]
    square = 0.0
    for axis in range(position.shape[1]):
        step = position[one, axis] - position[other, axis]
        square += step * step
    return np.sqrt(2 * square / (margin[one] * margin[one] + margin[other] * margin[other]))


def cluster_by_links(
    coords: Coords, position: Position, margin: PerVoxel, eps: float, max_length: float
) -> Labels:
    """Cluster the voxels of one class of one event by links.

    Args:
        coords, position, margin: as for `linked_labels`.
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
    return np.asarray(linked_labels(coords, position, margin, [eps], [max_length])[0, 0])


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
    others = np.flatnonzero(large)
    for voxel in range(len(labels)):
        if large[voxel]:
            continue
        closest = -1
        for other in near[voxel]:
            if large[other]:
                closest = other
                break
        if closest < 0:
            closest = _nearest_of(others, coords, voxel)
        absorbed[voxel] = labels[closest]
    return absorbed


@njit(cache=True, nogil=True)
def _nearest_of(others: Labels, coords: Coords, voxel: int) -> int:
    shortest, closest = np.inf, -1
    for other in others:
        square = 0.0
        for axis in range(coords.shape[1]):
            square += (coords[voxel, axis] - coords[other, axis]) ** 2
        if square < shortest:
            shortest, closest = square, int(other)
    return closest
