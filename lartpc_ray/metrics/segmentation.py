"""Scores of a classification, all from one table (true class, predicted class).

Non-zero accuracy is the share of active voxels with the right class (Dominé & Terao 2020); here
every voxel is an active one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Integer

Labels = Integer[np.ndarray, " voxel"]
Table = Int[np.ndarray, "true predicted"]


def confusion(truth: Labels, predicted: Labels, classes: int) -> Table:
    """Count the voxels by true and predicted class, without those of true class -1.

    Example:
        >>> confusion(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 0]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    known = truth >= 0
    cell = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def accuracy(table: Table) -> float:
    """Return the share of the voxels with the right class; NaN without voxels."""
    return float(_ratio(np.trace(table)[None], table.sum()[None])[0])


def class_accuracy(table: Table) -> Float[np.ndarray, " true"]:
    """Return the share of each true class with the right class; NaN for a class without voxels."""
    return _ratio(np.diag(table), table.sum(axis=1))


def f1(table: Table) -> Float[np.ndarray, " true"]:
    """Compute 2 TP / (2 TP + FP + FN) of each class; NaN if neither true nor predicted.

    Example:
        >>> f1(np.array([[1, 1], [0, 1]])).round(3).tolist()
        [0.667, 0.667]
    """
    return _ratio(2 * np.diag(table), table.sum(axis=0) + table.sum(axis=1))


def iou(table: Table) -> Float[np.ndarray, " true"]:
    """Compute the intersection over union, TP / (TP + FP + FN), of each class."""
    hits = np.diag(table)
    return _ratio(hits, table.sum(axis=0) + table.sum(axis=1) - hits)


def merge_classes(table: Table, groups: Int[np.ndarray, " class"]) -> Table:
    """Merge classes of a table; `groups` gives the new class of each (SparseSSNet: 5 -> 2).

    Example:
        >>> merge_classes(np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), np.array([0, 0, 1])).tolist()
        [[12, 9], [15, 9]]
    """
    into = np.eye(int(groups.max()) + 1, dtype=table.dtype)[groups]
    fewer: np.ndarray = into.T @ table @ into
    return fewer


def boundary_distance(
    coords: Integer[np.ndarray, "voxel axis"], shape: tuple[int, ...]
) -> Int[np.ndarray, " voxel"]:
    """Count the voxels between each voxel and the nearest face of the image; 0 on the face.

    Example:
        >>> boundary_distance(np.array([[0, 5], [4, 5], [2, 8]]), (10, 10)).tolist()
        [0, 4, 1]
    """
    far = np.array(shape) - 1 - coords
    nearest: np.ndarray = np.minimum(coords, far).min(axis=1)
    return nearest.astype(np.int64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " ratio"]:
    """Return `part` / `whole`, NaN where the whole is 0."""
    ratio: np.ndarray = part / np.where(whole, whole, np.nan)
    return ratio
