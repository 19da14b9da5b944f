"""The algorithm of Koh et al. 2020, II.C, step by step as in the paper: slow and plain.

Probabilities are compared by their logarithm, for exp underflows where the design does not.
`numpy_cluster` is the same with arrays, the loop that benchmarks compare with.
"""

from itertools import combinations

import numpy as np


def plain_cluster(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray, s0: float, p0: float
) -> np.ndarray:
    count = len(seediness)
    chosen: list[int] = []
    reached = [False] * count
    log_p0 = np.log(p0) if p0 else -np.inf
    rows: list[np.ndarray] = []
    while True:
        left = [i for i in range(count) if not reached[i] and seediness[i] >= s0]
        if not left:
            break
        seed = max(left, key=lambda i: (seediness[i], -i))
        scale = 0.5 / (margin[seed] * margin[seed])
        difference = position - position[seed]
        squared = np.zeros(count)
        for axis in range(position.shape[1]):
            squared = squared + difference[:, axis] * difference[:, axis]
        row = -(squared * scale)
        rows.append(row)
        chosen.append(seed)
        for i in range(count):
            if row[i] > log_p0:
                reached[i] = True
        reached[seed] = True
    if not rows:
        return np.full(count, -1)
    labels: np.ndarray = np.argmax(np.stack(rows), axis=0)
    return labels


def numpy_cluster(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray, s0: float, p0: float
) -> np.ndarray:
    limit = -np.log(p0) if p0 else np.inf
    labels = np.full(len(seediness), -1)
    nearest, clusters = np.full(len(seediness), np.inf), 0
    for seed in np.argsort(-seediness, kind="stable"):
        if seediness[seed] < s0:
            break
        if nearest[seed] < limit:
            continue
        q = ((position - position[seed]) ** 2).sum(axis=1) * (0.5 / margin[seed] ** 2)
        closer = q < nearest
        labels[closer], nearest[closer] = clusters, q[closer]
        clusters += 1
    return labels


def plain_merged(
    labels: np.ndarray, position: np.ndarray, margin: np.ndarray, overlap: float
) -> np.ndarray:
    """Merge clusters with overlapping kernels until no such pair is left."""
    groups = [{label} for label in range(labels.max(initial=-1) + 1)]
    centre = [position[labels == label].mean(axis=0) for label in range(len(groups))]
    width = [margin[labels == label].mean() for label in range(len(groups))]

    def touch(a: int, b: int) -> bool:
        squared = ((centre[a] - centre[b]) ** 2).sum()
        return bool(np.exp(-squared / (2 * width[a] * width[b])) > overlap)

    def joinable() -> tuple[set[int], set[int]] | None:
        for group, other in combinations(groups, 2):
            if any(touch(a, b) for a in group for b in other):
                return group, other
        return None

    while pair := joinable():
        groups = [group for group in groups if group not in pair] + [pair[0] | pair[1]]
    groups.sort(key=min)
    number = {label: rank for rank, group in enumerate(groups) for label in group}
    return np.array([number.get(label, -1) for label in labels], np.int64)
