"""The native engine's tables on a CPU, compiled: faster than torch's searches (docs/notes.md).

Sites are sorted by their keys, so one pass along the keys finds the neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Int
from numba import njit

Steps = tuple[int, ...]
"""Steps along all axes but the last."""


def offset_rows(axes: int) -> list[Steps]:
    """Return the steps of half of the neighbours: those after the voxel itself."""
    zero = (0,) * (axes - 1)
    return [steps for steps in product((-1, 0, 1), repeat=axes - 1) if steps >= zero]


def neighbours(
    keys: np.ndarray, strides: Sequence[int], row: Steps
) -> list[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """Find the neighbours that differ by the steps of a row and by -1, 0 or 1 on the last axis.

    Args:
        keys: ascending and distinct; strides[axis] apart for a step along an axis.
        strides: of all axes; the last one is 1.
        row: one of `offset_rows`; (0, ..., 0) gives only the neighbour after the voxel itself.

    Returns:
        offset, the index of each neighbour (int32), and the index of its voxel.
    """
    distance = sum(step * stride for step, stride in zip(row, strides[:-1], strict=True))
    three = zip((-1, 0, 1), _around(keys, distance), strict=True)
    return [((*row, step), *pair) for step, pair in three if any(row) or step > 0]


@njit(cache=True, nogil=True)
def _around(keys: np.ndarray, distance: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return all (other, voxel) with keys[other] = keys[voxel] + distance - 1, + 0 and + 1.

    Both sides ascend, so one pass finds all.
    """
    count = len(keys)
    others, voxels = np.empty((3, count), np.int32), np.empty((3, count), np.int32)
    pairs = np.zeros(3, np.int64)
    ahead = 0
    for voxel in range(count):
        least = keys[voxel] + distance - 1
        while ahead < count and keys[ahead] < least:
            ahead += 1
        for other in range(ahead, min(ahead + 3, count)):
            step = keys[other] - least
            if step <= 2 and pairs[step] < count:
                others[step, pairs[step]], voxels[step, pairs[step]] = other, voxel
                pairs[step] += 1
    return [
        (others[step, : pairs[step]].copy(), voxels[step, : pairs[step]].copy())
        for step in range(3)
    ]


def coarsen(
    coords: Int[np.ndarray, "site axis"], event: Int[np.ndarray, " site"], strides: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the sites of half the resolution, sorted by their keys.

    Args:
        coords, event: of the fine sites.
        strides: of the coarse sites' keys; the stride of an event comes first.

    Returns:
        coords and event of the coarse sites; (site,) the slot of each fine site in its parent:
        parent · 2^D + corner, corners count the first axis fastest.
    """
    keys = _half_keys(coords, event, np.array(strides))
    return _group(coords, event, keys, np.argsort(keys, kind="stable"))


@njit(cache=True, nogil=True)
def _half_keys(coords: np.ndarray, event: np.ndarray, strides: np.ndarray) -> np.ndarray:
    keys = np.empty(len(event), np.int64)  # compiled: `voxel_keys` would copy all halves first
    for site in range(len(event)):
        key = event[site] * strides[0]
        for axis in range(coords.shape[1]):
            key += ((coords[site, axis] >> 1) + 1) * strides[axis + 1]
        keys[site] = key
    return keys


@njit(cache=True, nogil=True)
def _group(
    coords: np.ndarray, event: np.ndarray, keys: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sites, axes = coords.shape
    coarse, of_event = np.empty_like(coords), np.empty_like(event)
    slot = np.empty(sites, np.int64)
    parent = -1
    for rank in range(sites):
        site = order[rank]
        if rank == 0 or keys[site] != keys[order[rank - 1]]:
            parent += 1
            of_event[parent] = event[site]
            for axis in range(axes):
                coarse[parent, axis] = coords[site, axis] >> 1
        corner = 0
        for axis in range(axes):
            corner |= (coords[site, axis] & 1) << axis
        slot[site] = (parent << axes) + corner
    return coarse[: parent + 1].copy(), of_event[: parent + 1].copy(), slot


@njit(cache=True, nogil=True)
def by_corner(slot: np.ndarray, corners: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the fine sites and their parents (int32) corner by corner, and their number in each.

    `slot` comes from `coarsen`; sites and parents ascend within a corner.
    """
    sizes = np.zeros(corners, np.int64)
    for number in slot:
        sizes[number % corners] += 1
    free = np.cumsum(sizes) - sizes
    sites, parents = np.empty(len(slot), np.int32), np.empty(len(slot), np.int32)
    for site, number in enumerate(slot):
        corner = number % corners
        sites[free[corner]], parents[free[corner]] = site, number // corners
        free[corner] += 1
    return sites, parents, sizes
