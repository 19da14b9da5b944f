"""A walk along sorted keys, compiled: on a CPU faster than torch's searches (docs/notes.md)."""

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
