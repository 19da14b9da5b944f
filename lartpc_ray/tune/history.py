"""The results of a search so far: the only input of samplers and schedulers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lartpc_ray.metrics.paired import PairedDifference, Scores, compare_scores
from lartpc_ray.metrics.table import MEAN

DEFAULT = 0
"""Index of the trial with the default settings."""


@dataclass(frozen=True)
class Measurement:
    """The validation of a trial after some steps.

    Attributes:
        objective: the number that the search maximises.
        scores: class to event to score, at the best thresholds of the trial; empty if unknown.
        costs: values of the costs of the space, in their order.
    """

    objective: float
    scores: Scores = field(default_factory=dict)
    costs: tuple[float, ...] = ()


@dataclass(eq=False)
class TrialHistory:
    """One trial.

    Attributes:
        settings: path to value, of the searched settings.
        results: step to measurement.
        until: the step to which the trial was last assigned.
        failed: whether it has failed for good.
    """

    settings: dict[str, Any]
    results: dict[int, Measurement] = field(default_factory=dict)
    until: int = 0
    failed: bool = False

    @property
    def step(self) -> int:
        """Return the last step with a result; 0 without results."""
        return max(self.results, default=0)

    @property
    def running(self) -> bool:
        """Return whether the trial trains."""
        return not self.failed and self.step < self.until

    @property
    def last(self) -> Measurement:
        """Return the last result."""
        return self.results[self.step]


class History:
    """All trials of a search, by their index.

    Args:
        trials: that have started; none by default.

    Example:
        >>> history = History()
        >>> history.start({"network.depth": 5}, until=100)
        0
        >>> history.record(0, 100, Measurement(0.7))
        >>> history.trials[0].step
        100
    """

    def __init__(self, trials: Iterable[TrialHistory] = ()) -> None:
        self.trials = list(trials)

    def start(self, settings: Mapping[str, Any], until: int) -> int:
        """Add a trial that trains until a step; return its index."""
        self.trials.append(TrialHistory(dict(settings), until=until))
        return len(self.trials) - 1

    def record(self, trial: int, step: int, measurement: Measurement) -> None:
        """Add a result."""
        self.trials[trial].results[step] = measurement

    def fail(self, trial: int) -> None:
        """Mark a trial as failed for good."""
        self.trials[trial].failed = True

    @property
    def running(self) -> list[int]:
        """Return the trials that train."""
        return [number for number, trial in enumerate(self.trials) if trial.running]

    @property
    def default_failed(self) -> bool:
        """Return whether the trial with the default settings has failed for good."""
        return bool(self.trials) and self.trials[DEFAULT].failed

    def at(self, step: int) -> dict[int, Measurement]:
        """Return the results of all successful trials at a step, by trial."""
        return {
            number: trial.results[step]
            for number, trial in enumerate(self.trials)
            if step in trial.results and not trial.failed
        }

    def difference(self, trial: int, other: int) -> PairedDifference | None:
        """Compare two trials at the last step that both have reached; None without such a step.

        Without scores by event the error is unknown, and the sign of the difference decides.
        """
        ours, others = self.trials[trial].results, self.trials[other].results
        shared = ours.keys() & others.keys()
        if not shared:
            return None
        mine, theirs = ours[max(shared)], others[max(shared)]
        return compare(mine, theirs)


def most_reached(history: History) -> int:
    """Return the step that most trials have reached, of equal steps the last; 0 without any."""
    steps = {step for trial in history.trials for step in trial.results}
    return max(steps, key=lambda step: (len(history.at(step)), step), default=0)


def compare(mine: Measurement, theirs: Measurement) -> PairedDifference:
    """Return the paired difference of two measurements, of the mean over classes that vary."""
    found = compare_scores(mine.scores, theirs.scores)
    if MEAN in found:
        return found[MEAN]
    if found:  # all classes are constant
        return PairedDifference.of(0.0, 0.0, max(each.events for each in found.values()))
    return PairedDifference.of(mine.objective - theirs.objective, 0.0, 0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The scores of several trials on the same events.

    Attributes:
        trials: their indices.
        values: (trial,) mean over events and over the classes that vary, less the mean of all
            trials.
        variances: (trial,) of the values, from the spread over events that is left after the
            difficulty of each event.
    """

    trials: list[int]
    values: np.ndarray
    variances: np.ndarray


def together(results: Mapping[int, Measurement]) -> Comparison:
    """Compare trials with each other: two factors, trial and event, class by class.

    The residual r_ie = s_ie - s_i - s_e + s measures the trial alone, as every trial has the same
    events; its variance over n events gives the error of s_i - s.
    """
    if not results:
        return Comparison([], np.zeros(0), np.zeros(0))
    trials = sorted(results)
    tables = score_tables([results[trial].scores for trial in trials])
    if not tables:
        objectives = np.array([results[trial].objective for trial in trials])
        return Comparison(trials, objectives - objectives.mean(), np.zeros(len(trials)))
    values = np.mean([table.mean(axis=1) for table in tables.values()], axis=0)
    variances = np.zeros(len(trials))
    for table in tables.values():
        residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        variances += residual.var(axis=1, ddof=1) / table.shape[1] / len(tables) ** 2
    return Comparison(trials, values - values.mean(), variances)


def score_tables(scores: list[Scores]) -> dict[str, np.ndarray]:
    """Return class to (trial, event), for the classes that vary, over the events that all have."""
    tables = {}
    for name in sorted(set.intersection(*(set(of_trial) for of_trial in scores))):
        events = sorted(set.intersection(*(set(of_trial[name]) for of_trial in scores)))
        table = np.array([[of_trial[name][event] for event in events] for of_trial in scores])
        if len(events) > 1 and np.ptp(table) > 0:
            tables[name] = table
    return tables
