"""The size of a search whose budget is a time: its trials and their steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite

from pydantic import PositiveInt

from lartpc_ray.settings import Settings
from lartpc_ray.trials.belongs import STEPS
from lartpc_ray.trials.budget import MOST_MINUTES
from lartpc_ray.trials.space import Space

EVERY = "optimizer.evaluate_every"
MOST_STEPS = 10_000_000
"""Steps of a trial of the longest search, or of the longest training."""


class StudySize(Settings):
    """The trials of a search, and their steps."""

    trials: PositiveInt
    steps: PositiveInt
    min_steps: PositiveInt
    evaluate_every: PositiveInt

    @staticmethod
    def of(space: Space) -> StudySize:
        """Return the size of a search."""
        optimizer = space.first_trial().optimizer
        return StudySize(
            trials=space.trials,
            steps=optimizer.steps,
            min_steps=min(space.budget.min_steps, optimizer.steps),
            evaluate_every=optimizer.evaluate_every,
        )

    def scaled(self, steps: int, *, validations: bool = True) -> StudySize:
        """Return the size with other steps of a trial, in the same ratio to the first rung.

        Args:
            steps: of a trial.
            validations: keep their number; else the steps between them.

        Example:
            >>> StudySize(trials=4, steps=3000, min_steps=500, evaluate_every=500).scaled(300)
            StudySize(trials=4, steps=300, min_steps=50, evaluate_every=50)
        """
        every = self._share(self.evaluate_every, steps) if validations else self.evaluate_every
        first = self._share(self.min_steps, steps)
        return self.model_copy(update={"steps": steps, "min_steps": first, "evaluate_every": every})

    def _share(self, part: int, steps: int) -> int:
        return -(-part * steps // self.steps)

    def applied(self, space: Space) -> Space:
        """Return a search of this size; a grid keeps its points."""
        update = {"trials": self.trials, "steps": self.steps, "min_steps": self.min_steps}
        fixed = {**space.fixed, STEPS: self.steps, EVERY: self.evaluate_every}
        return replace(space, fixed=fixed, budget=space.budget.model_copy(update=update))


def with_minutes(space: Space, minutes: float | None) -> Space:
    """Return a space whose budget has these minutes; those of its file for None.

    Raises:
        ValueError: for minutes that are not above 0, or more than those of a year.
    """
    if minutes is None:
        return space
    if not (isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes: {minutes:g}: give a number above 0, as in --minutes 20")
    if minutes > MOST_MINUTES:
        raise ValueError(f"minutes: {minutes:g}: give at most {MOST_MINUTES}, a year")
    return replace(space, budget=space.budget.model_copy(update={"minutes": float(minutes)}))


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest number from `low` to `high` that fits; None if `low` does not.

    Args:
        low: the least number.
        high: the largest number.
        fits: whether a number fits; a smaller one than a number that fits does, too.

    Example:
        >>> largest(2, 100, lambda number: number**2 < 50), largest(8, 9, lambda number: False)
        (7, None)
    """
    if low > high or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
