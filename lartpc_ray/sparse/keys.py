"""One integer per voxel of a batch of images, for numpy arrays and torch tensors alike."""

from __future__ import annotations

from math import prod
from typing import TypeVar

import numpy as np
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def key_strides(shape: tuple[int, ...], margin: int = 0) -> list[int]:
    """Return the difference of the keys of two neighbours along each axis; the last one is 1."""
    sides = [side + 2 * margin for side in shape]
    return [prod(sides[axis + 1 :]) for axis in range(len(sides))]


def voxel_keys(
    coords: Array, shape: tuple[int, ...], event: Array | int = 0, *, margin: int = 0
) -> Array:
    """Return keys that ascend with the event, then with the first axis, and so on.

    Args:
        coords: (voxel, axis) int64.
        shape: of the image.
        event: (voxel,) int64, the event of each voxel.
        margin: voxels around the image; with 1 the key of a neighbour never wraps round.

    Example:
        >>> voxel_keys(np.array([[0, 2], [1, 0]]), (2, 3)).tolist()
        [2, 3]
    """
    strides = key_strides(shape, margin)
    keys = coords[:, -1] + margin + event * (strides[0] * (shape[0] + 2 * margin))
    for axis, stride in enumerate(strides[:-1]):
        keys = keys + (coords[:, axis] + margin) * stride
    return keys
