"""Samplers of Optuna as pure functions of the history."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import final

import numpy as np
import optuna
from optuna.distributions import CategoricalChoiceType
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from lartpc_ray.tune.history import DEFAULT, History, TrialHistory, compare, most_reached
from lartpc_ray.tune.samplers.sampler import Point, Sampler


class OptunaSampler(Sampler):
    """Ask a sampler of Optuna, which learns all results of the history anew each time."""

    @abstractmethod
    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""

    def _sample(self, history: History, left: int, slots: int) -> list[Point]:
        points: list[Point] = []
        for _ in range(min(left, slots)):
            number = len(history.trials) + len(points)
            seed = np.random.SeedSequence((self.seed, number)).generate_state(1)[0]
            study = new_study(self, self.optuna_sampler(int(seed)))
            study.add_trials([self.told(history, trial) for trial in history.trials])
            study.add_trials([self._frozen(point, TrialState.RUNNING) for point in points])
            points.append(ask(study, self))
        return points

    @final
    def told(self, history: History, trial: TrialHistory) -> FrozenTrial:
        """Return a trial as Optuna takes it."""
        values = self.values(history, trial)
        state = TrialState.FAIL if trial.failed else TrialState.RUNNING
        return self._frozen(trial.settings, TrialState.COMPLETE if values else state, values)

    @final
    def values(self, history: History, trial: TrialHistory) -> list[float] | None:
        """Return the objective, less the default's after as many steps, then the costs.

        Trials of different lengths can then be compared. If the default has failed, return the
        objective after the step that most trials have reached. None for a trial without results.
        """
        if trial.failed or not trial.results:
            return None
        if history.default_failed:
            found = trial.results.get(most_reached(history))
            return [found.objective, *found.costs] if found else None
        default = history.trials[DEFAULT].results
        shared = trial.results.keys() & default.keys()
        if not shared:
            return None
        last = trial.results[max(shared)]
        return [compare(last, default[max(shared)]).difference, *last.costs]

    def _frozen(
        self, point: Point, state: TrialState, values: list[float] | None = None
    ) -> FrozenTrial:
        known = {**self.space.first, **point}
        params = {key: known[key] for key in self.space.search}
        return create_trial(
            state=state, values=values, params=params, distributions=self.space.search
        )


def new_study(sampler: Sampler, of_optuna: BaseSampler) -> optuna.Study:
    """Return an empty study in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(sampler.space.costs)]
    return optuna.create_study(directions=directions, sampler=of_optuna)


def ask(study: optuna.Study, sampler: Sampler) -> dict[str, CategoricalChoiceType]:
    """Return the next point of a study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return study.ask(sampler.space.search).params
