"""Cluster by the rule of SPINE 1.4: a seed takes its members at once and keeps them.

The paper's rule gives every voxel to the seed of highest probability (clusters.py). SPINE's
`SPICEClusterer` differs: a seed takes the free voxels with p >= p0, and a voxel that no seed has
taken goes, at the end, to the accepted seed of highest p. s0 only ends the list of seeds here too,
so one pass over the seeds for each p0 gives the whole s0 axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer
from numba import njit

from lartpc_ray.metrics.clustering import CHEAP_SCORES, SCORES, table_scores, true_index
from lartpc_ray.reconstruct.clusters import check_threshold, checked
from lartpc_ray.reconstruct.sweep import ascending

SMALLEST_WIDTH = 1e-6
"""Lower bound of a kernel's width: SPINE's `eps`."""
UNDERFLOW = 103.97
"""Largest q with exp(-q) above 0 in float32, in which SPINE computes; beyond it all p are equal."""
FREE, RETIRED = -1, -2


def cluster_first_come(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    s0: float,
    p0: float,
    *,
    min_size: int = 2,
    assign_all: bool = True,
) -> Int[np.ndarray, " voxel"]:
    """Cluster the voxels of one class of one event by SPINE's rule.

    Args:
        position, margin, seediness, s0: as for `clusters.cluster`.
        p0: smallest probability of a member, 0 to 1.
        min_size: a seed with fewer members is rejected, and its voxel stays without a cluster.
        assign_all: give voxels outside every accepted cluster to the one of highest probability.

    Returns:
        labels (voxel,) counted from 0 in the order of the accepted seeds; -1 no cluster.

    Raises:
        ValueError: as `clusters.cluster`.

    Example:
        >>> position = np.array([[0.0], [0.1], [5.0]])
        >>> cluster_first_come(position, np.ones(3), np.array([0.9, 0.5, 0.8]), 0.5, 0.5)
        array([ 0,  0, -1])
    """
    outputs = checked(position, margin, seediness)
    check_threshold("s0", s0)
    check_threshold("p0", p0)
    if len(seediness) < min_size:
        return np.full(len(seediness), -1)
    taken, best = _grow(*outputs, s0, member_limit(p0), min_size)
    free = taken == FREE
    taken[free] = best[free] if assign_all else -1
    return np.asarray(np.maximum(taken, -1))


def _grow(
    position: np.ndarray,
    margin: np.ndarray,
    seediness: np.ndarray,
    s0: float,
    limit: float,
    min_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster that took each voxel, and the cluster of highest probability."""
    taken, best = np.full((2, len(seediness)), FREE)
    nearest, accepted = np.full(len(seediness), np.inf), 0
    for seed in np.argsort(-seediness, kind="stable"):
        if seediness[seed] < s0:
            break
        if taken[seed] != FREE:
            continue
        width = max(margin[seed], SMALLEST_WIDTH)
        q = ((position - position[seed]) ** 2).sum(axis=1) * (0.5 / width**2)
        members = (taken == FREE) & (q <= limit)
        if members.sum() < min_size:
            taken[seed] = RETIRED
            continue
        taken[members] = accepted
        q = np.minimum(q, UNDERFLOW)
        best[q < nearest] = accepted
        nearest = np.minimum(nearest, q)
        accepted += 1
    return taken, best


def member_limit(p0: float) -> float:
    """Return the largest q = -log p of a member: p >= p0 in float32, in which SPINE computes.

    A p that rounds to p0 is a member too, which matters for p0 = 1.
    """
    rounded = np.float32(p0)
    if rounded == 0:
        return float("inf")
    below = np.nextafter(rounded, np.float32(0))
    return -float(np.log((float(rounded) + float(below)) / 2))


def sweep_first_come(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    truth: Integer[np.ndarray, " voxel"],
    s0: Float[np.ndarray, " s0"],
    p0: Float[np.ndarray, " p0"],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = CHEAP_SCORES,
    min_size: int = 2,
    assign_all: bool = True,
) -> dict[str, Float[np.ndarray, "s0 p0"]]:
    """Score `cluster_first_come` at every point of a grid of thresholds, exactly.

    Args:
        position, margin, seediness, truth, s0, p0, min_voxels, metrics: as for `sweep.sweep`.
        min_size, assign_all: as for `cluster_first_come`.

    Returns:
        metric to (len(s0), len(p0)); NaN if there is nothing to measure.

    Raises:
        ValueError: as `sweep.sweep`.
    """
    position, margin, seediness = checked(position, margin, seediness)
    if np.shape(truth) != seediness.shape:
        raise ValueError(f"truth has shape {np.shape(truth)} for {len(seediness)} voxels")
    values = _sweep(
        np.ascontiguousarray(position.T),
        0.5 / np.maximum(margin, SMALLEST_WIDTH) ** 2,
        seediness,
        np.argsort(-seediness, kind="stable"),
        true_index(np.asarray(truth), min_voxels),
        ascending("s0", s0),
        np.array([member_limit(value) for value in ascending("p0", p0)]),
        min_size,
        assign_all,
        "ami" in metrics,
    )
    return {name: values[SCORES.index(name)] for name in metrics}


@njit(cache=True, nogil=True)
def _sweep(  # type: ignore[no-untyped-def]
    position, scale, seediness, order, truth, s0, limits, min_size, assign_all, information
):
    """Return the scores (score, s0, p0); `order` lists the voxels by decreasing seediness."""
    sizes = np.zeros(truth.max() + 1 if len(truth) else 0, np.int64)
    for cluster in truth:
        if cluster >= 0:
            sizes[cluster] += 1
    scores = np.empty((len(SCORES), len(s0), len(limits)))
    for column in range(len(limits)):
        state = (
            np.full(len(truth), FREE, np.int64),
            np.full(len(truth), -1, np.int64),
            np.full(len(truth), np.inf),
            np.empty(len(truth)),
        )
        table = np.zeros((len(sizes), 16), np.int64)
        accepted, rank = 0, 0 if len(truth) >= min_size else len(truth)
        for row in range(len(s0) - 1, -1, -1):
            before = rank
            while rank < len(order) and seediness[order[rank]] >= s0[row]:
                seed = order[rank]
                rank += 1
                if state[0][seed] == FREE:
                    table = with_room(table, accepted)
                    accepted += _take(
                        seed, accepted, position, scale[seed], truth, limits[column],
                        min_size, assign_all, state, table,
                    )  # fmt: skip
            if rank == before and row < len(s0) - 1:
                scores[:, row, column] = scores[:, row + 1, column]
            else:
                missed = sizes.sum() - table.sum()
                found = table_scores(table[:, :accepted], sizes, missed, information)
                scores[:, row, column] = found
    return scores


@njit(cache=True, nogil=True)
def with_room(table, clusters):  # type: ignore[no-untyped-def]
    """Return a table of shared voxels with a column for one cluster more."""
    if clusters < table.shape[1]:
        return table
    wider = np.zeros((len(table), 2 * clusters), np.int64)
    wider[:, :clusters] = table
    return wider


@njit(cache=True, nogil=True)
def _take(  # type: ignore[no-untyped-def]
    seed, number, position, scale, truth, limit, min_size, assign_all, state, table
):
    """Give a seed its members and, of the other free voxels, those nearest to it.

    Returns:
        1 for a cluster, 0 for a seed with too few members, which is retired.
    """
    taken, label, nearest, q = state
    find_exponents(position, scale, seed, q)
    members = 0
    for voxel in range(len(q)):
        members += taken[voxel] == FREE and q[voxel] <= limit
    if members < min_size:
        taken[seed] = RETIRED
        move_voxel(seed, -1, truth, label, table)
        return 0
    for voxel in range(len(q)):
        if taken[voxel] != FREE:
            continue
        if q[voxel] <= limit:
            taken[voxel] = number
            move_voxel(voxel, number, truth, label, table)
        elif assign_all and min(q[voxel], UNDERFLOW) < nearest[voxel]:
            nearest[voxel] = min(q[voxel], UNDERFLOW)
            move_voxel(voxel, number, truth, label, table)
    return 1


@njit(cache=True, nogil=True)
def find_exponents(position, scale, seed, q):  # type: ignore[no-untyped-def]
    """Write q = |f - f_seed|² / (2 sigma²) of every voxel."""
    q[:] = 0.0
    for axis in range(position.shape[0]):
        x = position[axis, seed]
        for voxel in range(position.shape[1]):
            offset = position[axis, voxel] - x
            q[voxel] += offset * offset
    for voxel in range(position.shape[1]):
        q[voxel] *= scale


@njit(cache=True, nogil=True)
def move_voxel(voxel, new, truth, label, table):  # type: ignore[no-untyped-def]
    """Give a voxel a new label, and keep the table of shared voxels."""
    true = truth[voxel]
    if true >= 0:
        if label[voxel] >= 0:
            table[true, label[voxel]] -= 1
        if new >= 0:
            table[true, new] += 1
    label[voxel] = new
