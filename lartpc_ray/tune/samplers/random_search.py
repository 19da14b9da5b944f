"""Random sampling."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from lartpc_ray.tune.samplers.optuna_sampler import OptunaSampler


class IndependentSampler(OptunaSampler):
    """Sample each setting alone, without regard to results."""

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Return the sampler."""
        return RandomSampler(seed=seed)
