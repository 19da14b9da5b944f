"""Clusters by density: the baseline without training."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def dbscan(
    coords: Int[np.ndarray, "voxel axis"], *, eps: float = 2.8, min_points: int = 1
) -> Int[np.ndarray, " voxel"]:
    """Cluster voxels by DBSCAN (Ester et al. 1996) over their positions.

    Args:
        coords: voxel indices.
        eps: distance in voxels up to which two voxels are neighbours.
        min_points: neighbours, the voxel itself included, that make it a core of a cluster.

    Returns:
        labels (voxel,), -1 noise.
    """
    from sklearn.cluster import DBSCAN  # its import takes half a second

    if not len(coords):
        return np.empty(0, np.int64)
    labels = DBSCAN(eps=eps, min_samples=min_points).fit_predict(coords.astype(np.float64))
    return np.asarray(labels, np.int64)
