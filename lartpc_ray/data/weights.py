"""Event -> Event: pixel weights, so that a loss minds the few voxels that matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event

LIGHTEST, HEAVIEST = 2e-4, 2e-2
VERTEX_WEIGHT = 2e-2


def cluster_and_vertex(event: Event, near: float = 3.0) -> Event:
    """The weights of SparseSSNet (MicroBooNE 2021): small clusters and places where classes meet.

    A voxel weighs 1 / (voxels of its cluster), at least 2e-4 and at most 2e-2, and 2e-2 more if a
    voxel of another class is within `near` voxels. A voxel without a cluster has the least.
    """
    label = event.cluster.astype(np.int64) * (len(ParticleClass) + 1) + event.semantic
    _, place, sizes = np.unique(label, return_inverse=True, return_counts=True)
    weight = np.clip(1 / sizes[place.ravel()], LIGHTEST, HEAVIEST)
    weight[event.cluster < 0] = LIGHTEST
    weight = weight + VERTEX_WEIGHT * _meets_another_class(event, near)
    return replace(event, weight=weight.astype(np.float32))


def balanced(event: Event) -> Event:
    """Every class of an event weighs the same; a voxel 1 on average."""
    known = event.semantic >= 0
    sizes = np.bincount(event.semantic[known], minlength=len(ParticleClass))
    weight = np.ones(len(event))
    share = known.sum() / max(1, np.count_nonzero(sizes))
    weight[known] = share / sizes[event.semantic[known]]
    return replace(event, weight=weight.astype(np.float32))


def _meets_another_class(event: Event, near: float) -> np.ndarray:
    meets = np.zeros(len(event), bool)
    for particle in np.unique(event.semantic):
        mine = event.semantic == particle
        if not mine.all():
            distance, _ = cKDTree(event.coords[~mine]).query(
                event.coords[mine], distance_upper_bound=near + 1e-6
            )
            meets[mine] = np.isfinite(distance)
    return meets
