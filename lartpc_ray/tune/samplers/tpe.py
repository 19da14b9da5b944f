"""The tree-structured Parzen estimator of Optuna."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler

from lartpc_ray.tune.samplers.optuna_sampler import OptunaSampler

RANDOM_TRIALS = 10
"""Trials before the first estimate."""


class TreeParzenSampler(OptunaSampler):
    """Sample where the density of good trials is high (Bergstra et al. 2011)."""

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return the multivariate estimator, which keeps off running trials."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
            )
