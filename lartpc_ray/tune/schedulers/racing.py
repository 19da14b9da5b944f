"""Racing: trials pause at a rung, and the best train on from their checkpoints."""

from __future__ import annotations

from math import ceil

from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import DEFAULT, History, together
from lartpc_ray.tune.samplers.additive import AdditiveModel
from lartpc_ray.tune.schedulers.scheduler import Scheduler, Work

DROPPED = 0.05
"""A trial with a lower probability to be better than the leader is dropped."""
FINALISTS = 2
"""Trials that pass every rung beside the default, if as many are not dropped."""
FEWEST = 8
"""Results with which the additive model takes part in the order of trials."""


class Racing(Scheduler):
    """Start all trials, then let the best of each rung pass it, in rounds.

    The quota of rung m is N / r^m trials, at least `FINALISTS`, beside the default, which always
    passes. A trial that does not pass waits with its checkpoint. It is dropped only if its paired
    difference to the leader gives it a chance below `DROPPED`; if a trial that has passed is
    dropped later, the best that still wait take its part of the quota.

    Args:
        space: of the settings; None: measured differences decide alone, without the model.
        options: those of `Scheduler`.
    """

    def __init__(self, *options: object, space: Space | None = None) -> None:
        super().__init__(*options)  # type: ignore[arg-type]
        self._space = space

    def next(self, history: History, slots: int) -> Work:
        """Return a round of new trials, or of trials that pass a rung."""
        if self.left(history):
            return Work(starts=True)
        dropped = self.dropped(history)
        for level, rung in enumerate(self.rungs[:-1], start=1):
            passing = self._passing(history, rung, level, dropped)
            if passing:
                return Work({trial: self.after(rung) for trial in passing})
        return Work()

    def passing(self, level: int) -> int:
        """Return the quota of a rung, and the default."""
        return self._quota(level) + 1

    def _quota(self, level: int) -> int:
        return max(FINALISTS, ceil(self.trials / self.reduction**level))

    def _passing(self, history: History, rung: int, level: int, dropped: set[int]) -> list[int]:
        quota = self._quota(level)
        passed = [
            number
            for number, trial in enumerate(history.trials)
            if trial.until > rung and number not in dropped | {DEFAULT} and not trial.failed
        ]
        waiting = [
            trial
            for trial in history.at(rung)
            if history.trials[trial].until == rung and trial not in dropped | {DEFAULT}
        ]
        values = self.estimates(history, rung)
        waiting.sort(key=lambda trial: -values[trial])
        chosen = waiting[: max(quota - len(passed), 0)]
        default = history.trials[DEFAULT]
        return [DEFAULT, *chosen] if default.until == rung and not default.failed else chosen

    def estimates(self, history: History, rung: int) -> dict[int, float]:
        """Return the value of each trial at a rung, with its noise reduced by the model."""
        comparison = together(history.at(rung))
        values = comparison.values
        if self._space and self._space.search and len(values) >= FEWEST:
            points = [history.trials[trial].settings for trial in comparison.trials]
            values = AdditiveModel(self._space, points, comparison).estimates()
        return dict(zip(comparison.trials, map(float, values), strict=True))

    def leader(self, history: History) -> int:
        """Return the best trial of the highest rung that any has reached beside the default."""
        for rung in reversed(self.rungs):
            results = history.at(rung)
            if results.keys() - {DEFAULT}:
                values = self.estimates(history, rung)
                return max(results, key=lambda trial: values[trial])
        return DEFAULT

    def dropped(self, history: History) -> set[int]:
        """Return the trials that the paired difference to the leader has dropped."""
        leader = self.leader(history)
        found = set()
        for number in range(len(history.trials)):
            difference = history.difference(number, leader) if number != leader else None
            if difference and difference.p_better < DROPPED:
                found.add(number)
        return found - {DEFAULT}
