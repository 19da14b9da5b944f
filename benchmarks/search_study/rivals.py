"""Other searches: Ray Tune's stock pair, Optuna's, random, and the default alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from search_study.world import Chosen, Piece, Run, Searcher, World


def stock_ray(world: World, budget: float) -> Iterator[Piece]:
    """Run OptunaSearch and ASHA with their own defaults; return the best last result.

    `results.get_best_result` compares the last results of all trials, also of stopped ones.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed, search = int(world.rng.integers(2**31)), dict(world.surrogate.basis.search)
    searcher = OptunaSearch(space=search, metric="objective", mode="max", seed=seed)
    asha = AsyncHyperBandScheduler(
        time_attr="length", metric="objective", mode="max", max_t=world.lengths
    )
    best: tuple[float, Chosen] = (-np.inf, (world.default, world.lengths))
    for number in range(10_000):
        name = f"{seed}-{number}"
        settings = searcher.suggest(name)
        assert isinstance(settings, dict)
        run, trial = world.train(settings), SimpleNamespace(trial_id=name, config=settings)
        asha.on_trial_add(None, trial)  # type: ignore[arg-type]
        for length, objective in enumerate(run.objectives, 1):
            result = {"length": length, "objective": float(objective), "training_iteration": length}
            decision = asha.on_trial_result(None, trial, result)  # type: ignore[arg-type]
            ends = length == world.lengths or decision == TrialScheduler.STOP
            if ends:
                asha.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
                searcher.on_trial_complete(name, result)
                best = max(best, (float(objective), (run, length)), key=lambda pair: pair[0])
            else:
                searcher.on_trial_result(name, result)
            yield run.cost / world.lengths, best[1]
            if ends:
                break


def optuna_search(
    sampler: Callable[[int], BaseSampler], pruner: Callable[[World], BasePruner], most: int = 10_000
) -> Searcher:
    """Return a search by Optuna alone; it returns the best completed trial."""

    def search(world: World, budget: float) -> Iterator[Piece]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            direction="maximize",
            sampler=sampler(int(world.rng.integers(2**31))),
            pruner=pruner(world),
            study_name=f"world {world.seed}",
        )
        best: tuple[float, Chosen] = (-np.inf, (world.default, world.lengths))
        for _ in range(most):
            trial = study.ask(dict(world.surrogate.basis.search))
            run = world.train(trial.params)
            for length in _lengths(study, trial, run):
                if length == world.lengths:
                    ended = float(run.objectives[-1]), (run, length)
                    best = max(best, ended, key=lambda pair: pair[0])
                yield run.cost / world.lengths, best[1]

    return search


def _lengths(study: optuna.Study, trial: optuna.Trial, run: Run) -> Iterator[int]:
    """Yield the lengths of a trial until it ends or is pruned."""
    for length, objective in enumerate(map(float, run.objectives), 1):
        if length == len(run.true):
            study.tell(trial, objective)
            yield length
            return
        trial.report(objective, length)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            yield length
            return
        yield length


def default_seeds(world: World, budget: float) -> Iterator[Piece]:
    """Train the default with many seeds and return the best one; trial 0 is the first."""
    best = world.default
    yield best.cost, (best, world.lengths)
    while True:
        run = world.train(world.first)
        best = max(best, run, key=lambda one: one.objectives[-1])
        yield run.cost, (best, world.lengths)


def hyperband(world: World) -> BasePruner:
    return HyperbandPruner(min_resource=1, max_resource=world.lengths, reduction_factor=3)


RIVALS: Mapping[str, Searcher] = {
    "Ray Tune: OptunaSearch + ASHA": stock_ray,
    "Optuna: TPE + Hyperband": optuna_search(lambda seed: TPESampler(seed=seed), hyperband),
    "Optuna: GPSampler": optuna_search(lambda seed: GPSampler(seed=seed), lambda _: NopPruner()),
    "random": optuna_search(lambda seed: RandomSampler(seed=seed), lambda _: NopPruner()),
    "best seed of the default": default_seeds,
}
"""Searches by name; none uses its budget in advance, so one run serves all costs."""
