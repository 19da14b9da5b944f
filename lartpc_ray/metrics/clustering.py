"""Agreement of predicted and true clusters: ARI, AMI, purity, efficiency, SBD.

All come from one table n (true cluster, predicted cluster) of shared voxels. A voxel with the
predicted label -1 is in no predicted cluster. ARI and AMI count it as a cluster of one voxel, so an
empty prediction is never rewarded. Voxels with the true label -1 are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numba import njit

Labels = Integer[np.ndarray, " voxel"]
Table = Int[np.ndarray, "true predicted"]
Sizes = Int[np.ndarray, " true"]
Scores = Float[np.ndarray, " score"]

SCORES = ("ari", "purity", "efficiency", "sbd", "ami", "n_clusters")
"""The scores, in the order in which `table_scores` returns them."""
CHEAP_SCORES = tuple(name for name in SCORES if name != "ami")
"""The scores without AMI, which takes longer than all others together."""
SEVERAL = "ari_several"
"""ARI of the events with more than one true and more than one predicted cluster."""
SMALLEST = float(np.finfo(np.float64).eps)
RARE = 1e-18
"""A probability this much below the largest does not change a float64 sum."""
PART = 0.1
"""Smallest share of a cluster's voxels that counts as a part of it."""


def ari(truth: Labels, predicted: Labels) -> float:
    """Compute the adjusted Rand index (Hubert & Arabie 1985), equal to scikit-learn's.

    It is 1 for equal clusters and about 0 for random ones. It is 0 if exactly one of the two sides
    is a single cluster.

    Example:
        >>> ari(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
        1.0
    """
    return scores(truth, predicted)["ari"]


def ami(truth: Labels, predicted: Labels) -> float:
    """Compute the adjusted mutual information (Vinh et al. 2010), equal to scikit-learn's.

    Example:
        >>> round(ami(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 2])), 4)
        0.5024
    """
    return scores(truth, predicted)["ami"]


def purity(truth: Labels, predicted: Labels) -> float:
    """Average over predicted clusters the largest share of one true cluster (Koh III.1).

    It is NaN without a predicted or a true cluster.

    Example:
        >>> purity(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        0.8333333333333333
    """
    return scores(truth, predicted)["purity"]


def efficiency(truth: Labels, predicted: Labels) -> float:
    """Average over true clusters the largest share of one predicted cluster (Koh III.2).

    Example:
        >>> efficiency(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        0.75
    """
    return scores(truth, predicted)["efficiency"]


def sbd(truth: Labels, predicted: Labels) -> float:
    """Compute the symmetric best Dice, the smaller of both means (Scharr et al. 2016).

    Example:
        >>> round(sbd(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 4)
        0.7333
    """
    return scores(truth, predicted)["sbd"]


def scores(
    truth: Labels, predicted: Labels, *, min_voxels: int = 0, metrics: Sequence[str] = SCORES
) -> dict[str, float]:
    """Compute many metrics at once; `n_clusters` counts the predicted clusters.

    Args:
        truth: (voxel,) true cluster, -1 none.
        predicted: (voxel,) predicted cluster, -1 none found.
        min_voxels: true clusters with fewer voxels are left out.
        metrics: some of `SCORES`; `ami` costs more than all others together.

    Returns:
        metric to value; NaN without a true cluster, and for purity without a predicted cluster.

    Raises:
        ValueError: for labels of different sizes.
    """
    values = many_scores(truth, [predicted], min_voxels=min_voxels, metrics=metrics)
    return {name: float(column[0]) for name, column in values.items()}


def many_scores(
    truth: Labels,
    predictions: Iterable[Labels],
    *,
    min_voxels: int = 0,
    metrics: Sequence[str] = SCORES,
) -> dict[str, Float[np.ndarray, " prediction"]]:
    """Compute `scores` of many predictions for the same truth."""
    index = true_index(truth, min_voxels)
    rows = [_scores(truth, index, predicted, "ami" in metrics) for predicted in predictions]
    values = np.array(rows).reshape(-1, len(SCORES))
    return {name: values[:, SCORES.index(name)] for name in metrics}


def _scores(truth: Labels, index: Labels, predicted: Labels, information: bool) -> Scores:
    return np.asarray(_label_scores(index, _numbered(truth, predicted), information))


def _numbered(truth: Labels, predicted: Labels) -> Labels:
    """Return labels that count the predicted clusters from 0."""
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"truth has shape {truth.shape}, predicted {predicted.shape}: one label each"
        )
    if predicted.dtype.kind not in "iu":
        raise ValueError(f"predicted labels are {predicted.dtype}: give integers, -1 for none")
    if predicted.dtype.kind == "u":
        predicted = predicted.astype(np.int64)
    if predicted.max(initial=-1) >= len(predicted):  # names, not numbers counted from 0
        names, numbers = np.unique(np.maximum(predicted, -1), return_inverse=True)
        predicted = numbers - int(names[0] < 0)
    return predicted


def true_cluster_outcomes(
    truth: Labels, predicted: Labels, *, min_voxels: int = 0
) -> dict[str, Bool[np.ndarray, " true"]]:
    """Mark the true clusters, in the order of `true_index`, by the outcome of the prediction.

    A predicted cluster has a part of a true one if it holds a tenth of its voxels. A true cluster
    may be both split and merged.

    Args:
        truth, predicted, min_voxels: as for `scores`.

    Returns:
        `split`: several predicted clusters have parts of it, or all pieces are smaller than a part;
        `merged`: a predicted cluster has a part of it and at least a tenth of its own voxels from
        other true clusters; `missed`: predicted clusters hold less than a tenth of it; `right`:
        none of these.
    """
    table, missed = _shared(true_index(truth, min_voxels), _numbered(truth, predicted))
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
    """Return the share of the true clusters with each outcome; empty without true clusters.

    Example:
        >>> mistakes(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
        {'right': 0.0, 'split': 0.5, 'merged': 1.0, 'missed': 0.0}
    """
    outcomes = true_cluster_outcomes(truth, predicted, min_voxels=min_voxels)
    return {name: float(mask.mean()) for name, mask in outcomes.items() if len(mask)}


def cluster_metrics(truth: Labels, predicted: Labels, *, min_voxels: int = 0) -> dict[str, float]:
    """Return all metrics of one class of an event; one that cannot be measured is left out.

    They are `scores`, `mistakes`, and `SEVERAL` for more than one cluster on both sides.
    """
    values = scores(truth, predicted, min_voxels=min_voxels)
    values |= mistakes(truth, predicted, min_voxels=min_voxels)
    _, sizes = np.unique(truth[truth >= 0], return_counts=True)
    if int((sizes >= min_voxels).sum()) > 1 and values["n_clusters"] > 1:
        values[SEVERAL] = values["ari"]
    return {metric: value for metric, value in values.items() if not np.isnan(value)}


def true_index(truth: Labels, min_voxels: int) -> Int[np.ndarray, " voxel"]:
    """Count the true clusters from 0; -1 for voxels without one or of too small a cluster."""
    names, rank, sizes = np.unique(truth, return_inverse=True, return_counts=True)
    kept = (names >= 0) & (sizes >= min_voxels)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    return number[rank].astype(np.int64)


@njit(cache=True, nogil=True)
def _shared(index: Labels, predicted: Labels) -> tuple[Table, Sizes]:
    """Return the shared voxels, and the voxels of each true cluster in no predicted cluster."""
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
def _label_scores(index: Labels, predicted: Labels, information: bool) -> Scores:
    """Compute `table_scores` of true and predicted clusters that are counted from 0."""
    table, missed = _shared(index, predicted)
    return table_scores(table, table.sum(axis=1) + missed, missed.sum(), information)


@njit(cache=True, nogil=True)
def table_scores(table: Table, sizes: Sizes, missed: int, information: bool) -> Scores:
    """Compute all of `SCORES` from one table.

    Args:
        table: voxels shared by each true and predicted cluster; predicted ones may be empty.
        sizes: voxels of each true cluster, those in no predicted cluster included.
        missed: voxels that are in no predicted cluster.
        information: compute AMI, which costs more than all others; else it is NaN.
    """
    out = np.full(len(SCORES), np.nan)
    count = sizes.sum()
    if count == 0:
        return out
    clusters, together, squares, shares, dices, best, best_dice = _overlaps(table, sizes)
    out[0] = _ari(count, together + missed, (sizes * sizes).sum(), squares + missed)
    if clusters > 0:
        out[1] = shares / clusters
    out[2] = best.mean()
    out[3] = min(best_dice.mean(), dices / clusters) if clusters > 0 else 0.0
    if information:
        out[4] = _ami(table, sizes, missed)
    out[5] = clusters
    return out


@njit(cache=True, nogil=True)
def _overlaps(table, sizes):  # type: ignore[no-untyped-def]
    """Return the sums over predicted clusters, and the best overlap of each true cluster.

    The sums: predicted clusters, squares of shared voxels, squares of predicted sizes, largest
    shares of a predicted cluster, best Dice of a predicted cluster.
    """
    best, best_dice = np.zeros(len(sizes)), np.zeros(len(sizes))
    clusters, together, squares, shares, dices = 0, 0, 0, 0.0, 0.0
    for j in range(table.shape[1]):
        size = table[:, j].sum()
        if size == 0:
            continue
        clusters += 1
        squares += size * size
        largest, largest_dice = 0, 0.0
        for i in range(len(sizes)):
            shared = table[i, j]
            if shared == 0:
                continue
            together += shared * shared
            largest = max(largest, shared)
            best[i] = max(best[i], shared / sizes[i])
            dice = 2.0 * shared / (sizes[i] + size)
            largest_dice = max(largest_dice, dice)
            best_dice[i] = max(best_dice[i], dice)
        shares += largest / size
        dices += largest_dice
    return clusters, together, squares, shares, dices, best, best_dice


@njit(cache=True, nogil=True)
def _ari(count: int, together: int, true_squares: int, predicted_squares: int) -> float:
    """Compute the ARI from sums of squares: of the table, its row sums and its column sums.

    Each pair of voxels counts twice, as in scikit-learn's pair confusion matrix: together in both,
    in the truth only, in the prediction only, in neither.
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
def _ami(table: Table, sizes: Sizes, missed: int) -> float:
    """Compute (MI - E[MI]) / ((H(true) + H(predicted)) / 2 - E[MI]).

    A missed voxel is a cluster of one voxel.
    """
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
    """Keep a value off 0 as scikit-learn does, so that equal clusters give 1."""
    return min(value, -SMALLEST) if value < 0 else max(value, SMALLEST)


@njit(cache=True, nogil=True)
def _expected(a: int, b: int, count: int) -> float:
    """Return the mean mutual information that two random clusters of a and b voxels add.

    n shared voxels have the hypergeometric probability. The sum starts at its mode, goes both ways
    by the ratio of neighbours, and is normalised at the end, so no factorial is needed.
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
