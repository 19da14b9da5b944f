"""Network outputs -> clusters: the greedy algorithm of Koh et al. 2020, section II.C."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numba import njit

SMALLEST_MARGIN = 1e-100
"""Below, 1 / sigma² is no number any more."""


def cluster(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    s0: float,
    p0: float,
) -> Int[np.ndarray, " voxel"]:
    """Cluster the voxels of one class of one event.

    Seeds are taken by decreasing seediness (ties: the lowest index) among the voxels that no
    earlier seed reaches with p > p0, until the best left is below s0. A seed i has the kernel
    p_j = exp(-|f_j - f_i|² / (2 sigma_i²)); every voxel joins the seed of highest p (ties: the
    earliest). p > p0 is decided as |f_j - f_i|² / (2 sigma_i²) < -log p0, so nothing underflows.

    Args:
        position: embedding position, image from -1 to 1.
        margin: kernel width sigma, above 0.
        seediness: 0 to 1.
        s0: seediness below which no seed is taken, 0 to 1.
        p0: probability above which a voxel is no seed any more, 0 to 1.

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
    return labels


def seeds(
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    seediness: Float[np.ndarray, " voxel"],
    p0: float,
) -> Int[np.ndarray, " seed"]:
    """The voxels that are seeds where s0 is 0, in the order they are taken.

    A higher s0 takes the first of them: those whose seediness is not below it.
    """
    _, chosen = _grow(*checked(position, margin, seediness), 0.0, p0)
    return np.array(chosen, np.int64)


def merged(
    labels: Int[np.ndarray, " voxel"],
    position: Float[np.ndarray, "voxel axis"],
    margin: Float[np.ndarray, " voxel"],
    overlap: float,
) -> Int[np.ndarray, " voxel"]:
    """Clusters whose kernels overlap made one, and what those overlap, too.

    Two kernels overlap by exp(-|mu_a - mu_b|² / (2 sigma_a sigma_b)), mu and sigma the means over
    the voxels of each cluster (Koh et al. 2020, II.3). A second seed at the rim of a large shower
    lies outside the first one's p0 and makes a cluster of its own; its kernel still covers
    much of the other's.

    Args:
        labels: counted from 0; -1 none.
        position, margin: as for `cluster`.
        overlap: above it two clusters are one, 0 to 1; with 1 nothing changes.

    Returns:
        labels counted from 0 in the order of the first cluster of each; -1 stays.

    Example:
        >>> position = np.array([[0.0], [1.0], [5.0]])
        >>> merged(np.array([0, 1, 2]), position, np.ones(3), 0.5)
        array([0, 0, 1])
    """
    check_threshold("overlap", overlap)
    if overlap == 1:
        return labels
    return np.asarray(_merged(labels, position, margin, exponent_limit(overlap)))


@njit(cache=True, nogil=True)
def _merged(
    labels: np.ndarray, position: np.ndarray, margin: np.ndarray, limit: float
) -> np.ndarray:
    count, axes = labels.max() + 1 if len(labels) else 0, position.shape[1]
    centre, width, sizes = np.zeros((count, axes)), np.zeros(count), np.zeros(count)
    for voxel, label in enumerate(labels):
        if label >= 0:
            sizes[label] += 1
            width[label] += margin[voxel]
            for axis in range(axes):
                centre[label, axis] += position[voxel, axis]
    for label in range(count):
        width[label] /= sizes[label]
        for axis in range(axes):
            centre[label, axis] /= sizes[label]
    first = np.arange(count)  # the lowest cluster that each is one with
    for one in range(count):
        for other in range(one):
            square = 0.0
            for axis in range(axes):
                square += (centre[one, axis] - centre[other, axis]) ** 2
            if square < 2 * width[one] * width[other] * limit and first[one] != first[other]:
                low = min(first[one], first[other])
                high = max(first[one], first[other])
                for label in range(one + 1):
                    if first[label] == high:
                        first[label] = low
    number = np.cumsum(first == np.arange(count)) - 1
    found = np.full(len(labels), -1, np.int64)
    for voxel, label in enumerate(labels):
        if label >= 0:
            found[voxel] = number[first[label]]
    return found


def _grow(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray, s0: float, p0: float
) -> tuple[np.ndarray, list[int]]:
    """Labels and seeds."""
    check_threshold("s0", s0)
    check_threshold("p0", p0)
    labels = np.full(len(seediness), -1, np.int64)
    nearest = np.full(len(seediness), np.inf)
    free = np.ones(len(seediness), bool)
    reach = exponent_limit(p0)
    chosen: list[int] = []
    for seed in np.argsort(-seediness, kind="stable"):
        if seediness[seed] < s0:
            break
        if not free[seed]:
            continue
        q = _exponents(position, position[seed], margin[seed])
        closer = q < nearest
        labels[closer] = len(chosen)
        nearest[closer] = q[closer]
        free &= ~(q < reach)
        free[seed] = False
        chosen.append(int(seed))
    return labels, chosen


def exponent_limit(p0: float) -> float:
    """-log p0: p > p0 exactly where q is below; infinite for p0 = 0."""
    return float("inf") if p0 == 0 else -float(np.log(p0))


def checked(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three outputs as float64, or an error that says what is wrong with them."""
    position = np.asarray(position, np.float64)
    margin = np.asarray(margin, np.float64)
    seediness = np.asarray(seediness, np.float64)
    if position.ndim != 2 or not len(position) == len(margin) == len(seediness):
        sizes = f"{position.shape}, {margin.shape}, {seediness.shape}"
        raise ValueError(f"position, margin, seediness have shapes {sizes}: one row a voxel")
    for name, values in (("position", position), ("margin", margin), ("seediness", seediness)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinity; did the training diverge?")
    if (margin < SMALLEST_MARGIN).any():
        raise ValueError(f"margin {margin.min()}: must be above 0 (at least {SMALLEST_MARGIN})")
    return position, margin, seediness


def check_threshold(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} = {value}: must be from 0 to 1")


def _exponents(position: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """q = |f - mu|² / (2 sigma²), axis after axis: the order in which sweep.py adds, too."""
    total = np.zeros(len(position))
    for axis in range(position.shape[1]):
        total += (position[:, axis] - centre[axis]) ** 2
    return total * (0.5 / (width * width))
