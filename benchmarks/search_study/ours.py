"""The search of lartpc_ray, with its own samplers, schedulers and rule for the winner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lartpc_ray.trials.earlier import EarlierResults, EarlierTrial
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import DEFAULT, Measurement, most_reached, together
from lartpc_ray.tune.samplers.additive import coded
from lartpc_ray.tune.winner import Winner, choose_winner
from search_study.trainings import SPACE
from search_study.world import CLASSES, Piece, Run, World

SLOTS = 2


@dataclass(frozen=True)
class Plan:
    """The plan of a search for a budget.

    Attributes:
        first: steps of the first rung.
        reduction: one of so many trials passes a rung.
        sampler: name of the sampler.
        scheduler: name of the scheduler.
        count: trials; None: as many as the budget has.
    """

    first: int = 160
    reduction: float = 3.0
    sampler: str = "screening"
    scheduler: str = "racing"
    count: int | None = None

    def __call__(self, world: World, budget: float) -> Iterator[Piece]:
        """Search a world with as many trials as the budget has."""
        yield from self.search(world, Decisions.of(self._space(world, budget)))

    def search(
        self, world: World, decisions: Decisions, runs: dict[int, Run] | None = None
    ) -> Iterator[Piece]:
        """Train what the decisions assign, to their end; `runs` takes the trainings."""
        runs = {} if runs is None else runs
        runs[DEFAULT] = world.default
        steps = [int(step) for step in world.surrogate.steps]
        best = DEFAULT
        while work := decisions.next(SLOTS):
            for trial, until in work:
                history = decisions.history.trials[trial]
                if trial not in runs:
                    runs[trial] = world.train({**world.first, **history.settings})
                length, before = steps.index(until) + 1, history.step
                decisions.record(trial, until, measurement(runs[trial], length))
                if until == steps[-1]:
                    best = choose(decisions)
                part = (until - before) / steps[-1]
                yield part * runs[trial].cost, (runs[best], world.lengths)

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
        if self.count:
            return self.count
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


@dataclass(frozen=True)
class WarmPlan:
    """The plan of a search that begins with an earlier study (`tune --from`).

    Attributes:
        plan: of both searches.
        budget: of the earlier one, in full trainings.
        landscape: of the earlier one: the `same` as now, `another` that the trainings allow, or the
            `opposite`, in which each setting has the effect of the other sign.
        results: whether the model begins with the results; else the best settings alone are tried.
        starts: settings of the earlier search that are tried first.
    """

    plan: Plan = Plan()
    budget: float = 16
    landscape: str = "same"
    results: bool = True
    starts: int = 3

    def __call__(self, world: World, budget: float) -> Iterator[Piece]:
        """Search an earlier world, then this one."""
        space = self.plan._space(world, budget)
        before = Decisions.of(self.plan._space(world, self.budget))
        for _ in self.plan.search(self._earlier(world), before):
            pass
        history, last = before.history, before.scheduler.rungs[-1]
        ended = history.at(last)
        ranked = sorted(ended, key=lambda trial: -ended[trial].objective)
        most = min(self.starts, max(space.trials // 4, 1))
        points = [history.trials[trial].settings for trial in ranked]
        starts = [space.active(point) for point in points if point != space.first][:most]
        step = most_reached(history)
        comparison = together(history.at(step))
        rows = zip(comparison.trials, comparison.values, comparison.variances, strict=True)
        trials = [
            EarlierTrial(settings=history.trials[trial].settings, value=value, variance=variance)
            for trial, value, variance in rows
        ]
        earlier = EarlierResults(study="earlier", step=step, trials=trials)
        space = replace(space, starts=tuple(starts), earlier=earlier if self.results else None)
        yield from self.plan.search(world, Decisions.of(space))

    def _earlier(self, world: World) -> World:
        other = World(world.surrogate, world.seed + 10_000, world.events, world.shrink)
        if self.landscape != "another":
            sign = -1 if self.landscape == "opposite" else 1
            other._effects = world._effects.copy()
            other._effects[1:] *= sign
            other.default = other.train(other.first)
        return other


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
    return winner(decisions).number


def winner(decisions: Decisions) -> Winner:
    """Return the winner of a search, with its estimated gain."""
    history, rungs = decisions.history, decisions.scheduler.rungs
    results = {step: found for step in rungs if (found := history.at(step))}
    if DEFAULT not in history.at(rungs[-1]):
        return Winner(DEFAULT)
    settings = {number: one.settings for number, one in enumerate(history.trials)}
    return choose_winner(results, coded(decisions.sampler.space, settings))
