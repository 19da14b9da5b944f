"""An additive model of the objective: each setting has an effect of its own, with an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import log
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lartpc_ray.trials.effects import Effect
from lartpc_ray.trials.space import Prior, Space, nearest_value
from lartpc_ray.tune.history import Comparison

REACH = 1.5
"""A setting farther from the prior than so many of its widths counts as this far."""
LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Values that `best` tries for a number, in widths of the prior."""
SCALES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Tried sizes of effects and of their scatter, in standard deviations of the results."""
DRIFTS = (0.25, 1.0, 4.0, 100.0)
"""Tried variances of the change of an effect since an earlier study, in variances of effects."""


def prior_of(space: Space, key: str) -> Prior:
    """Return the prior of a setting; by default its value in trial 0, half way to each bound.

    For a choice, by default, its option in trial 0 and the next option.
    """
    if key in space.priors:
        return space.priors[key]
    distribution, first = space.search[key], space.first[key]
    if isinstance(distribution, CategoricalDistribution):
        options = list(distribution.choices)
        return Prior(first, options[(options.index(first) + 1) % len(options)])
    low, high = (coordinate(distribution, end) for end in _bounds(distribution))
    centre = coordinate(distribution, first)
    width = max(high - centre, centre - low) / 2
    if isinstance(distribution, IntDistribution):
        width = max(width, log(1 + 1 / first) if distribution.log else distribution.step)
    elif isinstance(distribution, FloatDistribution) and distribution.step:
        width = max(width, distribution.step)
    return Prior(*(number(distribution, centre + sign * width) for sign in (-1, 1)))


def _bounds(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def coordinate(distribution: BaseDistribution, value: float) -> float:
    """Return a number on the scale of its distribution: its logarithm, or the number itself."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return log(value) if distribution.log else float(value)


def number(distribution: BaseDistribution, place: float) -> float:
    """Return the allowed number nearest to a place on the scale of its distribution.

    Example:
        >>> number(IntDistribution(4, 10, step=2), 7.2)
        8
    """
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return nearest_value(distribution, float(np.exp(place)) if distribution.log else place)


class Coding:
    """Turn points of a space into columns of numbers.

    A number has one column, in widths of its prior from the prior's centre; a choice has a column
    for each option but that of trial 0. The last column is the mean square of the first kind: the
    curvature that all numbers share.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.columns: list[tuple[str, Any]] = []
        self._scales: dict[str, tuple[float, float]] = {}
        for key, distribution in space.search.items():
            if isinstance(distribution, CategoricalDistribution):
                others = [one for one in distribution.choices if one != space.first[key]]
                self.columns += [(key, option) for option in others]
            else:
                prior = prior_of(space, key)
                ends = [coordinate(distribution, value) for value in (prior.low, prior.high)]
                self._scales[key] = (sum(ends) / 2, max(abs(ends[1] - ends[0]) / 2, 1e-9))
                self.columns.append((key, None))

    def row(self, point: Mapping[str, Any]) -> np.ndarray:
        """Return the columns of a point; a setting without effect counts as in trial 0."""
        point = {**self.space.first, **point}
        row = [
            self._distance(key, point[key]) if key in self._scales else float(point[key] == option)
            for key, option in self.columns
        ]
        numbers = [
            row[index] ** 2 for index, (key, _) in enumerate(self.columns) if key in self._scales
        ]
        return np.array([*row, float(np.mean(numbers)) if numbers else 0.0])

    def _distance(self, key: str, value: Any) -> float:
        centre, width = self._scales[key]
        place = (coordinate(self.space.search[key], value) - centre) / width
        return min(max(place, -REACH), REACH)

    def options(self, key: str) -> list[Any]:
        """Return the values of a setting among which `AdditiveModel.best` chooses."""
        distribution = self.space.search[key]
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        centre, width = self._scales[key]
        values = [number(distribution, centre + level * width) for level in LEVELS]
        return list(dict.fromkeys(values))


def coded(space: Space, points: Mapping[int, Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Return the columns of the settings of each trial; none for a space without a search."""
    if not space.search:
        return {}
    coding = Coding(space)
    return {trial: coding.row(point) for trial, point in points.items()}


class AdditiveModel:
    """Bayesian linear regression on the columns of `Coding`.

    The results are y = m + X b + d + e: b has the prior N(0, s²), the lack of fit d of a point
    N(0, t²), the noise e the measured variances. s and t maximise the marginal likelihood over a
    grid. A ridge regression gives the same means.

    Results of an earlier study have a mean of their own, and effects b + c with c from N(0, r s²).
    r maximises the same likelihood: results that contradict the present ones count for little.

    Args:
        space: of the points, with the results of the earlier study, if there is one.
        points: settings of each result.
        comparison: the results, in the same order.
    """

    def __init__(
        self, space: Space, points: Sequence[Mapping[str, Any]], comparison: Comparison
    ) -> None:
        self.coding = Coding(space)
        self._count = len(points)
        earlier = space.earlier.trials if space.earlier else []
        every = [*points, *(trial.settings for trial in earlier)]
        self._rows = np.array([self.coding.row(point) for point in every])
        self._values = np.array([*comparison.values, *(trial.value for trial in earlier)])
        self._noise = np.array([*comparison.variances, *(trial.variance for trial in earlier)])
        self._earlier = np.arange(len(every)) >= self._count
        spread = float(self._values.std()) or 1e-9
        grid = product(SCALES, SCALES, DRIFTS if earlier else DRIFTS[:1])
        size, scatter, drift = max(
            grid, key=lambda three: self._likelihood(three[0], three[1], three[2], spread)
        )
        self._scatter = (scatter * spread) ** 2
        self._fit((size * spread) ** 2, drift, spread)

    def _covariance(self, size: float, scatter: float, drift: float, spread: float) -> np.ndarray:
        """Return the covariance of the results; `drift` and the means separate the two studies."""
        same = self._earlier[:, None] == self._earlier
        changes = drift * np.outer(self._earlier, self._earlier)
        effects = size * (1 + changes) * (self._rows @ self._rows.T)
        return np.asarray(effects + np.diag(self._noise + scatter) + same * (10 * spread) ** 2)

    def _likelihood(self, size: float, scatter: float, drift: float, spread: float) -> float:
        matrix = self._covariance((size * spread) ** 2, (scatter * spread) ** 2, drift, spread)
        _, determinant = np.linalg.slogdet(matrix)
        return -float(determinant) - float(self._values @ np.linalg.solve(matrix, self._values))

    def _fit(self, size: float, drift: float, spread: float) -> None:
        inverse = np.linalg.inv(self._covariance(size, self._scatter, drift, spread))
        gain = size * self._rows.T @ inverse
        self.mean = gain @ self._values
        self.covariance = size * np.eye(len(self.mean)) - size * gain @ self._rows

    def gain(self, point: Mapping[str, Any]) -> tuple[float, float]:
        """Return the expected objective of a point less that of trial 0, and its error."""
        change = self.coding.row(point) - self.coding.row(self.coding.space.first)
        return float(change @ self.mean), float(np.sqrt(max(change @ self.covariance @ change, 0)))

    def estimates(self) -> np.ndarray:
        """Return the value of each result, with its noise reduced by the model.

        The part of a result that the model does not explain counts as far as it exceeds the noise.
        """
        rows, values = self._rows[: self._count], self._values[: self._count]
        expected = rows @ self.mean
        offset = float(np.mean(values - expected))
        left = values - expected - offset
        trust = self._scatter / (self._scatter + self._noise[: self._count])
        return np.asarray(expected + offset + trust * left)

    def best(self, weights: np.ndarray | None = None) -> dict[str, Any]:
        """Return the point of highest expected objective, or that of other weights of the columns.

        Coordinate by coordinate until nothing changes, from trial 0.
        """
        weights = self.mean if weights is None else weights
        space = self.coding.space
        point = dict(space.first)
        for _ in range(5):
            before = dict(point)
            for key in space.search:
                values = [point[key], *self.coding.options(key)]
                worth = [self.coding.row({**point, key: value}) @ weights for value in values]
                point[key] = values[int(np.argmax(worth))]
            if point == before:
                break
        return point

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return the best point of weights that are drawn from their distribution (Thompson)."""
        return self.best(rng.multivariate_normal(self.mean, self.covariance, method="eigh"))

    def effects(self) -> list[Effect]:
        """Return the effect of each setting, the largest in units of its error first."""
        found = []
        for key, option in self.coding.columns:
            prior = prior_of(self.coding.space, key)
            first = self.coding.space.first
            low, high = (first[key], option) if option is not None else (prior.low, prior.high)
            rows = [self.coding.row({**first, key: value}) for value in (low, high)]
            change = rows[1] - rows[0]
            error = float(np.sqrt(max(change @ self.covariance @ change, 0)))
            found.append(Effect(key, low, high, float(change @ self.mean), error))
        return sorted(found, key=lambda effect: -abs(effect.change) / (effect.error or 1))
