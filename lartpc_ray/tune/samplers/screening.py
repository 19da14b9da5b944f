"""Screening: a balanced design around the prior, then proposals of an additive model."""

from __future__ import annotations

import numpy as np
from optuna.distributions import CategoricalDistribution

from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import DEFAULT, History, most_reached, together
from lartpc_ray.tune.samplers.additive import AdditiveModel, prior_of
from lartpc_ray.tune.samplers.design import design
from lartpc_ray.tune.samplers.gp import GaussianProcessSampler
from lartpc_ray.tune.samplers.sampler import Point, Sampler
from lartpc_ray.tune.samplers.tpe import TreeParzenSampler

FEWEST = 4
"""Proposals that the budget keeps for the model, where it has as many trials."""
PROPOSALS = 8
"""Proposals of the additive model; a model with interactions proposes the trials after them."""
DRAWS = 40
"""Thompson draws, among which the new points are proposed."""
FEW = 40
"""Trials up to which the model with interactions is a Gaussian process; TPE after them."""


class ScreeningSampler(Sampler):
    """Vary all settings at once in a design, fit an additive model, and propose its best points.

    In a Plackett-Burman design of 12 runs every effect is the difference of two means of six runs:
    12 runs measure 11 effects as precisely as 12 runs would measure one alone. The first proposal
    is the point of highest expected objective, the others are Thompson draws. The results of an
    earlier study take the place of the design.
    """

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self._gp = GaussianProcessSampler(space, seed)
        self._tpe = TreeParzenSampler(space, seed)

    def _start(self, left: int) -> list[Point]:
        if self.space.earlier:
            return []
        kept = min(FEWEST, left // 4)
        rng = np.random.default_rng((self.seed, len(self.space.search)))
        table = design(len(self.space.search), max(left - kept, 1), rng)
        points = [self._point(run, index) for index, run in enumerate(table)]
        known = [self.space.active(point) for point in (self.space.first, *self.space.starts)]
        return _new([self.space.allowed(point) for point in points], known)

    def _point(self, run: np.ndarray, index: int) -> Point:
        point: Point = {}
        for (key, distribution), sign in zip(self.space.search.items(), run, strict=True):
            prior = prior_of(self.space, key)
            point[key] = prior.high if sign > 0 else prior.low
            if isinstance(distribution, CategoricalDistribution) and key not in self.space.priors:
                others = [one for one in distribution.choices if one != self.space.first[key]]
                point[key] = others[index % len(others)] if sign > 0 else self.space.first[key]
        return point

    def _sample(self, history: History, left: int, slots: int) -> list[Point]:
        proposed = len(history.trials) - len(self._all_starts(left + len(history.trials)))
        model = fitted(self.space, history)
        if model is None or proposed >= PROPOSALS:
            later = self._gp if len(history.trials) < FEW else self._tpe
            return later.propose(history, left, slots)
        rng = np.random.default_rng((self.seed, len(history.trials)))
        draws = [model.best()] if proposed == 0 else []
        draws += [model.draw(rng) for _ in range(DRAWS)]
        known = [trial.settings for trial in history.trials]
        points = _new([self.space.allowed(point) for point in draws], known)
        return points[: min(slots, left)] or self._tpe.propose(history, left, slots)

    def _all_starts(self, trials: int) -> list[Point]:
        starts = [self.space.first, *self.space.starts]
        return [*starts, *self._start(trials - len(starts))]


def _new(points: list[Point], known: list[Point]) -> list[Point]:
    """Return the points that differ from the known ones and from each other."""
    new: list[Point] = []
    for point in points:
        if point not in known + new:
            new.append(point)
    return new


def fitted(space: Space, history: History) -> AdditiveModel | None:
    """Return the additive model of a history; None for fewer than three comparable trials.

    The model reads the step that most trials have reached; of equal steps the last. The results of
    an earlier study suffice.
    """
    if space.points or not space.search:
        return None
    results = history.at(most_reached(history))
    late = DEFAULT not in results and not history.default_failed
    if len(results) < 3 or late:
        if not space.earlier:
            return None
        results = {}
    comparison = together(results)
    points = [history.trials[trial].settings for trial in comparison.trials]
    return AdditiveModel(space, points, comparison)
