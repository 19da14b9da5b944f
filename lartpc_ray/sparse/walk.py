"""Walks along sorted keys, compiled: on a CPU faster than the searches of torch (docs/notes.md)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def merge(keys: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """All (other, one) of ascending keys with keys[other] = keys[one] + distance.

    Both sides ascend, so one walk along them finds all.
    """
    count = len(keys)
    other, one = np.empty(count, np.int64), np.empty(count, np.int64)
    found, ahead = 0, 0
    for here in range(count):
        wanted = keys[here] + distance
        while ahead < count and keys[ahead] < wanted:
            ahead += 1
        if ahead < count and keys[ahead] == wanted:
            other[found], one[found] = ahead, here
            found += 1
    return other[:found].copy(), one[:found].copy()


@njit(cache=True, nogil=True)
def counting_sort(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each row begins in the stable order of `rows`, and that order."""
    starts = np.zeros(count + 1, np.int64)
    for row in rows:
        starts[row + 1] += 1
    for row in range(count):
        starts[row + 1] += starts[row]
    free = starts[:-1].copy()
    order = np.empty(len(rows), np.int64)
    for place, row in enumerate(rows):
        order[free[row]] = place
        free[row] += 1
    return starts, order
