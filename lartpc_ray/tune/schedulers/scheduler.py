"""The interface of schedulers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lartpc_ray.tune.history import History


@dataclass(frozen=True)
class Work:
    """The next work of a search.

    Attributes:
        continued: trial to the step to which it trains on from its checkpoint.
        starts: whether new trials start, too; the sampler decides how many it can propose now.
    """

    continued: dict[int, int] = field(default_factory=dict)
    starts: bool = False


class Scheduler(ABC):
    """Decide which trials train on: a pure function of the history.

    Args:
        rungs: steps at which trials are compared; the last is a trial's end.
        reduction: one of so many trials passes a rung.
        trials: of the whole search.
    """

    def __init__(self, rungs: Sequence[int], reduction: float, trials: int) -> None:
        self.rungs = tuple(rungs)
        self.reduction = reduction
        self.trials = trials

    @property
    def first(self) -> int:
        """Return the step to which a new trial trains."""
        return self.rungs[0]

    @property
    def pauses(self) -> tuple[int, ...]:
        """Return the steps at which a trial waits for others, and its end."""
        return self.rungs

    @abstractmethod
    def next(self, history: History, slots: int) -> Work:
        """Return the next work; no work ends the search, once no trial runs.

        Args:
            history: of all trials so far.
            slots: number of further trials that fit now.
        """

    def left(self, history: History) -> int:
        """Return the number of trials that have not started."""
        return max(self.trials - len(history.trials), 0)

    def passing(self, level: int) -> int:
        """Return the number of trials that pass rung `level` (from 1): all, by default."""
        return self.trials

    @property
    def planned_parts(self) -> list[tuple[int, int, int]]:
        """Return first step, last step and number of trials of each part between two rungs."""
        return [
            (start, end, min(self.passing(level), self.trials) if level else self.trials)
            for level, (start, end) in enumerate(pairwise((0, *self.rungs)))
        ]

    @property
    def planned_steps(self) -> int:
        """Return the training steps of all trials together, if none fails or is dropped."""
        return sum((end - start) * trials for start, end, trials in self.planned_parts)

    def planned_seconds(
        self,
        per_step: float,
        per_validation: float,
        every: int,
        at_once: int,
        per_part: float = 0.0,
        per_end: float = 0.0,
    ) -> float:
        """Return the time of all trials together, if none fails or is dropped.

        The trials that pass a rung train from there to the next one in groups of `at_once`.

        Args:
            per_step: seconds of a step.
            per_validation: seconds of a validation.
            every: steps between validations.
            at_once: trials at a time.
            per_part: seconds until a trial starts, or goes on from its checkpoint.
            per_end: seconds after the last step of a trial.
        """
        total = 0.0
        for level, (start, end) in enumerate(pairwise((0, *self.pauses))):
            trials = min(self.passing(level), self.trials) if level else self.trials
            validations = -(-end // every) - start // every
            part = per_part + (end - start) * per_step + validations * per_validation
            part += per_end if end == self.pauses[-1] else 0.0
            total += -(-trials // at_once) * part
        return total

    def after(self, step: int) -> int:
        """Return the rung after a step."""
        return next(rung for rung in self.rungs if rung > step)


def rungs(first: int, last: int, reduction: float, every: int = 1) -> tuple[int, ...]:
    """Return `first`, `first` · r, `first` · r², … and `last`, at validations.

    Args:
        first: steps of the first rung.
        last: steps of a trial that is not dropped.
        reduction: r.
        every: steps between validations.

    Example:
        >>> rungs(100, 1000, 3.0)
        (100, 300, 900, 1000)
        >>> rungs(5, 20, 2.0, every=10)
        (10, 20)
    """
    found, rung = [], float(first)
    while rung < last:
        found.append(min(-(-round(rung) // every) * every, last))
        rung = max(rung * reduction, rung + 1)
    return tuple(dict.fromkeys([*found, last]))
