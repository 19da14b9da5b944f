"""The decisions of a search, without Ray: which trials start, and which train on.

    search = Decisions(sampler, scheduler)
    while work := search.next(slots=2):
        for trial, until in work:                    # train trial to step `until`, then
            search.record(trial, until, measurement)

Samplers and schedulers are pure functions of the history, so the same seed and the same results
give the same search, also after a kill.
"""

from __future__ import annotations

from collections.abc import Callable

from lartpc_ray.trials.budget import SamplerName, SchedulerName
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import History, Measurement
from lartpc_ray.tune.samplers.gp import GaussianProcessSampler
from lartpc_ray.tune.samplers.nsga2 import GeneticSampler
from lartpc_ray.tune.samplers.random_search import IndependentSampler
from lartpc_ray.tune.samplers.sampler import Point, Sampler
from lartpc_ray.tune.samplers.screening import ScreeningSampler
from lartpc_ray.tune.samplers.tpe import TreeParzenSampler
from lartpc_ray.tune.schedulers.halving import SuccessiveHalving
from lartpc_ray.tune.schedulers.none import NoScheduler
from lartpc_ray.tune.schedulers.racing import Racing
from lartpc_ray.tune.schedulers.scheduler import Scheduler, rungs

SAMPLERS: dict[SamplerName, Callable[[Space, int], Sampler]] = {
    "screening": ScreeningSampler,
    "tpe": TreeParzenSampler,
    "gp": GaussianProcessSampler,
    "random": IndependentSampler,
    "nsga2": GeneticSampler,
}


SettingsOf = Callable[[int, Point], Point]
"""A function of a trial's index and the proposed settings."""


def as_proposed(number: int, point: Point) -> Point:
    """Return the proposed settings."""
    return point


class Decisions:
    """Join a sampler and a scheduler with the history of a search.

    Args:
        sampler: proposes the settings of trials.
        scheduler: decides which trials train on.
        settings: returns the settings of a trial from its index and the proposed ones; a resumed
            search takes those of its started trials.
    """

    def __init__(
        self, sampler: Sampler, scheduler: Scheduler, settings: SettingsOf = as_proposed
    ) -> None:
        self.sampler = sampler
        self.scheduler = scheduler
        self._settings = settings
        self.history = History()

    @staticmethod
    def of(space: Space, settings: SettingsOf = as_proposed) -> Decisions:
        """Return the decisions that the budget of a space names."""
        trial = space.first_trial()
        last, every = trial.optimizer.steps, trial.optimizer.evaluate_every
        budget = space.budget
        steps = rungs(budget.min_steps, last, budget.reduction, every)
        plan = (steps, budget.reduction, space.trials)
        schedulers: dict[SchedulerName, Callable[[], Scheduler]] = {
            "racing": lambda: Racing(*plan, space=space),
            "halving": lambda: SuccessiveHalving(*plan),
            "none": lambda: NoScheduler(*plan),
        }
        sampler, scheduler = space.sampler, space.scheduler
        return Decisions(SAMPLERS[sampler](space, trial.seed), schedulers[scheduler](), settings)

    def next(self, slots: int) -> list[tuple[int, int]]:
        """Return trials, each with the step to which it trains now; a new trial has a new index.

        Args:
            slots: number of further trials that fit now.
        """
        work = self.scheduler.next(self.history, slots)
        for trial, until in work.continued.items():
            self.history.trials[trial].until = until
        assigned = list(work.continued.items())
        if work.starts:
            first, free = self.scheduler.first, max(slots - len(assigned), 1)
            points = self.sampler.propose(self.history, self.scheduler.left(self.history), free)
            for point in points:
                settings = self._settings(len(self.history.trials), point)
                assigned.append((self.history.start(settings, first), first))
        return assigned

    def record(self, trial: int, step: int, measurement: Measurement) -> None:
        """Add a result."""
        self.history.record(trial, step, measurement)

    def fail(self, trial: int) -> None:
        """Mark a trial as failed for good."""
        self.history.fail(trial)
