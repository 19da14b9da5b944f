"""How well predicted clusters are the true ones: ARI, AMI, purity, efficiency, SBD.

All come from one table n (true cluster, predicted cluster) of shared voxels. A predicted label
-1 means that no cluster was found: such voxels are in no predicted cluster (for ARI and AMI each
counts as one of its own, so that finding nothing is never rewarded). Voxels whose true label is -1
are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numba import njit

Labels = Integer[np.ndarray, " voxel"]

SCORES = ("ari", "purity", "efficiency", "sbd", "ami", "n_clusters")
"""The order in which `table_scores` gives them."""
SMALLEST = float(np.finfo(np.float64).eps)
RARE = 1e-18
"""Probabilities so much below the likeliest do not change a float64 sum."""


def ari(truth: Labels, predicted: Labels) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985), equal to scikit-learn's.

    1 for the same clusters; about 0 for random ones, and 0 wherever one side is a single cluster
    and the other is not.

    Example:
        >>> ari(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
        1.0
    """
    return scores(truth, predicted)["ari"]


def ami(truth: Labels, predicted: Labels) -> float:
    """Adjusted mutual information (Vinh et al. 2010), arithmetic mean, equal to scikit-learn's.

    Example:
        >>> round(ami(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 2])), 4)
        0.5024
    """
    return scores(truth, predicted)["ami"]


def purity(truth: Labels, predicted: Labels) -> float:
    """Mean over predicted clusters of the largest share that one true cluster has (Koh III.1).

    Raises:
        ValueError: where there is no predicted or no true cluster.

    Example:
        >>> purity(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        0.8333333333333333
    """
    return scores(truth, predicted)["purity"]


def efficiency(truth: Labels, predicted: Labels) -> float:
    """Mean over true clusters of the largest share that one predicted cluster has (Koh III.2).

    Example:
        >>> efficiency(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        0.75
    """
    return scores(truth, predicted)["efficiency"]


def sbd(truth: Labels, predicted: Labels) -> float:
    """Symmetric best Dice: the smaller of both mean best Dice scores (Scharr et al. 2016).

    Example:
        >>> round(sbd(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 4)
        0.7333
    """
    return scores(truth, predicted)["sbd"]


def scores(
    truth: Labels, predicted: Labels, *, min_voxels: int = 0, metrics: Sequence[str] = SCORES
) -> dict[str, float]:
    """Many metrics at once; `n_clusters` counts the predicted clusters.

    Args:
        truth: (voxel,) true cluster, -1 none.
        predicted: (voxel,) predicted cluster, -1 none found.
        min_voxels: true clusters with fewer voxels are left out.
        metrics: which of them; `ami` costs more than all others together.

    Returns:
        metric to value; NaN where there is nothing to measure (no true cluster is left; purity
        without a predicted cluster).

    Raises:
        ValueError: for labels of different sizes.
    """
    values = many_scores(truth, [predicted], min_voxels=min_voxels, metrics=metrics)
    return {name: float(each[0]) for name, each in values.items()}


def many_scores(
    truth: Labels,
    predictions: Iterable[Labels],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = SCORES,
) -> dict[str, Float[np.ndarray, " prediction"]]:
    """As `scores`, of many predictions for the same truth."""
    index = true_index(truth, min_voxels)
    rows = [_scores(truth, index, predicted, "ami" in metrics) for predicted in predictions]
    values = np.array(rows).reshape(-1, len(SCORES))
    return {name: values[:, SCORES.index(name)] for name in metrics}


def _scores(
    truth: Labels, index: Labels, predicted: Labels, information: bool
) -> Float[np.ndarray, " score"]:
    table, missed = _contingency(truth, index, predicted)
    return np.asarray(table_scores(table, table.sum(axis=1) + missed, missed.sum(), information))


def _contingency(
    truth: Labels, index: Labels, predicted: Labels
) -> tuple[Int[np.ndarray, "true predicted"], Int[np.ndarray, " true"]]:
    """`_shared` of any labels."""
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"truth has shape {truth.shape}, predicted {predicted.shape}: one label each"
        )
    if predicted.max(initial=-1) >= len(predicted):  # names, not numbers counted from 0
        names, place = np.unique(np.maximum(predicted, -1), return_inverse=True)
        predicted = place - int(names[0] < 0)
    shared: tuple[np.ndarray, np.ndarray] = _shared(index, predicted)
    return shared


PART = 0.1
"""Share of a cluster's voxels that is not overlooked."""


def true_cluster_outcomes(
    truth: Labels, predicted: Labels, *, min_voxels: int = 0
) -> dict[str, Bool[np.ndarray, " true"]]:
    """What became of each true cluster, in the order of `true_index`.

    A predicted cluster has a part of a true one if it has a tenth of its voxels. A true cluster may
    be both split and merged.

    Args:
        truth, predicted, min_voxels: as for `scores`.

    Returns:
        `split`: several predicted clusters have parts of it, or all pieces are smaller than a part;
        `merged`: of a predicted cluster that has a part of it a tenth of the voxels are of other
        true clusters that are not left out; `missed`: not a tenth of it is in predicted clusters;
        `right`: none of these.
    """
    table, missed = _contingency(truth, true_index(truth, min_voxels), predicted)
    sizes = table.sum(axis=1) + missed
    part = (table > 0) & (table >= PART * sizes[:, None])
    merged = (part & (table <= (1 - PART) * table.sum(axis=0))).any(axis=1)
    parts, unseen = part.sum(axis=1), table.sum(axis=1) < PART * sizes
    return {
        "right": (parts == 1) & ~merged,
        "split": (parts != 1) & ~unseen,
        "merged": merged,
        "missed": unseen,
    }


def mistakes(truth: Labels, predicted: Labels, *, min_voxels: int = 0) -> dict[str, float]:
    """The shares of the true clusters that have each of the `fates`; empty without any.

    Example:
        >>> mistakes(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
        {'right': 0.0, 'split': 0.5, 'merged': 1.0, 'missed': 0.0}
    """
    found = true_cluster_outcomes(truth, predicted, min_voxels=min_voxels)
    return {name: float(which.mean()) for name, which in found.items() if len(which)}


def true_index(truth: Labels, min_voxels: int) -> Int[np.ndarray, " voxel"]:
    """True clusters counted from 0; -1 for voxels of none or of one with too few voxels."""
    names, place, sizes = np.unique(truth, return_inverse=True, return_counts=True)
    good = (names >= 0) & (sizes >= min_voxels)
    number = np.where(good, np.cumsum(good) - 1, -1)
    return number[place].astype(np.int64)


@njit(cache=True, nogil=True)
def _shared(
    index: Labels, predicted: Labels
) -> tuple[Int[np.ndarray, "true predicted"], Int[np.ndarray, " true"]]:
    """Voxels shared by each true and predicted cluster, and the voxels of each true in none."""
    rows, columns = 0, 0
    for voxel in range(len(index)):
        if index[voxel] >= 0:
            rows = max(rows, index[voxel] + 1)
            columns = max(columns, predicted[voxel] + 1)
    table = np.zeros((rows, columns), np.int64)
    missed = np.zeros(rows, np.int64)
    for voxel in range(len(index)):
        if index[voxel] >= 0:
            if predicted[voxel] >= 0:
                table[index[voxel], predicted[voxel]] += 1
            else:
                missed[index[voxel]] += 1
    return table, missed


@njit(cache=True, nogil=True)
def table_scores(
    table: Int[np.ndarray, "true predicted"],
    sizes: Int[np.ndarray, " true"],
    missed: int,
    information: bool,
) -> Float[np.ndarray, " score"]:
    """All of `SCORES` of one table.

    Args:
        table: voxels shared by each true and predicted cluster; predicted ones may be empty.
        sizes: voxels of each true cluster, those in no predicted cluster included.
        missed: voxels that are in no predicted cluster.
        information: compute AMI, which costs more than all others; else it is NaN.
    """
    out = np.full(6, np.nan)
    count = sizes.sum()
    if count == 0:
        return out
    best = np.zeros(len(sizes))
    dice_true = np.zeros(len(sizes))
    purities = 0.0
    dice_predicted = 0.0
    clusters = 0
    together = 0
    squares = missed
    for j in range(table.shape[1]):
        size = table[:, j].sum()
        if size == 0:
            continue
        clusters += 1
        squares += size * size
        largest = 0
        dice_j = 0.0
        for i in range(len(sizes)):
            shared = table[i, j]
            if shared == 0:
                continue
            together += shared * shared
            largest = max(largest, shared)
            best[i] = max(best[i], shared / sizes[i])
            dice = 2.0 * shared / (sizes[i] + size)
            dice_j = max(dice_j, dice)
            dice_true[i] = max(dice_true[i], dice)
        purities += largest / size
        dice_predicted += dice_j
    out[0] = _ari(count, together + missed, (sizes * sizes).sum(), squares)
    if clusters > 0:
        out[1] = purities / clusters
    out[2] = best.mean()
    out[3] = min(dice_true.mean(), dice_predicted / clusters) if clusters > 0 else 0.0
    if information:
        out[4] = _ami(table, sizes, missed)
    out[5] = clusters
    return out


@njit(cache=True, nogil=True)
def _ari(count: int, together: int, true_squares: int, predicted_squares: int) -> float:
    """ARI from sums of squares: of the table, its row sums and its column sums.

    Pairs of voxels are counted both ways round: together in both, in truth only, in the prediction
    only, in neither (as scikit-learn's pair confusion matrix).
    """
    both = float(together - count)
    truth_only = float(true_squares - together)
    predicted_only = float(predicted_squares - together)
    neither = float(count) * count - count - both - truth_only - predicted_only
    if truth_only == 0 and predicted_only == 0:
        return 1.0
    top = 2.0 * (both * neither - truth_only * predicted_only)
    return top / (
        (both + truth_only) * (truth_only + neither)
        + (both + predicted_only) * (predicted_only + neither)
    )


@njit(cache=True, nogil=True)
def _ami(table: Int[np.ndarray, "true predicted"], sizes: Labels, missed: int) -> float:
    """(MI - E[MI]) / ((H(true) + H(predicted)) / 2 - E[MI]); a missed voxel is a cluster of one."""
    count = sizes.sum()
    others = np.zeros(count + 1, np.int64)
    others[1] = missed
    shared = 0.0
    left = sizes.copy()
    for j in range(table.shape[1]):
        size = table[:, j].sum()
        others[size] += size > 0
        for i in range(len(sizes)):
            n = table[i, j]
            if n > 0:
                left[i] -= n
                shared += n / count * np.log(count * n / (sizes[i] * size))
    for i in range(len(sizes)):
        shared += left[i] / count * np.log(count / sizes[i])
    if others.sum() == 1 or len(sizes) == 1:
        return 1.0 if others.sum() == len(sizes) else 0.0
    expected = 0.0
    spread = 0.0
    for a in sizes:
        spread -= a / count * np.log(a / count)
    for b in range(1, count + 1):
        if others[b] > 0:
            spread -= others[b] * b / count * np.log(b / count)
            for a in sizes:
                expected += others[b] * _expected(a, b, count)
    return _away_from_0(shared - expected) / _away_from_0(spread / 2 - expected)


@njit(cache=True, nogil=True)
def _away_from_0(value: float) -> float:
    """As scikit-learn does, so that the same clusters give 1."""
    return min(value, -SMALLEST) if value < 0 else max(value, SMALLEST)


@njit(cache=True, nogil=True)
def _expected(a: int, b: int, count: int) -> float:
    """What two random clusters of a and b voxels add to the mutual information, on average.

    n shared voxels have the hypergeometric probability; it is followed from its mode both ways by
    the ratio of neighbours, and normalised by its sum: no factorials.
    """
    least, most = max(0, a + b - count), min(a, b)
    mode = min(max((a + 1) * (b + 1) // (count + 2), least), most)
    total = 0.0
    value = 0.0
    weight = 1.0
    n = mode
    while n <= most and weight > RARE:
        total += weight
        if n > 0:
            value += weight * n * np.log(count * n / (a * b))
        weight *= (a - n) * (b - n) / ((n + 1) * (count - a - b + n + 1))
        n += 1
    weight = 1.0
    n = mode
    while n > least and weight > RARE:
        weight *= n * (count - a - b + n) / ((a - n + 1) * (b - n + 1))
        n -= 1
        total += weight
        if n > 0:
            value += weight * n * np.log(count * n / (a * b))
    return value / total / count
