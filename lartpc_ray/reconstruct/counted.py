"""Cluster as lartpc_mlreco3d computes the paper's rule: its list of seeds may end early.

Its `fit_predict` gives every voxel to the seed of highest probability, as clusters.py does, with
two differences. Each seed counts all voxels with p > p0, also those that an earlier seed counted,
and no seed is taken once the counts add up to the number of voxels. So where kernels overlap,
voxels far from all seeds get no seed of their own. And without any seed, all voxels are one
cluster. s0 only ends the list of seeds here too: one pass for each p0 gives the whole s0 axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numba import njit

from lartpc_ray.metrics.clustering import CHEAP_SCORES, SCORES, table_scores, true_index
from lartpc_ray.reconstruct.clusters import Labels, PerVoxel, Position, check_threshold, checked
from lartpc_ray.reconstruct.first_come import UNDERFLOW, find_exponents, move_voxel, with_room
from lartpc_ray.reconstruct.sweep import Truth, ascending


def cluster_counted(
    position: Position, margin: PerVoxel, seediness: PerVoxel, s0: float, p0: float
) -> Labels:
    """Cluster the voxels of one class of one event by lartpc_mlreco3d's computation.

    Args:
        position, margin, seediness, s0: as for `clusters.cluster`.
        p0: probability above which a voxel cannot become a seed, 0 to below 1.

    Returns:
        labels (voxel,) counted from 0 in the order of the seeds; 0 everywhere without a seed.

    Raises:
        ValueError: as `clusters.cluster`, and for p0 = 1, with which that program never ends.

    Example:
        >>> position = np.array([[0.0], [0.6], [1.4]])
        >>> outputs = position, np.full(3, 0.5), np.array([0.9, 0.8, 0.7])
        >>> cluster_counted(*outputs, 0.5, 0.4), cluster_counted(*outputs, 0.95, 0.4)
        (array([0, 0, 1]), array([0, 0, 0]))
    """
    position, margin, seediness = checked(position, margin, seediness)
    check_threshold("s0", s0)
    limit = counted_limit(p0)
    labels, nearest = np.zeros(len(seediness), int), np.full(len(seediness), np.inf)
    seeds = counted = 0
    for seed in np.argsort(-seediness, kind="stable"):
        if seediness[seed] < s0 or counted >= len(seediness):
            break
        if nearest[seed] < limit:
            continue
        q = ((position - position[seed]) ** 2).sum(axis=1) * (0.5 / margin[seed] ** 2)
        counted += int(np.count_nonzero(q < limit))
        q = np.minimum(q, UNDERFLOW)
        closer = q < nearest
        labels[closer], nearest[closer] = seeds, q[closer]
        seeds += 1
    return labels


def counted_limit(p0: float) -> float:
    """Return the least q = -log p that is not counted: p > p0 in float32, as that program has it.

    Raises:
        ValueError: for a p0 outside [0, 1), in float32.
    """
    check_threshold("p0", p0)
    rounded = np.float32(p0)
    if rounded >= 1:
        raise ValueError(f"p0 = {p0}: lartpc_mlreco3d never ends with it; give less than 1")
    above = np.nextafter(rounded, np.float32(1))
    return -float(np.log((float(rounded) + float(above)) / 2))


def sweep_counted(
    position: Position,
    margin: PerVoxel,
    seediness: PerVoxel,
    truth: Truth,
    s0: Float[np.ndarray, " s0"],
    p0: Float[np.ndarray, " p0"],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = CHEAP_SCORES,
) -> dict[str, Float[np.ndarray, "s0 p0"]]:
    """Score `cluster_counted` at every point of a grid of thresholds, exactly.

    Args:
        position, margin, seediness, truth, s0, p0, min_voxels, metrics: as for `sweep.sweep`; p0
            is below 1.

    Returns:
        metric to (len(s0), len(p0)); NaN if there is nothing to measure.

    Raises:
        ValueError: as `sweep.sweep` and `cluster_counted`.
    """
    position, margin, seediness = checked(position, margin, seediness)
    if np.shape(truth) != seediness.shape:
        raise ValueError(f"truth has shape {np.shape(truth)} for {len(seediness)} voxels")
    values = _sweep(
        np.ascontiguousarray(position.T),
        0.5 / margin**2,
        seediness,
        np.argsort(-seediness, kind="stable"),
        true_index(np.asarray(truth), min_voxels),
        ascending("s0", s0),
        np.array([counted_limit(value) for value in ascending("p0", p0)]),
        "ami" in metrics,
    )
    return {name: values[SCORES.index(name)] for name in metrics}


@njit(cache=True, nogil=True)
def _sweep(position, scale, seediness, order, truth, s0, limits, information):  # type: ignore[no-untyped-def]
    """Return the scores (score, s0, p0); `order` lists the voxels by decreasing seediness."""
    sizes = np.zeros(truth.max() + 1 if len(truth) else 0, np.int64)
    for cluster in truth:
        if cluster >= 0:
            sizes[cluster] += 1
    scores = np.empty((len(SCORES), len(s0), len(limits)))
    whole = sizes.reshape(-1, 1)[:, : min(len(truth), 1)]
    for column in range(len(limits)):
        label = np.full(len(truth), -1, np.int64)
        nearest, q = np.full(len(truth), np.inf), np.empty(len(truth))
        table = np.zeros((len(sizes), 16), np.int64)
        seeds, scored, rank, counted = 0, -1, 0, 0
        for row in range(len(s0) - 1, -1, -1):
            while rank < len(order) and seediness[order[rank]] >= s0[row]:
                seed = order[rank]
                rank += 1
                if counted < len(order) and nearest[seed] >= limits[column]:
                    table = with_room(table, seeds)
                    find_exponents(position, scale[seed], seed, q)
                    counted += _share(q, seeds, limits[column], truth, nearest, label, table)
                    seeds += 1
            if seeds == scored:
                scores[:, row, column] = scores[:, row + 1, column]
            else:
                found = table[:, :seeds] if seeds else whole
                scores[:, row, column] = table_scores(found, sizes, 0, information)
                scored = seeds
    return scores


@njit(cache=True, nogil=True)
def _share(q, number, limit, truth, nearest, label, table):  # type: ignore[no-untyped-def]
    """Give a seed the voxels that it is nearest to; return how many it counts."""
    counted = 0
    for voxel in range(len(q)):
        counted += q[voxel] < limit
        value = min(q[voxel], UNDERFLOW)
        if value < nearest[voxel]:
            nearest[voxel] = value
            move_voxel(voxel, number, truth, label, table)
    return counted
