"""The Gaussian process of Optuna."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler

from lartpc_ray.tune.samplers.optuna_sampler import OptunaSampler

RANDOM_TRIALS = 10
"""Trials before the first fit."""


class GaussianProcessSampler(OptunaSampler):
    """Sample where a Gaussian process expects the largest improvement."""

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return the sampler; it estimates the noise of the objective."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return GPSampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
