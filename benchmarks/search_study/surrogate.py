"""A model of the recorded trainings: true scores of any point at each length, noise and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from scipy.optimize import minimize

from search_study.points import encode, is_ordered
from search_study.trainings import Training, class_means

GROUPS = ("linear", "quadratic", "pair", "choice", "choice x linear")
START_WIDTH = 0.02
"""Prior standard deviation of an effect, where the search for the likeliest one begins."""
INTERCEPT_WIDTH = 10.0


@dataclass(frozen=True, eq=False)
class Basis:
    """Features of a point: main effects, curvatures and interactions around the default.

    Attributes:
        search: path to distribution.
        default: position of the default in the unit cube.
    """

    search: Mapping[str, BaseDistribution]
    default: np.ndarray

    def features(self, cube: np.ndarray) -> np.ndarray:
        """Return (feature,) of a position; the default has only the intercept."""
        ordered = [number for number, kind in enumerate(self.search.values()) if is_ordered(kind)]
        z = 2 * (cube - self.default)[ordered]
        choices = np.concatenate([*self._choices(cube), np.zeros(0)])
        pairs = [z[a] * z[b] for a, b in combinations(range(len(z)), 2)]
        return np.concatenate([[1.0], z, z**2, pairs, choices, np.outer(choices, z).ravel()])

    def _choices(self, cube: np.ndarray) -> list[np.ndarray]:
        found = []
        for number, kind in enumerate(self.search.values()):
            if not is_ordered(kind):
                one = np.zeros(len(kind.choices))  # type: ignore[attr-defined]
                one[int(cube[number])] = 1.0
                found.append(np.delete(one, int(self.default[number])))
        return found

    def groups(self) -> np.ndarray:
        """Return (feature,) the number of its group in `GROUPS`; -1 for the intercept."""
        numbers = sum(is_ordered(kind) for kind in self.search.values())
        choices = sum(map(len, self._choices(self.default)))
        counts = [numbers, numbers, numbers * (numbers - 1) // 2, choices, choices * numbers]
        return np.repeat(np.arange(-1, len(GROUPS)), [1, *counts])


@dataclass(frozen=True, eq=False)
class Noise:
    """The spread of measured scores, at each length.

    Attributes:
        seed: (length, length) covariance of what the training seed changes.
        event: standard deviation of one class of one event of one network, the difficulty of the
            event taken out.
        event_correlation: (length, length) of that over the lengths of a training.
    """

    seed: np.ndarray
    event: float
    event_correlation: np.ndarray


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The model that is fitted to the recorded trainings.

    Attributes:
        basis: of the features.
        first: settings of the default.
        steps: (length,) of the recorded trainings.
        mean: (feature, length) of the effects.
        factor: Cholesky factor of the covariance of `mean`, flattened.
        noise: of a measurement.
        cost: coefficients of the logarithm of the seconds, of the main effects.
        widths: prior standard deviation of each group of effects.
    """

    basis: Basis
    first: Mapping[str, Any]
    steps: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    noise: Noise
    cost: np.ndarray
    widths: dict[str, float]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return (feature, length) effects, one of those that the trainings allow."""
        normal = rng.normal(size=len(self.factor))
        return self.mean + (self.factor @ normal).reshape(self.mean.shape)

    def relative_cost(self, cube: np.ndarray) -> float:
        """Return the seconds of a training in units of those of the default."""
        count = int((self.basis.groups() == 0).sum())
        return float(np.exp(self.basis.features(cube)[1 : 1 + count] @ self.cost))


def fit(
    search: Mapping[str, BaseDistribution],
    first: Mapping[str, Any],
    trainings: Sequence[Training],
) -> Surrogate:
    """Fit the model to the trainings of full length.

    The effects of a group have one prior width, the likeliest for the scores at the last length
    (empirical Bayes). Effects at two lengths are correlated as the scores of the trainings are.
    """
    rows = [one for one in trainings if one.kind != "longer"]
    basis = Basis(search, encode(search, first))
    features = np.stack([basis.features(encode(search, one.settings)) for one in rows])
    curves = np.stack([class_means(one.scores) for one in rows])
    widths, spread = likeliest_widths(features, curves[:, -1], basis.groups())
    noise = measure_noise(rows, spread)
    total = spread**2 * noise.event_correlation
    mean, factor = _posterior(features, curves, _prior(basis, widths), total)
    numbers = int((basis.groups() == 0).sum())
    seconds = np.log([one.seconds[-1] for one in rows])
    cost = np.linalg.lstsq(features[:, : 1 + numbers], seconds, rcond=None)[0][1:]
    named = dict(zip(GROUPS, map(float, widths), strict=True))
    return Surrogate(basis, first, rows[0].steps, mean, factor, noise, cost, named)


def _prior(basis: Basis, widths: np.ndarray) -> np.ndarray:
    """Return (feature,) prior variances."""
    return np.asarray(np.append(widths, INTERCEPT_WIDTH)[basis.groups()] ** 2)


def likeliest_widths(
    features: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the width of each group and the spread of the noise of the highest evidence."""
    centred = scores - np.median(scores)

    def negative_evidence(logs: np.ndarray) -> float:
        variances = np.append(np.exp(2 * logs[:-1]), INTERCEPT_WIDTH**2)[groups]
        covariance = (features * variances) @ features.T
        covariance[np.diag_indices(len(covariance))] += np.exp(2 * logs[-1])
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, centred)
        return float(white @ white / 2 + np.log(np.diag(factor)).sum())

    start = np.log(np.full(groups.max() + 2, START_WIDTH))
    bounds = [(np.log(1e-4), np.log(1.0))] * (len(start) - 1) + [(np.log(2e-3), np.log(0.1))]
    best = minimize(negative_evidence, start, bounds=bounds, method="L-BFGS-B").x
    return np.exp(best[:-1]), float(np.exp(best[-1]))


def _posterior(
    features: np.ndarray, curves: np.ndarray, prior: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the effects (feature, length) and a factor of their covariance."""
    lengths = _length_covariance(curves, noise)
    likelihood = np.kron(features.T @ features, np.linalg.inv(noise))
    precision = likelihood + np.kron(np.diag(1 / prior), np.linalg.inv(lengths))
    right = (features.T @ curves @ np.linalg.inv(noise)).ravel()
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(factor.T, np.linalg.solve(factor, right))
    return mean.reshape(features.shape[1], -1), np.linalg.inv(factor).T


def _length_covariance(curves: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the covariance of true scores over the lengths, in units of that of the last one."""
    middle = curves - np.median(curves, axis=0)
    values, vectors = np.linalg.eigh(np.cov(middle.T) - noise)
    positive = (vectors * np.maximum(values, 1e-3 * values.max())) @ vectors.T
    return np.asarray(positive / positive[-1, -1])


def measure_noise(trainings: Sequence[Training], spread: float) -> Noise:
    """Measure the noise: that of events from their residuals, the rest is of the seeds.

    Args:
        trainings: scored on the same events.
        spread: standard deviation of the noise of a mean over all events, at the last length.
    """
    scores = np.stack([one.scores for one in trainings]).astype(float)
    scores = scores[:, :, :, np.nanstd(scores[:, -1], axis=(0, 1)) > 0]
    residual = scores - scores.mean(axis=0) - np.nanmean(scores, axis=2, keepdims=True)
    residual += np.nanmean(scores, axis=(0, 2), keepdims=True)
    known = np.isfinite(residual[0, 0])
    variance = np.array([[np.nanvar(residual[:, -1, :, c], ddof=1)] for c in range(known.shape[1])])
    of_mean = float((variance[:, 0] / known.sum(axis=0)).sum() / scores.shape[3] ** 2)
    flat = residual[:, :, known].swapaxes(0, 1).reshape(scores.shape[1], -1)
    correlation = np.corrcoef(flat)
    rest = max(spread**2 - of_mean, (spread / 3) ** 2)
    return Noise(rest * correlation, float(np.sqrt(variance.mean())), correlation)
