"""The genetic algorithm NSGA-II of Optuna, for spaces with costs."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from lartpc_ray.tune.history import History
from lartpc_ray.tune.samplers.optuna_sampler import OptunaSampler, new_study
from lartpc_ray.tune.samplers.sampler import Point

POPULATION = 20


class GeneticSampler(OptunaSampler):
    """Cross the trials that no other beats in objective and costs (Deb et al. 2002)."""

    def optuna_sampler(self, seed: int) -> NSGAIISampler:
        """Return the sampler."""
        return NSGAIISampler(seed=seed, population_size=POPULATION)

    def _sample(self, history: History, left: int, slots: int) -> list[Point]:
        study = self._repeated(history)
        number = len(history.trials)
        seed = np.random.SeedSequence((self.seed, number)).generate_state(1)[0]
        study.sampler = self.optuna_sampler(int(seed))
        return [study.ask(self.space.search).params for _ in range(min(left, slots))]

    def _repeated(self, history: History) -> optuna.Study:
        """Repeat the search: Optuna numbers the generations while it asks.

        It gives no number to a trial all of whose settings are given, so that every generation
        would be the first, which is random.
        """
        sampler = self.optuna_sampler(self.seed % 2**32)  # of numpy's earlier generator
        study = new_study(self, sampler)
        for trial in history.trials:
            study.enqueue_trial({**self.space.first, **trial.settings})
            asked = study.ask(self.space.search)
            begun = study.get_trials(deepcopy=False)[asked.number]
            sampler.get_parent_population(study, sampler.get_trial_generation(study, begun))
            values = self.values(history, trial)
            if values:
                study.tell(asked, values)
            elif trial.failed:
                study.tell(asked, state=TrialState.FAIL)
        return study
