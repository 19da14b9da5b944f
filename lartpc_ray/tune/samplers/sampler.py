"""The interface of samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np

from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import History, TrialHistory

Point = dict[str, Any]
"""Path to value, of the searched settings that have an effect."""


class Sampler(ABC):
    """Propose the settings of further trials: a pure function of history, space and seed.

    Args:
        space: that is searched.
        seed: of random numbers.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.seed = seed

    @final
    def propose(self, history: History, left: int, slots: int) -> list[Point]:
        """Return the settings of further trials: first the starts of the space.

        No slot stays free while the starts train, so that no core waits for the default. A trial
        takes each of them (`Space.allowed`): else the search would end there, also when resumed.
        None is tried already, if a space of few points (`Space.every_point`) has another one.

        Args:
            history: of all trials so far.
            left: number of trials that the budget still has.
            slots: number of trials at a time.
        """
        starts = self.space.points or (self.space.first, *self.space.starts)
        points: list[Point] = [*starts[len(history.trials) :]]
        if points and not self.space.points:
            points += self._start(left - len(points))
        free = min(left, slots) - len(points)
        if free > 0 and not self.space.points:
            begun = History([*history.trials, *(TrialHistory(point, until=1) for point in points)])
            points += self._sample(begun, left - len(points), free)
        if self.space.points:
            return [self.space.active(point) for point in points[:left]]
        points = [self.space.allowed(point) for point in points[:left]]
        return self._untried([trial.settings for trial in history.trials], points)

    def _untried(self, known: list[Point], points: list[Point]) -> list[Point]:
        """Replace points that are tried already, while a space of few points has another one."""
        chosen: list[Point] = []
        for point in points:
            if point in [*known, *chosen]:
                tried = [*known, *chosen, *points]
                left = [one for one in self.space.every_point if one not in tried]
                left = [one for one in left if self.space.takes(one)]
                rng = np.random.default_rng((self.seed, len(known) + len(chosen)))
                point = left[rng.integers(len(left))] if left else point
            chosen.append(point)
        return chosen

    def _start(self, left: int) -> list[Point]:
        """Return the points that need no results, to begin together with the starts."""
        return []

    @abstractmethod
    def _sample(self, history: History, left: int, slots: int) -> list[Point]:
        """Return points after the starts."""
