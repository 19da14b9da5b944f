"""The native engine's tables on a CPU, compiled: faster than torch's searches (docs/notes.md).

Sites are sorted by their keys, so neighbours are found by walking along them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Int
from numba import njit

Lead = tuple[int, ...]
"""Steps along all axes but the last."""


def offset_rows(axes: int) -> list[Lead]:
    """Of half of the neighbours: those after the voxel itself."""
    zero = (0,) * (axes - 1)
    return [lead for lead in product((-1, 0, 1), repeat=axes - 1) if lead >= zero]


def neighbours(
    keys: np.ndarray, strides: Sequence[int], lead: Lead
) -> list[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """The neighbours that differ by a lead, and by -1, 0 or 1 along the last axis.

    Args:
        keys: ascending, each once; strides[axis] apart for a step along an axis.
        strides: of all axes; the last one is 1.
        lead: one of `offset_rows`; with (0, ..., 0) only what comes after the
            voxel itself is found.

    Returns:
        offset, the places of the neighbours (int32), and of those whose neighbours they are.
    """
    distance = sum(step * stride for step, stride in zip(lead, strides[:-1], strict=True))
    three = zip((-1, 0, 1), _around(keys, distance), strict=True)
    return [((*lead, step), *pair) for step, pair in three if any(lead) or step > 0]


@njit(cache=True, nogil=True)
def _around(keys: np.ndarray, distance: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """All (other, one) with keys[other] = keys[one] + distance - 1, + 0 and + 1.

    Both sides ascend, so one walk along them finds all.
    """
    count = len(keys)
    other, one = np.empty((3, count), np.int32), np.empty((3, count), np.int32)
    found = np.zeros(3, np.int64)
    ahead = 0
    for here in range(count):
        least = keys[here] + distance - 1
        while ahead < count and keys[ahead] < least:
            ahead += 1
        for near in range(ahead, min(ahead + 3, count)):
            step = keys[near] - least
            if step <= 2 and found[step] < count:
                other[step, found[step]], one[step, found[step]] = near, here
                found[step] += 1
    return [
        (other[step, : found[step]].copy(), one[step, : found[step]].copy()) for step in range(3)
    ]


def coarsen(
    coords: Int[np.ndarray, "site axis"], event: Int[np.ndarray, " site"], strides: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sites of half the resolution, sorted by their keys.

    Args:
        coords, event: of the fine sites.
        strides: of the coarse sites' keys, that of an event first.

    Returns:
        coords and event of the coarse sites; (site,) the place of each fine one in its parent:
        parent · 2^D + corner, corners count the first axis fastest.
    """
    keys = _half_keys(coords, event, np.array(strides))
    return _grouped(coords, event, keys, np.argsort(keys, kind="stable"))


@njit(cache=True, nogil=True)
def _half_keys(coords: np.ndarray, event: np.ndarray, strides: np.ndarray) -> np.ndarray:
    keys = np.empty(len(event), np.int64)
    for site in range(len(event)):
        key = event[site] * strides[0]
        for axis in range(coords.shape[1]):
            key += ((coords[site, axis] >> 1) + 1) * strides[axis + 1]
        keys[site] = key
    return keys


@njit(cache=True, nogil=True)
def _grouped(
    coords: np.ndarray, event: np.ndarray, keys: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sites, axes = coords.shape
    coarse, of_event = np.empty_like(coords), np.empty_like(event)
    slot = np.empty(sites, np.int64)
    parent = -1
    for place in range(sites):
        site = order[place]
        if place == 0 or keys[site] != keys[order[place - 1]]:
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
    """The fine sites and their parents (int32) corner by corner, and how many each has.

    `slot` is that of `coarsen`; both sites and parents ascend within a corner.
    """
    sizes = np.zeros(corners, np.int64)
    for place in slot:
        sizes[place % corners] += 1
    free = np.cumsum(sizes) - sizes
    site, parent = np.empty(len(slot), np.int32), np.empty(len(slot), np.int32)
    for here, place in enumerate(slot):
        corner = place % corners
        site[free[corner]], parent[free[corner]] = here, place // corners
        free[corner] += 1
    return site, parent, sizes
