"""All thresholds at once: the metrics of every (s0, p0) of a grid, exactly.

s0 only cuts the list of seeds, a kernel depends on its seed alone, and labels are a running
arg-max. So one pass over the seeds for each p0 gives the whole s0 axis: the table of shared voxels
is updated as voxels move, and read whenever the next seed falls below the next s0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer
from numba import njit

from lartpc_ray.metrics.clustering import SCORES, table_scores, true_index
from lartpc_ray.reconstruct.clusters import check_threshold, checked, exponent_limit


def sweep(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    truth: Integer[np.ndarray, " voxel"],
    s0: Float[np.ndarray, " s0"],
    p0: Float[np.ndarray, " p0"],
    *,
    min_voxels: int = 0,
) -> dict[str, Float[np.ndarray, "s0 p0"]]:
    """What `clusters.cluster` would score at every point of a grid of thresholds.

    Args:
        position, margin, seediness: of the voxels of one class of one event.
        truth: (voxel,) true cluster, -1 none; such voxels may be seeds but are not scored.
        s0, p0: ascending values from 0 to 1.
        min_voxels: true clusters with fewer voxels are not scored.

    Returns:
        `ari`, `purity`, `efficiency`, `sbd` and `n_clusters`, each (len(s0), len(p0)); NaN where
        there is nothing to measure (see `metrics.clustering.scores`).

    Raises:
        ValueError: as `clusters.cluster`, and for thresholds that do not ascend.

    Example:
        >>> point = np.array([[0.0], [0.1], [5.0]])
        >>> grid = sweep(point, np.ones(3), np.array([0.9, 0.5, 0.8]), np.array([0, 0, 1]),
        ...     np.array([0.5, 1.0]), np.array([0.5]))
        >>> grid["ari"][:, 0].tolist(), grid["n_clusters"][:, 0].tolist()
        ([1.0, 0.0], [2.0, 0.0])
    """
    position, margin, seediness = checked(position, margin, seediness)
    if np.shape(truth) != seediness.shape:
        raise ValueError(f"truth has shape {np.shape(truth)} for {len(seediness)} voxels")
    s0, p0 = _ascending("s0", s0), _ascending("p0", p0)
    values = _sweep(
        np.ascontiguousarray(position.T),
        0.5 / (margin * margin),
        seediness,
        np.argsort(-seediness, kind="stable"),
        true_index(np.asarray(truth), min_voxels),
        s0,
        np.array([exponent_limit(value) for value in p0]),
    )
    return {name: values[place] for place, name in enumerate(SCORES)}


def _ascending(name: str, values: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, np.float64))
    for value in values:
        check_threshold(name, float(value))
    if not len(values) or (np.diff(values) <= 0).any():
        raise ValueError(f"{name} {values.tolist()}: give ascending values from 0 to 1")
    return values


@njit(cache=True, nogil=True)
def _sweep(position, scale, seediness, order, truth, s0, reach):  # type: ignore[no-untyped-def]
    axes, count = position.shape
    sizes = np.zeros(truth.max() + 1 if count else 0, np.int64)
    for voxel in range(count):
        if truth[voxel] >= 0:
            sizes[truth[voxel]] += 1
    scored = sizes.sum()
    out = np.empty((5, len(s0), len(reach)))
    for column in range(len(reach)):
        label = np.full(count, -1)
        nearest = np.full(count, np.inf)
        free = np.ones(count, np.bool_)
        table = np.zeros((len(sizes), 16), np.int64)
        found = 0
        last = -1
        place = 0
        for row in range(len(s0) - 1, -1, -1):
            while place < count and seediness[order[place]] >= s0[row]:
                seed = order[place]
                place += 1
                if not free[seed]:
                    continue
                if found == table.shape[1]:
                    wider = np.zeros((len(sizes), 2 * found), np.int64)
                    wider[:, :found] = table
                    table = wider
                for voxel in range(count):
                    q = 0.0
                    for axis in range(axes):
                        q += (position[axis, voxel] - position[axis, seed]) ** 2
                    q *= scale[seed]
                    if q < reach[column]:
                        free[voxel] = False
                    if q < nearest[voxel]:
                        nearest[voxel] = q
                        true = truth[voxel]
                        if true >= 0:
                            if label[voxel] >= 0:
                                table[true, label[voxel]] -= 1
                            table[true, found] += 1
                        label[voxel] = found
                free[seed] = False
                found += 1
            if found == last:
                out[:, row, column] = out[:, row + 1, column]
            else:
                missed = scored if found == 0 else 0
                out[:, row, column] = table_scores(table[:, :found], sizes, missed)
                last = found
    return out
