"""A row for each true and each predicted cluster: its size, its partner, purity and efficiency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Integer
from numba import njit

Labels = Integer[np.ndarray, " voxel"]


@dataclass(frozen=True, eq=False)
class ClusterRows:
    """The true, or the predicted, clusters of an event, each with its partner of the other side.

    The partner of a cluster shares most voxels with it; of equal ones the first. Voxels in no true
    cluster are left out of `purity`, as in `metrics.clustering.purity`.

    Attributes:
        voxels: (cluster,) number of voxels.
        energy: (cluster,) sum over its voxels, MeV.
        extent: (cluster,) largest distance of two of its voxels, voxels; 0 for one voxel.
        partner: (cluster,) index of the partner, -1 none.
        shared: (cluster,) voxels that it shares with its partner.
        purity: (cluster,) share of the predicted cluster's voxels that are in the true one; NaN
            without a partner, 0 for a predicted cluster outside of all true ones.
        efficiency: (cluster,) share of the true cluster's voxels that are in the predicted one; 0
            for a true cluster without a partner, NaN for a predicted one.
    """

    voxels: Int[np.ndarray, " cluster"]
    energy: Float[np.ndarray, " cluster"]
    extent: Float[np.ndarray, " cluster"]
    partner: Int[np.ndarray, " cluster"]
    shared: Int[np.ndarray, " cluster"]
    purity: Float[np.ndarray, " cluster"]
    efficiency: Float[np.ndarray, " cluster"]


def cluster_rows(
    coords: Int[np.ndarray, "voxel axis"],
    energy: Float32[np.ndarray, " voxel"],
    truth: Labels,
    predicted: Labels,
) -> tuple[ClusterRows, ClusterRows]:
    """Return the rows of the true and of the predicted clusters of an event.

    The mean purity over the predicted clusters that share a voxel with a true one, and the mean
    efficiency over the true clusters, are those of `metrics.clustering` (Koh III.1, III.2).

    Args:
        coords: (voxel, axis) voxel indices.
        energy: (voxel,) MeV.
        truth: (voxel,) true cluster, numbered from 0 without gaps; -1 none.
        predicted: (voxel,) predicted cluster, in the same way.

    Example:
        >>> coords = np.array([[0, 0, 0], [3, 4, 0], [9, 9, 9]])
        >>> energy = np.array([1, 2, 4], np.float32)
        >>> labels = np.array([0, 0, 1]), np.array([0, 1, 1])
        >>> true, found = cluster_rows(coords, energy, *labels)
        >>> true.extent.tolist(), true.partner.tolist(), true.purity.tolist()
        ([5.0, 0.0], [0, 1], [1.0, 0.5])
        >>> found.energy.tolist(), found.efficiency.tolist()
        ([1.0, 6.0], [0.5, 0.5])
    """
    table = np.zeros((truth.max(initial=-1) + 1, predicted.max(initial=-1) + 1), np.int64)
    both = (truth >= 0) & (predicted >= 0)
    np.add.at(table, (truth[both], predicted[both]), 1)
    true_sizes = np.bincount(truth[truth >= 0], minlength=table.shape[0])
    found_sizes = table.sum(axis=0)  # voxels of a true cluster
    partner, shared = _partners(table)
    purity = np.where(partner >= 0, shared / _sizes(found_sizes, partner), np.nan)
    true = _rows(coords, energy, truth, partner, shared, purity, shared / np.maximum(true_sizes, 1))
    partner, shared = _partners(table.T)
    efficiency = np.where(partner >= 0, shared / _sizes(true_sizes, partner), np.nan)
    purity = shared / np.maximum(found_sizes, 1)
    return true, _rows(coords, energy, predicted, partner, shared, purity, efficiency)


def _partners(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column of the largest value of each row, -1 for a row of zeros, and the value."""
    if not table.size:
        return np.full(len(table), -1), np.zeros(len(table), np.int64)
    best, shared = table.argmax(axis=1), table.max(axis=1)
    return np.where(shared > 0, best, -1), shared


def _sizes(sizes: np.ndarray, partner: np.ndarray) -> np.ndarray:
    return np.maximum(sizes[partner], 1) if len(sizes) else np.ones(len(partner))


def _rows(
    coords: np.ndarray, energy: np.ndarray, labels: np.ndarray, *columns: np.ndarray
) -> ClusterRows:
    count = len(columns[0])
    known = labels >= 0
    voxels = np.bincount(labels[known], minlength=count)
    sums = np.bincount(labels[known], energy[known].astype(float), minlength=count)
    order = np.argsort(labels[known], kind="stable")
    sizes = extents(coords[known][order].astype(np.int64), np.cumsum(voxels))
    return ClusterRows(voxels, sums, sizes, *columns)


@njit(cache=True, nogil=True)
def extents(coords, ends):  # type: ignore[no-untyped-def]
    """Return the largest distance of two voxels of each cluster.

    Voxels further than r1 + r2 from each other do not exist, if both lie r1 and r2 from a point. So
    pairs are tried from the outermost voxels inwards, until no pair can be longer than the longest.

    Args:
        coords: (voxel, axis) int64, the voxels of a cluster together.
        ends: (cluster,) first voxel behind each cluster.
    """
    longest = np.zeros(len(ends))
    begin = 0
    for cluster in range(len(ends)):
        own = coords[begin : ends[cluster]]
        begin = ends[cluster]
        centre = np.zeros(own.shape[1])
        for axis in range(own.shape[1]):
            centre[axis] = own[:, axis].mean()
        radius = np.sqrt(((own - centre) ** 2).sum(axis=1))
        order = np.argsort(-radius)
        best = 0
        for first in range(len(order)):
            i = order[first]
            if 2 * radius[i] + 1e-6 <= np.sqrt(best):
                break
            for second in range(first + 1, len(order)):
                j = order[second]
                if radius[i] + radius[j] + 1e-6 <= np.sqrt(best):
                    break
                square = 0
                for axis in range(own.shape[1]):
                    square += (own[i, axis] - own[j, axis]) ** 2
                best = max(best, square)
        longest[cluster] = np.sqrt(best)
    return longest
