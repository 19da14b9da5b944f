"""The metrics of every (s0, p0) of a grid, exactly, from one pass per p0.

s0 only cuts the list of seeds, a kernel depends on its seed alone, and labels are a running
arg-max. So one pass over the seeds for each p0 gives the whole s0 axis: the table of shared voxels
is updated as voxels move, and scored whenever the next seed falls below the next s0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from numba import njit

from lartpc_ray.metrics.clustering import CHEAP_SCORES, SCORES, table_scores, true_index
from lartpc_ray.reconstruct.clusters import (
    PerVoxel,
    Position,
    check_threshold,
    checked,
    exponent_limit,
    seeds,
)

BLOCK = 64
"""Voxels that a seed passes over at once."""
Truth = Integer[np.ndarray, " voxel"]


def sweep(
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
    """Score `clusters.cluster` at every point of a grid of thresholds.

    Args:
        position, margin, seediness: of the voxels of one class of one event.
        truth: true cluster, -1 none; such voxels may be seeds but are not scored.
        s0, p0: ascending values from 0 to 1.
        min_voxels: true clusters with fewer voxels are not scored.
        metrics: some of `metrics.clustering.SCORES`; by default all but `ami`, which takes
            longer than all others together.

    Returns:
        metric to (len(s0), len(p0)); NaN without a value, as in `metrics.clustering.scores`.

    Raises:
        ValueError: as `clusters.cluster`, and for thresholds that do not ascend.

    Example:
        >>> point = np.array([[0.0], [0.1], [5.0]])
        >>> grid = sweep(point, np.ones(3), np.array([0.9, 0.5, 0.8]), np.array([0, 0, 1]),
        ...     np.array([0.5, 1.0]), np.array([0.5]))
        >>> grid["ari"][:, 0].tolist(), grid["n_clusters"][:, 0].tolist()
        ([1.0, 0.0], [2.0, 0.0])
    """
    voxels = _along_curve(*checked(position, margin, seediness), truth, min_voxels)
    limits = np.array([exponent_limit(value) for value in ascending("p0", p0)])
    values = _sweep(*voxels, ascending("s0", s0), limits, "ami" in metrics)
    return {name: values[SCORES.index(name)] for name in metrics}


def sweep_exactly(
    position: Position,
    margin: PerVoxel,
    seediness: PerVoxel,
    truth: Truth,
    p0: float,
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = CHEAP_SCORES,
) -> tuple[Float[np.ndarray, " step"], dict[str, Float[np.ndarray, " step"]]]:
    """Return the scores as a function of s0 with every step of it: no mesh can miss one.

    s0 only cuts the list of seeds, so the scores change only where s0 is the seediness of a seed.

    Args:
        position, margin, seediness, truth, min_voxels, metrics: as for `sweep`.
        p0: one value.

    Returns:
        ascending s0 of the steps, the last one 1, and metric to the score for an s0 above the step
        before and up to this one.

    Example:
        >>> point = np.array([[0.0], [0.1], [5.0]])
        >>> s0, grid = sweep_exactly(point, np.ones(3), np.array([0.9, 0.5, 0.8]),
        ...     np.array([0, 0, 1]), 0.5)
        >>> s0.tolist(), grid["ari"].tolist()
        ([0.8, 0.9, 1.0], [1.0, 0.0, 0.0])
    """
    chosen = seeds(position, margin, seediness, p0)
    steps = np.unique(np.asarray(seediness, np.float64)[chosen])
    if not len(steps) or steps[-1] < 1:
        steps = np.append(steps, 1.0)
    outputs = (position, margin, seediness, truth)
    grid = sweep(*outputs, steps, np.array([p0]), min_voxels=min_voxels, metrics=metrics)
    return steps, {name: values[:, 0] for name, values in grid.items()}


def ascending(name: str, values: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, np.float64))
    for value in values:
        check_threshold(name, float(value))
    if not len(values) or (np.diff(values) <= 0).any():
        raise ValueError(f"{name} {values.tolist()}: give ascending values from 0 to 1")
    return values


def _along_curve(
    position: np.ndarray,
    margin: np.ndarray,
    seediness: np.ndarray,
    truth: np.ndarray,
    min_voxels: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Truth]:
    """Return the voxels as `_sweep` reads them, along a curve through space if they are many."""
    if np.shape(truth) != seediness.shape:
        raise ValueError(f"truth has shape {np.shape(truth)} for {len(seediness)} voxels")
    order = np.argsort(-seediness, kind="stable")
    columns, truth = np.ascontiguousarray(position.T), np.asarray(truth)
    if len(seediness) > BLOCK:
        curve = _curve(columns)
        rank = np.empty_like(curve)
        rank[curve] = np.arange(len(curve))
        order, columns, truth = rank[order], columns[:, curve].copy(), truth[curve]
        margin, seediness = margin[curve], seediness[curve]
    return columns, 0.5 / (margin * margin), seediness, order, true_index(truth, min_voxels)


@njit(cache=True, nogil=True)
def _sweep(position, scale, seediness, order, truth, s0, limits, information):  # type: ignore[no-untyped-def]
    """Return the scores (score, s0, p0); `order` lists the voxels by decreasing seediness.

    Voxels lie along a curve through space, in blocks: a seed skips each block that is too far away
    for the seed to win a voxel of it.
    """
    sizes = np.zeros(truth.max() + 1 if len(truth) else 0, np.int64)
    for cluster in truth:
        if cluster >= 0:
            sizes[cluster] += 1
    low, high = _boxes(position, (len(order) + BLOCK - 1) // BLOCK)
    out = np.empty((len(SCORES), len(s0), len(limits)))
    for column in range(len(limits)):
        _sweep_s0(
            position, scale, seediness, order, truth, sizes, low, high, s0, limits[column],
            information, out[:, :, column],
        )  # fmt: skip
    return out


@njit(cache=True, nogil=True)
def _sweep_s0(  # type: ignore[no-untyped-def]
    position, scale, seediness, order, truth, sizes, low, high, s0, limit, information, out
):
    """Fill `out` (score, s0) for one p0; memory: 16 bytes per voxel and the table."""
    label = np.full(len(order), -1, np.int64)
    nearest = np.full(len(order), np.inf)
    farthest = np.full(low.shape[1], np.inf)
    table = np.zeros((len(sizes), 16), np.int64)
    clusters, scored, taken = 0, -1, 0
    for row in range(len(s0) - 1, -1, -1):
        while taken < len(order) and seediness[order[taken]] >= s0[row]:
            seed = order[taken]
            taken += 1
            if nearest[seed] < limit:
                continue
            if clusters == table.shape[1]:
                table = np.concatenate((table, np.zeros_like(table)), axis=1)
            _win(seed, clusters, position, scale, low, high, truth, nearest, farthest, label, table)
            clusters += 1
        if clusters == scored:
            out[:, row] = out[:, row + 1]
        else:
            missed = sizes.sum() if clusters == 0 else 0
            out[:, row] = table_scores(table[:, :clusters], sizes, missed, information)
            scored = clusters


@njit(cache=True, nogil=True)
def _win(seed, number, position, scale, low, high, truth, nearest, farthest, label, table):  # type: ignore[no-untyped-def]
    """Give the `number`-th seed the voxels that it is nearest to, and update the table."""
    axes, count = position.shape
    q = np.empty(BLOCK)
    for block in range(low.shape[1]):
        gap = 0.0
        for axis in range(axes):
            x = position[axis, seed]
            side = max(low[axis, block] - x, x - high[axis, block], 0.0)
            gap += side * side
        if gap * scale[seed] >= farthest[block]:
            continue
        start = block * BLOCK
        width = min(BLOCK, count - start)
        q[:] = 0.0
        for axis in range(axes):
            x = position[axis, seed]
            for near in range(width):
                side = position[axis, start + near] - x
                q[near] += side * side
        most = 0.0
        for near in range(width):
            voxel = start + near
            value = q[near] * scale[seed]
            if value < nearest[voxel]:
                nearest[voxel] = value
                true = truth[voxel]
                if true >= 0:
                    if label[voxel] >= 0:
                        table[true, label[voxel]] -= 1
                    table[true, number] += 1
                label[voxel] = number
            most = max(most, nearest[voxel])
        farthest[block] = most


@njit(cache=True, nogil=True)
def _boxes(position, blocks):  # type: ignore[no-untyped-def]
    """Return the least and the greatest coordinate (axis, block) of each block of voxels."""
    axes, count = position.shape
    low = np.full((axes, blocks), np.inf)
    high = np.full((axes, blocks), -np.inf)
    for axis in range(axes):
        for voxel in range(count):
            block = voxel // BLOCK
            low[axis, block] = min(low[axis, block], position[axis, voxel])
            high[axis, block] = max(high[axis, block], position[axis, voxel])
    return low, high


@njit(cache=True, nogil=True)
def _curve(position):  # type: ignore[no-untyped-def]
    """Return the order of the voxels along a Z curve, which keeps near voxels mostly together."""
    axes, count = position.shape
    levels = min(60 // axes, 16)
    code = np.zeros(count, np.int64)
    for axis in range(axes):
        least = position[axis].min()
        extent = position[axis].max() - least
        for voxel in range(count):
            share = (position[axis, voxel] - least) / extent if extent > 0 else 0.0
            cell = int(share * ((1 << levels) - 1))
            for level in range(levels):
                code[voxel] |= ((cell >> level) & 1) << (level * axes + axis)
    return np.argsort(code, kind="mergesort")
