"""The true gain of trials over the default, with the choice among all trials counted.

The best of many trials is partly lucky, and a trial that reaches the last step was chosen at each
rung before. The paired difference of the winner to the default is therefore too high on average.
The estimates here condition on all results that had a part in the choice:

    y_ts = m_s + g_ts + e_ts      trial t, step s

m_s is the mean of a step, with a flat prior. g_ts is the true score of a trial less that mean, with
a normal prior of variance q². A share f of q² comes from additive effects of the settings, the rest
from the trial alone. g_ts has a correlation c between two steps, and its size falls as a power of
the steps. e_ts is the noise of the events: its variance and its correlation between two steps are
measured. All tried q, f, c and powers are averaged with the weight of their likelihood. A posterior
that conditions on all results does not depend on the rule by which they led to the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import erf, sqrt

import numpy as np

from lartpc_ray.metrics.paired import PairedDifference
from lartpc_ray.tune.history import DEFAULT, Measurement, compare, score_tables

Results = Mapping[int, Mapping[int, Measurement]]
"""Step to trial to measurement."""
Columns = Mapping[int, np.ndarray]
"""Trial to its settings as numbers, on which effects are linear."""
SIZES = (0.2, 0.4, 0.8, 1.6)
"""Tried standard deviations of true scores at the last step, in those of all results."""
SHARES = (0.5, 0.9)
"""Tried shares of the settings' effects in the variance of true scores."""
LASTING = (0.3, 0.6, 0.9)
"""Tried correlations of the true scores of a trial at two steps."""
FADING = (0.0, 0.5)
"""Tried powers of the steps by which true differences fall."""
EXACT = 1e-3
"""The least noise of a result, in standard deviations of all results."""


@dataclass(frozen=True, eq=False)
class _Observed:
    """The results of all steps in one column, and their noise.

    Attributes:
        trials: (row,) index of the trial.
        steps: (row,) index of the step.
        values: (row,) mean over events and classes, less that of all trials of the step.
        noise: (step, step) covariance of the noise of a trial at two steps.
        scale: (step,) share of the last step.
        related: (row, row) covariance of the settings' effects, of mean variance 1; zeros without
            settings.
    """

    trials: np.ndarray
    steps: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    scale: np.ndarray
    related: np.ndarray

    def row(self, trial: int) -> int:
        """Return the row of a trial at the last step."""
        at_end = self.steps == len(self.scale) - 1
        return int(np.flatnonzero(at_end & (self.trials == trial))[0])


def true_gains(results: Results, columns: Columns | None = None) -> dict[int, PairedDifference]:
    """Estimate the true difference of each trial to the default at the last step.

    Args:
        results: of all steps after which trials were compared.
        columns: settings of each trial; without them each trial is on its own.

    Returns:
        trial that reached the last step to its estimate: the mean and the standard deviation of
        the posterior, and its probability above zero. Empty without the default, without another
        trial, or without scores by event at the last step.

    Example:
        >>> def of(gain):
        ...     scores = {event: 0.5 + gain + 0.1 * (event % 3) for event in range(30)}
        ...     return Measurement(0.5 + gain, {"MIP": scores})
        >>> sorted(true_gains({100: {0: of(0.0), 1: of(0.1), 2: of(0.0)}}))
        [1, 2]
    """
    last = max(results, default=0)
    rivals = sorted(results.get(last, {}).keys() - {DEFAULT})
    if not rivals or DEFAULT not in results[last]:
        return {}
    observed = _observed(results, columns or {})
    if observed is None or observed.scale[-1] < 1:
        return {}
    means, variances, weights = _posteriors(observed, rivals)
    found = {}
    for column, rival in enumerate(rivals):
        mean = float(weights @ means[:, column])
        square = float(weights @ (variances[:, column] + means[:, column] ** 2))
        pairs = zip(means[:, column], variances[:, column], strict=True)
        better = float(weights @ np.array([_above_zero(*pair) for pair in pairs]))
        events = compare(results[last][rival], results[last][DEFAULT]).events
        found[rival] = PairedDifference(mean, sqrt(max(square - mean**2, 0.0)), better, events)
    return found


def _above_zero(mean: float, variance: float) -> float:
    return 0.5 * (1 + erf(mean / sqrt(2 * variance))) if variance > 0 else 0.5


def _observed(results: Results, settings: Columns) -> _Observed | None:
    """Return the results of the steps that two trials or more have reached; None without any."""
    columns: list[tuple[int, int, float]] = []
    residuals: list[dict[int, dict[str, np.ndarray]]] = []
    reached: list[int] = []
    for step in sorted(results):
        trials = sorted(results[step])
        tables = score_tables([results[step][trial].scores for trial in trials])
        if len(trials) < 2 or not tables:
            continue
        values = np.mean([table.mean(axis=1) for table in tables.values()], axis=0)
        values -= values.mean()
        columns += [
            (trial, len(reached), float(value)) for trial, value in zip(trials, values, strict=True)
        ]
        residuals.append(_residuals(trials, tables))
        reached.append(step)
    if not reached:
        return None
    of_trial, of_step, values = (np.array(column) for column in zip(*columns, strict=True))
    scale = np.array(reached, float) / max(results)
    related = _related(of_trial, settings)
    return _Observed(of_trial, of_step, values, _noise(residuals), scale, related)


def _related(trials: np.ndarray, settings: Columns) -> np.ndarray:
    rows = [settings[int(trial)] for trial in trials if int(trial) in settings]
    if len(rows) < len(trials):
        return np.zeros((len(trials), len(trials)))
    products = np.array(rows) @ np.array(rows).T
    return np.asarray(products / (float(np.diag(products).mean()) or 1.0))


def _residuals(
    trials: list[int], tables: Mapping[str, np.ndarray]
) -> dict[int, dict[str, np.ndarray]]:
    """Return trial to class to what trial and event leave of a score; its squares add up to v.

    v is the variance of the trial's value. Of k trials each residual has (k - 1) / k of it.
    """
    found: dict[int, dict[str, np.ndarray]] = {trial: {} for trial in trials}
    for name, table in tables.items():
        count, events = table.shape
        left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        left *= sqrt(count / (count - 1) / (events * (events - 1))) / len(tables)
        for trial, row in zip(trials, left, strict=True):
            found[trial][name] = row
    return found


def _noise(residuals: list[dict[int, dict[str, np.ndarray]]]) -> np.ndarray:
    """Return (step, step) covariances, from the trials that have both steps."""
    count = len(residuals)
    spread = np.array(
        [
            sqrt(np.mean([sum(row @ row for row in one.values()) for one in of_step.values()]))
            for of_step in residuals
        ]
    )
    correlation = np.eye(count)
    for one, other in product(range(count), range(count)):
        if one != other:
            correlation[one, other] = _correlation(residuals[one], residuals[other])
    return np.asarray(_possible(correlation) * np.outer(spread, spread))


def _possible(correlation: np.ndarray) -> np.ndarray:
    """Return correlations that some noise can have.

    Each pair of steps is measured on other trials. With few events the correlations can exclude
    each other: then the matrix has a negative eigenvalue, which is set to 0.
    """
    values, vectors = np.linalg.eigh(correlation)
    if values[0] >= 0:
        return correlation
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _correlation(
    one: dict[int, dict[str, np.ndarray]], other: dict[int, dict[str, np.ndarray]]
) -> float:
    products = np.zeros(3)
    for trial in one.keys() & other.keys():
        for name in one[trial].keys() & other[trial].keys():
            first, second = one[trial][name], other[trial][name]
            if len(first) == len(second):
                products += first @ second, first @ first, second @ second
    size = sqrt(products[1] * products[2])
    return float(products[0] / size) if size > 0 else 0.0


def _posteriors(
    observed: _Observed, rivals: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (prior, rival) means and variances of the gains, and (prior,) weights."""
    rows = [observed.row(trial) for trial in rivals]
    shares = SHARES if observed.related.any() else (0.0,)
    one_step = len(observed.scale) == 1
    lasting, fading = (LASTING[:1], FADING[:1]) if one_step else (LASTING, FADING)
    priors = product(SIZES, shares, lasting, fading)
    found = [_posterior(observed, rows, *prior) for prior in priors]
    logs = np.array([log for _, _, log in found])
    weights = np.exp(logs - logs.max())
    return (
        np.array([mean for mean, _, _ in found]),
        np.array([variance for _, variance, _ in found]),
        weights / weights.sum(),
    )


def _posterior(
    observed: _Observed, rows: list[int], size: float, share: float, lasting: float, fading: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return mean and variance of the gain of each row over the default, and the log likelihood."""
    of_step, noise = observed.steps, observed.noise
    same_step = of_step[:, None] == of_step
    same_trial = observed.trials[:, None] == observed.trials
    spread = float(observed.values.std()) or 1.0
    width = size * spread * observed.scale[of_step] ** -fading
    true = (share * observed.related + (1 - share) * same_trial) * np.outer(width, width)
    true *= np.where(same_step, 1.0, lasting)
    covariance = true + same_trial * noise[of_step[:, None], of_step]
    covariance += same_step * (10 * spread) ** 2
    covariance[np.diag_indices(len(covariance))] += (EXACT * spread) ** 2
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, observed.values)
    default = observed.row(DEFAULT)
    known = np.linalg.solve(factor, (true[rows] - true[default]).T)
    prior = np.diag(true)[rows] + true[default, default] - 2 * true[rows, default]
    variance = np.maximum(prior - np.square(known).sum(axis=0), 0.0)
    log = -float(np.log(np.diag(factor)).sum()) - float(white @ white) / 2
    return known.T @ white, variance, log
