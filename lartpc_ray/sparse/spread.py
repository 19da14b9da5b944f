"""Spread deposits over the voxels around them, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

BRICK = 8
"""Side of the cubes of voxels that hold the image: only cubes near a deposit exist."""


@njit(cache=True, nogil=True)
def spread(
    coords: np.ndarray,
    energy: np.ndarray,
    shape: np.ndarray,
    first: np.ndarray,
    along: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread the energy of each deposit over the voxels around it.

    Args:
        coords: (deposit, 3) int64 voxels.
        energy: (deposit,) float64.
        shape: (3,) voxels of the image along each axis; energy outside is lost.
        first: shares along axis 0, the deposit in the middle.
        along: shares along the other axes.

    Returns:
        the key, the energy and the deposit of the largest share of each voxel.
    """
    low, high = _reached(coords, shape, len(first) // 2, len(along) // 2)
    corners, brick_of = _bricks(low, high, shape)
    count, volume = len(corners), BRICK**3
    total, most = np.zeros(count * volume), np.zeros(count * volume, np.float32)
    main = np.full(count * volume, -1, np.int32)
    sides = (shape + BRICK - 1) // BRICK
    for deposit in range(len(coords)):
        x, y, z = coords[deposit]
        for i in range(low[deposit, 0], high[deposit, 0]):
            of_x = energy[deposit] * first[i - x + len(first) // 2]
            for j in range(low[deposit, 1], high[deposit, 1]):
                of_y = of_x * along[j - y + len(along) // 2]
                row = ((i // BRICK) * sides[1] + j // BRICK) * sides[2]
                inside = ((i % BRICK) * BRICK + j % BRICK) * BRICK
                for k in range(low[deposit, 2], high[deposit, 2]):
                    part = of_y * along[k - z + len(along) // 2]
                    voxel = brick_of[row + k // BRICK] * volume + inside + k % BRICK
                    total[voxel] += part
                    if main[voxel] < 0 or np.float32(part) > most[voxel]:
                        main[voxel], most[voxel] = deposit, part
    used = np.flatnonzero(main >= 0)
    return _keys(used, corners, shape), total[used], main[used]


@njit(cache=True, nogil=True)
def _reached(
    coords: np.ndarray, shape: np.ndarray, first: int, along: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first voxel of the image that each deposit reaches, and the first beyond."""
    low, high = np.empty_like(coords), np.empty_like(coords)
    for axis in range(3):
        reach = along if axis else first
        low[:, axis] = np.maximum(coords[:, axis] - reach, 0)
        high[:, axis] = np.minimum(coords[:, axis] + reach + 1, shape[axis])
    return low, high


@njit(cache=True, nogil=True)
def _bricks(low: np.ndarray, high: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first voxel (brick, 3) of each brick with a voxel, and each brick's number."""
    sides = (shape + BRICK - 1) // BRICK
    number = np.full(sides.prod(), -1, np.int32)
    corners = np.empty((len(number), 3), np.int32)
    count = 0
    for deposit in range(len(low)):
        start, end = low[deposit] // BRICK, (high[deposit] - 1) // BRICK + 1
        for i in range(start[0], end[0]):
            for j in range(start[1], end[1]):
                for k in range(start[2], end[2]):
                    place = (i * sides[1] + j) * sides[2] + k
                    if number[place] < 0:
                        corners[count, 0], corners[count, 1] = i * BRICK, j * BRICK
                        corners[count, 2] = k * BRICK
                        number[place] = count
                        count += 1
    return corners[:count], number


@njit(cache=True, nogil=True)
def _keys(voxels: np.ndarray, corners: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the key in the image of voxels that are numbered brick by brick."""
    keys = np.empty(len(voxels), np.int64)
    for index in range(len(voxels)):
        brick, inside = divmod(voxels[index], BRICK**3)
        i = corners[brick, 0] + inside // BRICK**2
        j = corners[brick, 1] + inside // BRICK % BRICK
        keys[index] = (i * shape[1] + j) * shape[2] + corners[brick, 2] + inside % BRICK
    return keys
