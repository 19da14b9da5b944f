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

from lartpc_ray.metrics.clustering import SCORES, table_scores, true_index
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
        position: embedding position, image from -1 to 1.
        margin: kernel width sigma, above 0; at least 1e-6 is used.
        seediness: 0 to 1.
        s0: seediness below which no seed is taken, 0 to 1.
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
    position, margin, seediness = checked(position, margin, seediness)
    check_threshold("s0", s0)
    check_threshold("p0", p0)
    taken = np.full(len(seediness), FREE, np.int64)
    nearest, best = np.full(len(seediness), np.inf), np.full(len(seediness), -1, np.int64)
    accepted = 0
    if len(seediness) < min_size:
        return taken
    for seed in np.argsort(-seediness, kind="stable"):
        if seediness[seed] < s0:
            break
        if taken[seed] != FREE:
            continue
        offsets = position - position[seed]
        q = (offsets**2).sum(axis=1) * _scale(margin[seed])
        members = (taken == FREE) & (q <= member_limit(p0))
        if members.sum() < min_size:
            taken[seed] = RETIRED
            continue
        taken[members] = accepted
        q = np.minimum(q, UNDERFLOW)
        best[q < nearest] = accepted
        nearest = np.minimum(nearest, q)
        accepted += 1
    free = taken == FREE
    taken[free] = best[free] if assign_all else -1
    return np.maximum(taken, -1)


def member_limit(p0: float) -> float:
    """Return the largest q = -log p of a member: p >= p0 in float32, in which SPINE computes.

    A p that rounds to p0 is a member too, which matters for p0 = 1.
    """
    rounded = np.float32(p0)
    if rounded == 0:
        return float("inf")
    below = np.nextafter(rounded, np.float32(0))
    return -float(np.log((float(rounded) + float(below)) / 2))


def _scale(margin: float) -> float:
    return 0.5 / max(margin, SMALLEST_WIDTH) ** 2


def sweep_first_come(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    truth: Integer[np.ndarray, " voxel"],
    s0: Float[np.ndarray, " s0"],
    p0: Float[np.ndarray, " p0"],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = SCORES,
    min_size: int = 2,
    assign_all: bool = True,
) -> dict[str, Float[np.ndarray, "s0 p0"]]:
    """Score `cluster_first_come` at every point of a grid of thresholds, exactly.

    Args:
        position, margin, seediness: of the voxels of one class of one event.
        truth: (voxel,) true cluster, -1 none.
        s0, p0: ascending values from 0 to 1.
        min_voxels: true clusters with fewer voxels are not scored.
        metrics: as for `sweep.sweep`.
        min_size, assign_all: as for `cluster_first_come`.

    Returns:
        metric to (len(s0), len(p0)); NaN if there is nothing to measure.

    Raises:
        ValueError: as `sweep.sweep`.

    Example:
        >>> point = np.array([[0.0], [0.1], [5.0]])
        >>> grid = sweep_first_come(point, np.ones(3), np.array([0.9, 0.5, 0.8]),
        ...     np.array([0, 0, 1]), np.array([0.5, 1.0]), np.array([0.5]))
        >>> grid["n_clusters"][:, 0].tolist()
        [1.0, 0.0]
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
    count = position.shape[1]
    sizes = np.zeros(truth.max() + 1 if count else 0, np.int64)
    for voxel in range(count):
        if truth[voxel] >= 0:
            sizes[truth[voxel]] += 1
    scores = np.empty((len(SCORES), len(s0), len(limits)))
    taken = np.empty(count, np.int64)
    label = np.empty(count, np.int64)
    nearest = np.empty(count)
    q = np.empty(count)
    for column in range(len(limits)):
        taken[:] = FREE
        label[:] = -1
        nearest[:] = np.inf
        table = np.zeros((len(sizes), 16), np.int64)
        accepted = 0
        rank = 0 if count >= min_size else count
        changed = True
        for row in range(len(s0) - 1, -1, -1):
            while rank < count and seediness[order[rank]] >= s0[row]:
                seed = order[rank]
                rank += 1
                if taken[seed] != FREE:
                    continue
                changed = True
                _exponents(position, scale[seed], seed, q)
                members = 0
                for voxel in range(count):
                    members += taken[voxel] == FREE and q[voxel] <= limits[column]
                if members < min_size:
                    taken[seed] = RETIRED
                    _move(seed, -1, truth, label, table)
                    continue
                if accepted == table.shape[1]:
                    wider = np.zeros((len(sizes), 2 * accepted), np.int64)
                    wider[:, :accepted] = table
                    table = wider
                for voxel in range(count):
                    if taken[voxel] != FREE:
                        continue
                    if q[voxel] <= limits[column]:
                        taken[voxel] = accepted
                        _move(voxel, accepted, truth, label, table)
                    elif assign_all and min(q[voxel], UNDERFLOW) < nearest[voxel]:
                        nearest[voxel] = min(q[voxel], UNDERFLOW)
                        _move(voxel, accepted, truth, label, table)
                accepted += 1
            if changed:
                missed = sizes.sum() - table.sum()
                scores[:, row, column] = table_scores(
                    table[:, :accepted], sizes, missed, information
                )
            else:
                scores[:, row, column] = scores[:, row + 1, column]
            changed = False
    return scores


@njit(cache=True, nogil=True)
def _exponents(position, scale, seed, q):  # type: ignore[no-untyped-def]
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
def _move(voxel, new, truth, label, table):  # type: ignore[no-untyped-def]
    """Give a voxel a new label, and keep the table of shared voxels."""
    true = truth[voxel]
    if true >= 0:
        if label[voxel] >= 0:
            table[true, label[voxel]] -= 1
        if new >= 0:
            table[true, new] += 1
    label[voxel] = new
