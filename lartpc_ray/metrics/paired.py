"""The difference of two networks on the same events, with its error.

The scores of two networks on an event are correlated: an event that is hard for one is hard for
the other. The mean over events of the difference is therefore known far better than the difference
of two independent means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, erf, sqrt

import numpy as np

from lartpc_ray.metrics.table import MEAN, Metrics

Scores = Mapping[str, Mapping[int, float]]
"""Class to event to value."""
LOWER_IS_BETTER = frozenset({"split", "merged", "missed", "distance", "wrong"})
"""Metrics that count errors: shares of true clusters, distances, wrong voxels."""


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference over the events that both networks have.

    Attributes:
        difference: ours - others.
        error: standard error of the difference, over events.
        p_better: probability that the true difference is above zero, with a flat prior and a normal
            error; 0.5 for equal values in all events.
        events: number of events.
    """

    difference: float
    error: float
    p_better: float
    events: int

    @staticmethod
    def of(difference: float, error: float, events: int) -> PairedDifference:
        """Return a difference with its probability.

        Example:
            >>> round(PairedDifference.of(0.02, 0.02, 40).p_better, 3)
            0.841
        """
        if error > 0:
            p_better = 0.5 * (1 + erf(difference / error / sqrt(2)))
        else:
            p_better = 0.5 + 0.5 * float(np.sign(difference))
        return PairedDifference(difference, error, p_better, events)

    def __str__(self) -> str:
        return f"{self.difference:+.4f} ± {self.error:.4f} (P(better) {self.p_better:.2f})"


def events_needed(events: int, factor: float) -> int | None:
    """Return about how many events would do where there are too few, rounded up to two digits.

    Args:
        events: the present number.
        factor: how many times as many are needed.

    Returns:
        None if that is less than a fifth more: the estimate is no better than that.

    Example:
        >>> events_needed(60, 4.01), events_needed(308, 4.0), events_needed(39, 1.05)
        (250, 1300, None)
    """
    count = ceil(round(events * factor, 6))
    unit = int(10 ** max(0, len(str(count)) - 2))
    return ceil(count / unit) * unit if 5 * count >= 6 * events else None


def paired_differences(ours: Metrics, others: Metrics, metric: str) -> dict[str, PairedDifference]:
    """Compare two networks by one metric, over the events that both have.

    Args:
        ours: event by event.
        others: of the same events, by their numbers.
        metric: to compare.

    Returns:
        class to difference, for classes with two events or more; and `MEAN`, the mean over the
        classes that vary: a class of one value in all events of both networks has no information.

    Example:
        >>> from lartpc_ray.metrics.table import Row
        >>> ours = Metrics([Row(event, "MIP", "ari", 0.9) for event in range(3)])
        >>> others = Metrics([Row(event, "MIP", "ari", 0.8) for event in range(3)])
        >>> round(paired_differences(ours, others, "ari")["MIP"].difference, 3)
        0.1
    """
    return compare_scores(_scores(ours, metric), _scores(others, metric))


def _scores(metrics: Metrics, metric: str) -> dict[str, dict[int, float]]:
    """Return class to event to the mean of the event's rows."""
    rows: dict[str, dict[int, list[float]]] = {}
    for row in metrics.rows:
        if row.metric == metric:
            rows.setdefault(row.name, {}).setdefault(row.event, []).append(row.value)
    return {
        name: {event: float(np.mean(values)) for event, values in events.items()}
        for name, events in rows.items()
    }


def compare_scores(ours: Scores, others: Scores) -> dict[str, PairedDifference]:
    """Compare the scores of two networks; see `paired_differences`.

    The error of the mean over classes counts all classes of an event together, as they are
    correlated: event e adds sum_k (d_ek - D_k) / n_k / K, with D_k the mean over the n_k events of
    class k; the error is the root of the sum of the squares, times n / (n - 1).
    """
    shared = {
        name: sorted(ours[name].keys() & others[name].keys()) for name in ours if name in others
    }
    shared = {name: events for name, events in shared.items() if len(events) > 1}
    found: dict[str, PairedDifference] = {}
    deviations: list[dict[int, float]] = []
    means: list[float] = []
    for name, events in shared.items():
        mine, theirs = (
            np.array([side[name][event] for event in events]) for side in (ours, others)
        )
        values = mine - theirs
        mean, error = float(values.mean()), float(values.std(ddof=1)) / sqrt(len(events))
        found[name] = PairedDifference.of(mean, error, len(events))
        if np.ptp([mine, theirs]) > 0:
            means.append(mean)
            deviations.append(dict(zip(events, (values - mean) / len(events), strict=True)))
    if means:
        found[MEAN] = _mean(means, deviations)
    return found


def _mean(means: list[float], deviations: list[dict[int, float]]) -> PairedDifference:
    """Average over classes; `deviations` hold (d_ek - D_k) / n_k of each class, by event."""
    events = sorted(set().union(*deviations))
    parts = [sum(of_class.get(event, 0.0) for of_class in deviations) for event in events]
    squares = float(np.square(parts).sum()) / len(means) ** 2
    error = sqrt(squares * len(events) / (len(events) - 1))
    return PairedDifference.of(float(np.mean(means)), error, len(events))
