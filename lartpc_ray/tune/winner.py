"""The winner of a search: a better trial than the default, or the default."""

from __future__ import annotations

from dataclasses import dataclass

from lartpc_ray.metrics.paired import PairedDifference
from lartpc_ray.tune.history import DEFAULT, compare
from lartpc_ray.tune.true_gains import Columns, Results, true_gains

KEPT_BELOW = 0.84
"""The default is kept if the best trial is better with a lower probability: one error."""


@dataclass(frozen=True)
class Winner:
    """The trial that a search returns.

    Attributes:
        number: index of the winner.
        rival: index of the best trial beside the default; None without one.
        gain: estimate of the true difference of the rival to the default, with the choice among
            all trials counted; without scores by event the difference of the objectives. None
            without a rival or without the default.
        difference: of the rival to the default on the tune split, as measured: of the best of many
            too high on average.
        trials: that the search compared.
    """

    number: int
    rival: int | None = None
    gain: PairedDifference | None = None
    difference: PairedDifference | None = None
    trials: int = 0


def choose_winner(results: Results, columns: Columns | None = None) -> Winner:
    """Choose among the trials that reached the last step.

    The trial of highest estimated gain wins, if it is better than the default with a probability of
    at least `KEPT_BELOW`; else the default wins.

    Args:
        results: step to trial to measurement, of all steps after which trials were compared.
        columns: settings of each trial as numbers; see `coded`.

    Example:
        >>> from lartpc_ray.tune.history import Measurement
        >>> choose_winner({90: {0: Measurement(0.7), 3: Measurement(0.8)}}).number
        3
    """
    last = results[max(results)]
    trials = len(set().union(*results.values()))
    rivals = {number: one.objective for number, one in last.items() if number != DEFAULT}
    if not rivals:
        return Winner(DEFAULT, trials=trials)
    rival = max(rivals, key=lambda number: rivals[number])
    if DEFAULT not in last:
        return Winner(rival, rival, trials=trials)
    gains = true_gains(results, columns)
    if gains:
        rival = max(gains, key=lambda number: (gains[number].difference, rivals[number]))
    difference = compare(last[rival], last[DEFAULT])
    gain = gains.get(rival, difference)
    better = gain.p_better >= KEPT_BELOW
    return Winner(rival if better else DEFAULT, rival, gain, difference, trials)
