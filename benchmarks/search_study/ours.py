"""The search of lartpc_ray, with its own samplers, schedulers and rule for the winner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import DEFAULT, Measurement
from search_study.trainings import SPACE
from search_study.world import CLASSES, Piece, Run, World

KEPT_BELOW = 0.84
"""The default is kept if the winner is better with a lower probability."""
SLOTS = 2


@dataclass(frozen=True)
class Plan:
    """The plan of a search for a budget.

    Attributes:
        first: steps of the first rung.
        reduction: one of so many trials passes a rung.
        sampler: name of the sampler.
        scheduler: name of the scheduler.
    """

    first: int = 160
    reduction: float = 3.0
    sampler: str = "screening"
    scheduler: str = "racing"

    def __call__(self, world: World, budget: float) -> Iterator[Piece]:
        """Search a world with as many trials as the budget has."""
        decisions = Decisions.of(self._space(world, budget))
        runs: dict[int, Run] = {DEFAULT: world.default}
        steps = [int(step) for step in world.surrogate.steps]
        winner = DEFAULT
        while work := decisions.next(SLOTS):
            for trial, until in work:
                history = decisions.history.trials[trial]
                if trial not in runs:
                    runs[trial] = world.train({**world.first, **history.settings})
                length, before = steps.index(until) + 1, history.step
                decisions.record(trial, until, measurement(runs[trial], length))
                if until == steps[-1]:
                    winner = choose(decisions)
                part = (until - before) / steps[-1]
                yield part * runs[trial].cost, (runs[winner], world.lengths)

    def _space(self, world: World, budget: float) -> Space:
        space = read_space(SPACE, "laptop")
        trials = self.trials(budget, int(world.surrogate.steps[-1]))
        update = {
            "trials": trials,
            "min_steps": self.first,
            "reduction": self.reduction,
            "sampler": self.sampler,
            "scheduler": self.scheduler if trials > 1 else "none",
        }
        fixed = {**space.fixed, "seed": int(world.rng.integers(2**31))}
        return replace(space, fixed=fixed, budget=space.budget.model_copy(update=update))

    def trials(self, budget: float, last: int) -> int:
        """Return the largest number of trials that fits into the budget."""
        if self.scheduler == "none":
            return max(1, int(budget))
        rungs = [self.first]
        while rungs[-1] * self.reduction < last:
            rungs.append(int(rungs[-1] * self.reduction))
        rungs.append(last)
        trials = 2
        while cost(trials + 1, rungs, self.reduction) <= budget:
            trials += 1
        return trials


def cost(trials: int, rungs: list[int], reduction: float) -> float:
    """Return the cost of a race in full trainings; the default trains beside the quotas."""
    total = float(trials * rungs[0])
    for level, (before, after) in enumerate(pairwise(rungs), start=1):
        quota = max(2, int(np.ceil(trials / reduction**level)))
        total += (min(quota, trials - 1) + 1) * (after - before)
    return total / rungs[-1]


def measurement(run: Run, length: int) -> Measurement:
    """Return the validation of a simulated training."""
    rows = run.scores[length - 1]
    scores = {name: dict(enumerate(row.tolist())) for name, row in zip(CLASSES, rows, strict=True)}
    return Measurement(float(run.objectives[length - 1]), scores)


def choose(decisions: Decisions) -> int:
    """Return the trial that the search returns: the best at the end, or the default."""
    history = decisions.history
    ended = history.at(decisions.scheduler.rungs[-1])
    if DEFAULT not in ended or len(ended) < 2:
        return DEFAULT
    best = max(ended, key=lambda trial: ended[trial].objective)
    difference = history.difference(best, DEFAULT)
    assert difference is not None
    return best if difference.p_better >= KEPT_BELOW else DEFAULT
