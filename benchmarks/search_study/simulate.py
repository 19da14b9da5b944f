"""Simulate many searches of each kind; the mean true gain, its error, and the risk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np

from search_study.surrogate import Surrogate
from search_study.world import Searcher, World, gains

COSTS = (4, 8, 16, 40, 100)
"""Costs after which a search is judged, in full trainings of the default."""
WORSE = 0.002
"""A network is worse than the default if its true score is lower by more."""


@dataclass(frozen=True)
class Outcome:
    """The simulated searches of one kind after one cost.

    Attributes:
        gain: mean true gain over the default's network.
        error: standard error of `gain`.
        worse: share of the searches that end below the default by more than `WORSE`.
        searches: their number.
    """

    gain: float
    error: float
    worse: float
    searches: int

    @staticmethod
    def of(found: np.ndarray) -> Outcome:
        """Summarise (search,) true gains."""
        error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else 0.0
        return Outcome(
            float(found.mean()), float(error), float((found < -WORSE).mean()), len(found)
        )


@dataclass(frozen=True)
class Job:
    """One simulated search.

    Attributes:
        searcher: of the search.
        surrogate: of its world.
        seed: of its world.
        costs: after which it is judged.
        events: tune events of each class.
        shrink: of its world.
        anytime: whether one search serves all costs; else each cost has a search of its own.
    """

    searcher: Searcher
    surrogate: Surrogate
    seed: int
    costs: Sequence[float]
    events: int
    shrink: float
    anytime: bool

    def run(self) -> list[float]:
        """Return the true gain after each cost."""
        budgets = [self.costs] if self.anytime else [[cost] for cost in self.costs]
        return [
            gain
            for costs in budgets
            for gain in gains(
                self.searcher, World(self.surrogate, self.seed, self.events, self.shrink), costs
            )
        ]


def simulate(jobs: Iterable[Job]) -> np.ndarray:
    """Return (search, cost) true gains."""
    return np.array([job.run() for job in jobs])


def longer(trainings: Mapping[int, Sequence[float]], costs: Sequence[float]) -> list[float]:
    """Return the gain of the default that is trained longer with all the steps.

    The missing part of the score falls as a power of the steps: 1 - s = a n^-b, fitted to the
    recorded trainings of 1, 2, 4 and 8 lengths. Beyond 8 lengths this is an extrapolation.

    Args:
        trainings: factor on the steps to the scores of the trainings.
        costs: in full trainings.
    """
    rows = np.array([(n, 1 - score) for n, scores in trainings.items() for score in scores])
    slope, start = np.polyfit(np.log(rows[:, 0]), np.log(rows[:, 1]), 1)
    return [float(np.exp(start) - np.exp(start + slope * np.log(cost))) for cost in costs]


def split(
    budget: float, gains: Mapping[float, float], trainings: Mapping[int, Sequence[float]]
) -> dict[float, float]:
    """Return cost to gain of searches that use one budget: fewer trials of more steps.

    A search of a lower cost has trials that are longer by budget / cost. Its gain is that of the
    default trained so much longer, and its own. The own gain is taken to be as large as with the
    recorded lengths, which favours many trials: effects of settings fall with longer trainings.

    Args:
        budget: in full trainings.
        gains: cost to gain of a search with trials of full length.
        trainings: see `longer`.

    Example:
        >>> curve = {1: [0.5], 2: [0.75], 4: [0.875]}
        >>> {cost: round(gain, 3) for cost, gain in split(4, {2: 0.01, 4: 0.02}, curve).items()}
        {2: 0.26, 4: 0.02}
    """
    return {
        cost: longer(trainings, [budget / cost])[0] + gain
        for cost, gain in gains.items()
        if cost <= budget
    }


def _run(job: Job) -> list[float]:
    return job.run()


def simulate_parallel(jobs: Sequence[Job], processes: int) -> np.ndarray:
    """Return (search, cost) true gains, with several processes."""
    if processes == 1:
        return simulate(jobs)
    with Pool(processes) as pool:
        return np.array(pool.map(_run, jobs, chunksize=4))
