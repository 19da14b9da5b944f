"""The winner of a search: a better trial than the default, or the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lartpc_ray.metrics.paired import PairedDifference
from lartpc_ray.tune.history import DEFAULT, Measurement, compare

KEPT_BELOW = 0.84
"""The default is kept if the best trial is better with a lower probability: one error."""


@dataclass(frozen=True)
class Winner:
    """The trial that a search returns.

    Attributes:
        number: index of the winner.
        rival: index of the trial of highest objective beside the default; None without one.
        difference: of the rival to the default on the tune split; None without a rival or without
            the default.
    """

    number: int
    rival: int | None = None
    difference: PairedDifference | None = None


def choose_winner(finalists: Mapping[int, Measurement]) -> Winner:
    """Choose among the trials that reached the last step.

    The trial of highest objective wins, if its paired difference to the default shows that it is
    better with a probability of at least `KEPT_BELOW`; else the default wins.

    Args:
        finalists: trial to its last measurement.

    Example:
        >>> choose_winner({0: Measurement(0.7), 3: Measurement(0.8)}).number
        3
    """
    rivals = {number: one.objective for number, one in finalists.items() if number != DEFAULT}
    if not rivals:
        return Winner(DEFAULT)
    rival = max(rivals, key=lambda number: rivals[number])
    if DEFAULT not in finalists:
        return Winner(rival, rival)
    difference = compare(finalists[rival], finalists[DEFAULT])
    better = difference.p_better >= KEPT_BELOW
    return Winner(rival if better else DEFAULT, rival, difference)
