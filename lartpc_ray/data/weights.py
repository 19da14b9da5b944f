"""Set the voxel weights of an event for the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event

LIGHTEST, HEAVIEST = 2e-4, 2e-2
VERTEX_WEIGHT = 2e-2


def cluster_and_vertex(event: Event, near: float = 3.0) -> Event:
    """Set the weights of SparseSSNet (MicroBooNE 2021): small clusters and vertices weigh more.

    A voxel weighs 1 / (voxels of its cluster), limited to [2e-4, 2e-2], plus 2e-2 if a voxel of
    another class is within `near` voxels. A voxel without a cluster weighs 2e-4 before the sum.
    """
    label = event.cluster.astype(np.int64) * (len(ParticleClass) + 1) + event.semantic
    _, index, sizes = np.unique(label, return_inverse=True, return_counts=True)
    weight = np.clip(1 / sizes[index.ravel()], LIGHTEST, HEAVIEST)
    weight[event.cluster < 0] = LIGHTEST
    weight = weight + VERTEX_WEIGHT * _is_near_another_class(event, near)
    return replace(event, weight=weight.astype(np.float32))


def balanced(event: Event) -> Event:
    """Give every class of an event the same total weight, with a mean of 1 per voxel."""
    known = event.semantic >= 0
    sizes = np.bincount(event.semantic[known], minlength=len(ParticleClass))
    weight = np.ones(len(event))
    share = known.sum() / max(1, np.count_nonzero(sizes))
    weight[known] = share / sizes[event.semantic[known]]
    return replace(event, weight=weight.astype(np.float32))


def _is_near_another_class(event: Event, near: float) -> np.ndarray:
    is_near = np.zeros(len(event), bool)
    for particle in np.unique(event.semantic):
        of_class = event.semantic == particle
        if not of_class.all():
            distance, _ = cKDTree(event.coords[~of_class]).query(
                event.coords[of_class], distance_upper_bound=near + 1e-6
            )
            is_near[of_class] = np.isfinite(distance)
    return is_near
