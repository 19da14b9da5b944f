"""Clusters by density: the baseline without training."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numba import njit


def dbscan(
    coords: Int[np.ndarray, "voxel axis"], *, eps: float = 2.8, min_points: int = 1
) -> Int[np.ndarray, " voxel"]:
    """Cluster voxels by DBSCAN (Ester et al. 1996) over their positions.

    With `min_points` 1 every voxel is a core, so the clusters are the connected components of the
    pairs up to `eps`. These give the labels of scikit-learn's DBSCAN in a tenth of its time
    (`benchmarks/clusters.py`).

    Args:
        coords: voxel indices.
        eps: distance in voxels up to which two voxels are neighbours.
        min_points: neighbours, the voxel itself included, that make it a core of a cluster.

    Returns:
        labels (voxel,), -1 noise.
    """
    if not len(coords):
        return np.empty(0, np.int64)
    if min_points == 1:
        return _components(coords, eps)
    from sklearn.cluster import DBSCAN  # its import takes half a second

    labels = DBSCAN(eps=eps, min_samples=min_points).fit_predict(coords.astype(np.float64))
    return np.asarray(labels, np.int64)


def _components(coords: np.ndarray, eps: float) -> np.ndarray:
    """Return the components of the pairs up to `eps`, numbered by their first voxels."""
    from scipy.spatial import cKDTree

    tree = cKDTree(coords, balanced_tree=False, compact_nodes=False)  # built in half the time
    pairs = tree.query_pairs(eps, output_type="ndarray")
    return np.asarray(_join(pairs, len(coords)), np.int64)


@njit(cache=True, nogil=True)
def _join(pairs, count):  # type: ignore[no-untyped-def]
    """Return the components of `pairs` of `count` nodes.

    Each union keeps the smaller root, so that a root is the first node of its component. scipy's
    connected_components takes ten times as long, most of it to check and transpose its matrix.
    """
    parent = np.arange(count)
    for pair in range(len(pairs)):
        first, second = pairs[pair]
        while parent[first] != first:
            parent[first] = parent[parent[first]]
            first = parent[first]
        while parent[second] != second:
            parent[second] = parent[parent[second]]
            second = parent[second]
        parent[max(first, second)] = min(first, second)
    labels, found = np.empty(count, np.int64), 0
    for node in range(count):
        if parent[node] == node:
            labels[node] = found
            found += 1
        else:  # the parent comes before the node
            labels[node] = labels[parent[node]]
    return labels
