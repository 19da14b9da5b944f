"""Network outputs -> clusters: the greedy algorithm of Koh et al. 2020, section II.C."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int
from numba import njit

Position = Float[np.ndarray, "voxel axis"]
PerVoxel = Float[np.ndarray, " voxel"]
Labels = Int[np.ndarray, " voxel"]

SMALLEST_MARGIN = 1e-100
"""Below this margin 1 / sigma² overflows."""


def cluster(
    position: Position, margin: PerVoxel, seediness: PerVoxel, s0: float, p0: float
) -> Labels:
    """Cluster the voxels of one class of one event.

    Seeds are taken by decreasing seediness (ties: the lowest index) among the voxels that no
    earlier seed reaches with p > p0, until the best remaining seediness is below s0. A seed i has
    the kernel p_j = exp(-|f_j - f_i|² / (2 sigma_i²)); every voxel joins the seed of highest p
    (ties: the earliest). The test p > p0 compares |f_j - f_i|² / (2 sigma_i²) with -log p0, so
    nothing underflows.

    Args:
        position: embedding position; the image spans -1 to 1.
        margin: kernel width sigma, above 0.
        seediness: 0 to 1.
        s0: seediness below which no seed is taken, 0 to 1.
        p0: probability above which a voxel cannot become a seed, 0 to 1.

    Returns:
        labels (voxel,) counted from 0 in the order of the seeds; -1 everywhere without a seed.

    Raises:
        ValueError: for NaN, a margin that is not above 0, sizes that differ, thresholds outside
            [0, 1].

    Example:
        >>> position = np.array([[0.0], [0.1], [5.0]])
        >>> cluster(position, np.ones(3), np.array([0.9, 0.5, 0.8]), 0.5, 0.5)
        array([0, 0, 1])
    """
    labels, _ = _grow(*checked(position, margin, seediness), s0, p0)
    return np.asarray(labels)


def seeds(
    position: Position, margin: PerVoxel, seediness: PerVoxel, p0: float
) -> Int[np.ndarray, " seed"]:
    """Return the seed voxels for s0 = 0, in the order in which they are taken.

    A higher s0 takes the first of them: those with at least that seediness.
    """
    _, chosen = _grow(*checked(position, margin, seediness), 0.0, p0)
    return np.asarray(chosen)


def _grow(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray, s0: float, p0: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and the seeds."""
    check_threshold("s0", s0)
    check_threshold("p0", p0)
    order = np.argsort(-seediness, kind="stable")
    order = order[: np.count_nonzero(seediness >= s0)]
    columns, scale = np.ascontiguousarray(position.T), 0.5 / (margin * margin)
    labels, chosen = _take_seeds(columns, scale, order, exponent_limit(p0))
    return labels, chosen


@njit(cache=True, nogil=True)
def _take_seeds(position, scale, order, limit):  # type: ignore[no-untyped-def]
    """Take the seeds in `order`; q is added axis by axis as in sweep.py, to the same bits."""
    axes, count = position.shape
    labels = np.full(count, -1, np.int64)
    nearest, q = np.full(count, np.inf), np.empty(count)
    chosen = np.empty(len(order), np.int64)
    seeds = 0
    for seed in order:
        if nearest[seed] < limit:
            continue
        q[:] = 0.0
        for axis in range(axes):
            x = position[axis, seed]
            for voxel in range(count):
                side = position[axis, voxel] - x
                q[voxel] += side * side
        for voxel in range(count):
            value = q[voxel] * scale[seed]
            if value < nearest[voxel]:
                nearest[voxel] = value
                labels[voxel] = seeds
        chosen[seeds] = seed
        seeds += 1
    return labels, chosen[:seeds]


def exponent_limit(p0: float) -> float:
    """Return -log p0: p > p0 exactly where the exponent q is below it; infinite for p0 = 0."""
    return float("inf") if p0 == 0 else -float(np.log(p0))


def checked(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three outputs as float64; raise a ValueError that explains a wrong one."""
    position = np.asarray(position, np.float64)
    margin = np.asarray(margin, np.float64)
    seediness = np.asarray(seediness, np.float64)
    if position.ndim != 2 or not len(position) == len(margin) == len(seediness):
        sizes = f"{position.shape}, {margin.shape}, {seediness.shape}"
        raise ValueError(f"position, margin, seediness have shapes {sizes}: one row per voxel")
    for name, values in (("position", position), ("margin", margin), ("seediness", seediness)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinity; did the training diverge?")
    if (margin < SMALLEST_MARGIN).any():
        raise ValueError(f"margin {margin.min()}: must be above 0 (at least {SMALLEST_MARGIN})")
    return position, margin, seediness


def check_threshold(name: str, value: float) -> None:
    """Refuse a threshold outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value}: must be from 0 to 1")


def distinct(every: Iterable[Labels]) -> tuple[list[Labels], Int[np.ndarray, " given"]]:
    """Return the labels that differ, and for each given ones the number of those equal to them.

    Args:
        every: labels of the same voxels.

    Example:
        >>> labels, numbers = distinct([np.array([0, 1]), np.array([0, 0]), np.array([0, 1])])
        >>> len(labels), numbers
        (2, array([0, 1, 0]))
    """
    numbers: dict[bytes, int] = {}
    kept: list[Labels] = []
    of_given = []
    for labels in every:
        number = numbers.setdefault(labels.tobytes(), len(numbers))
        kept += [labels] if number == len(kept) else []
        of_given.append(number)
    return kept, np.array(of_given)
