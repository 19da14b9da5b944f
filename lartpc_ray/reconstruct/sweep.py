"""All thresholds at once: the metrics of every (s0, p0) of a grid, exactly.

s0 only cuts the list of seeds, a kernel depends on its seed alone, and labels are a running
arg-max. So one pass over the seeds for each p0 gives the whole s0 axis: the table of shared voxels
is updated as voxels move, and read whenever the next seed falls below the next s0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from numba import njit

from lartpc_ray.metrics.clustering import SCORES, table_scores, true_index
from lartpc_ray.reconstruct.clusters import check_threshold, checked, exponent_limit, seeds

BLOCK = 64
"""Voxels that a seed passes over at once."""


def sweep(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    truth: Integer[np.ndarray, " voxel"],
    s0: Float[np.ndarray, " s0"],
    p0: Float[np.ndarray, " p0"],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = SCORES,
) -> dict[str, Float[np.ndarray, "s0 p0"]]:
    """What `clusters.cluster` would score at every point of a grid of thresholds.

    Args:
        position, margin, seediness: of the voxels of one class of one event.
        truth: (voxel,) true cluster, -1 none; such voxels may be seeds but are not scored.
        s0, p0: ascending values from 0 to 1.
        min_voxels: true clusters with fewer voxels are not scored.
        metrics: which of `ari`, `purity`, `efficiency`, `sbd`, `ami` and `n_clusters`; `ami` costs
            more than all others together.

    Returns:
        metric to (len(s0), len(p0)); NaN where there is nothing to measure (see
        `metrics.clustering.scores`).

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
    order = np.argsort(-seediness, kind="stable")
    columns = np.ascontiguousarray(position.T)
    if len(seediness) > BLOCK:
        curve = _along_curve(columns)
        place = np.empty_like(curve)
        place[curve] = np.arange(len(curve))
        order = place[order]
        columns, margin, seediness = columns[:, curve].copy(), margin[curve], seediness[curve]
        truth = np.asarray(truth)[curve]
    values = _sweep(
        columns,
        0.5 / (margin * margin),
        seediness,
        order,
        true_index(np.asarray(truth), min_voxels),
        s0,
        np.array([exponent_limit(value) for value in p0]),
        "ami" in metrics,
    )
    return {name: values[SCORES.index(name)] for name in metrics}


def sweep_exactly(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    truth: Integer[np.ndarray, " voxel"],
    p0: float,
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = SCORES,
) -> tuple[Float[np.ndarray, " step"], dict[str, Float[np.ndarray, " step"]]]:
    """The scores as a function of s0, with every step of it: no mesh can miss one.

    Between two steps nothing changes, for s0 only cuts the list of seeds: each step is at the
    seediness of a seed.

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
    only = np.array([p0])
    raw = (position, margin, seediness, truth)
    found = sweep(*raw, steps, only, min_voxels=min_voxels, metrics=metrics)
    return steps, {name: values[:, 0] for name, values in found.items()}


def _ascending(name: str, values: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, np.float64))
    for value in values:
        check_threshold(name, float(value))
    if not len(values) or (np.diff(values) <= 0).any():
        raise ValueError(f"{name} {values.tolist()}: give ascending values from 0 to 1")
    return values


@njit(cache=True, nogil=True)
def _sweep(position, scale, seediness, order, truth, s0, reach, information):  # type: ignore[no-untyped-def]
    """The scores (score, s0, p0); `order` lists the voxels by decreasing seediness.

    A column keeps 16 bytes a voxel and the table of shared voxels. Voxels lie along a curve through
    space, in blocks: a seed passes over the blocks that are too far for it to win a voxel.
    """
    count = position.shape[1]
    sizes = np.zeros(truth.max() + 1 if count else 0, np.int64)
    for voxel in range(count):
        if truth[voxel] >= 0:
            sizes[truth[voxel]] += 1
    scored = sizes.sum()
    blocks = (count + BLOCK - 1) // BLOCK
    low, high = _boxes(position, blocks)
    out = np.empty((len(SCORES), len(s0), len(reach)))
    label = np.empty(count, np.int64)
    nearest = np.empty(count)
    farthest = np.empty(blocks)
    for column in range(len(reach)):
        label[:] = -1
        nearest[:] = np.inf
        farthest[:] = np.inf
        table = np.zeros((len(sizes), 16), np.int64)
        found = 0
        last = -1
        place = 0
        for row in range(len(s0) - 1, -1, -1):
            while place < count and seediness[order[place]] >= s0[row]:
                seed = order[place]
                place += 1
                if nearest[seed] < reach[column]:
                    continue
                if found == table.shape[1]:
                    wider = np.zeros((len(sizes), 2 * found), np.int64)
                    wider[:, :found] = table
                    table = wider
                _win(
                    seed, found, position, scale, low, high, truth, nearest, farthest, label, table
                )
                found += 1
            if found == last:
                out[:, row, column] = out[:, row + 1, column]
            else:
                missed = scored if found == 0 else 0
                out[:, row, column] = table_scores(table[:, :found], sizes, missed, information)
                last = found
    return out


@njit(cache=True, nogil=True)
def _win(seed, number, position, scale, low, high, truth, nearest, farthest, label, table):  # type: ignore[no-untyped-def]
    """Give a seed, the `number`-th, the voxels that it is nearest to, and keep the table true."""
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
    """The least and greatest coordinate (axis, block) of each block of voxels."""
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
def _along_curve(position):  # type: ignore[no-untyped-def]
    """Order of the voxels along a Z curve: neighbours in space are mostly neighbours in it."""
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
