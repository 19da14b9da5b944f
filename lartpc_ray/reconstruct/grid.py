"""ThresholdGrid: the score of every event at every point, and the choice of the best point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from lartpc_ray.reconstruct.names import Rule
from lartpc_ray.settings import Settings


@dataclass(frozen=True, eq=False)
class ThresholdGrid:
    """The score of each class and event over a grid of thresholds.

    Attributes:
        axes: name of each threshold and its points, in the order of the scores' axes.
        scores: class to (event, point...); a class that no event has is absent.
    """

    axes: dict[str, Float[np.ndarray, " point"]]
    scores: dict[str, Float[np.ndarray, "event ..."]]

    @cached_property
    def means(self) -> dict[str, Float[np.ndarray, ...]]:
        """Return class to the mean over its events."""
        return {name: values.mean(axis=0) for name, values in self.scores.items()}

    def best(self, name: str) -> dict[str, float]:
        """Return the point of highest score; of equal points the nearest to their centre."""
        return self.point(best_index(self.means[name]))

    def best_score(self, name: str) -> float:
        """Return the highest score of a class."""
        return float(self.means[name][best_index(self.means[name])])

    def point(self, index: tuple[int, ...]) -> dict[str, float]:
        """Return the thresholds of the point with this index."""
        named = zip(self.axes.items(), index, strict=True)
        return {axis: float(points[number]) for (axis, points), number in named}


def best_index(score: Float[np.ndarray, ...]) -> tuple[int, ...]:
    """Return the index of the highest score; of equal points the nearest to their centre."""
    equal = np.argwhere(score >= score.max() - 1e-12)
    return _nearest(equal, equal.mean(axis=0))


def _nearest(indices: np.ndarray, centre: np.ndarray) -> tuple[int, ...]:
    nearest = ((indices - centre) ** 2).sum(axis=1).argmin()
    return tuple(int(index) for index in indices[nearest])


class ChoiceSettings(Settings):
    """The rule that chooses a point, and the estimates of its uncertainty."""

    rule: Rule = Field(
        default="robust",
        description="best: highest mean; robust: middle of the resamples' best points",
    )
    resamples: int = Field(default=1000, ge=10, description="bootstrap resamples of the events")
    sigmas: float = Field(
        default=2.0, gt=0, description="a point on the plateau is not worse than the best by more"
    )
    folds: int = Field(default=5, ge=2, description="of the held-out score")
    precision: float = Field(
        default=0.02, gt=0, description="wanted standard error of the score: fewer events warn"
    )
    seed: int = Field(default=0, description="of the resamples and the folds")


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen thresholds of one class, and how well they are known.

    Attributes:
        thresholds: the chosen point.
        interval: axis to the central 68 % of the resamples' best points.
        score: mean score of all events at the point, which was tuned on the same events.
        error: its standard error by the bootstrap.
        held_out: mean score of events that did not take part in the choice (K-fold); None for
            fewer events than folds.
        plateau: the points not worse than the best within `sigmas` (paired over events).
        events: events that have the class.
        enough: number of events that would reach the wanted precision; None if it is reached.
    """

    thresholds: dict[str, float]
    interval: dict[str, tuple[float, float]]
    score: float
    error: float
    held_out: float | None
    plateau: Bool[np.ndarray, ...]
    events: int
    enough: int | None


def choose(grid: ThresholdGrid, name: str, settings: ChoiceSettings) -> Choice:
    """Choose the thresholds of a class.

    Every point sees the same resampled events (paired bootstrap, Efron 1979), so the difficulty
    of single events does not blur the comparison of points.

    Args:
        grid: scores of the events.
        name: a class of the grid.
        settings: the rule and its numbers.
    """
    scores = grid.scores[name]
    count = len(scores)
    rng = np.random.default_rng(settings.seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), settings.resamples) / count
    bests = _bests(scores, weights)
    index = _chosen(scores, bests, settings.rule)
    error = float((weights @ _scores_at(scores, index)).std(ddof=1))
    few = error > settings.precision
    low, high = np.percentile(bests, [16, 84], axis=0, method="nearest")
    interval = {
        axis: (float(points[int(low[number])]), float(points[int(high[number])]))
        for number, (axis, points) in enumerate(grid.axes.items())
    }
    return Choice(
        thresholds=grid.point(index),
        interval=interval,
        score=float(_scores_at(scores, index).mean()),
        error=error,
        held_out=_held_out(scores, settings, rng),
        plateau=_plateau(scores, weights, settings.sigmas),
        events=count,
        enough=int(np.ceil(count * (error / settings.precision) ** 2)) if few else None,
    )


def _scores_at(scores: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """Return the scores of the events at a point."""
    column = np.ravel_multi_index(index, scores.shape[1:])
    return scores.reshape(len(scores), -1)[:, column]


def _bests(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the best point (resample, axis) of each resample."""
    flat = scores.reshape(len(scores), -1)
    return np.array([best_index((row @ flat).reshape(scores.shape[1:])) for row in weights])


def _chosen(scores: np.ndarray, bests: np.ndarray, rule: Rule) -> tuple[int, ...]:
    """Return the best point, or by `robust` the resamples' best point nearest to their median.

    The centre of the plateau would cost 0.01 of the score (docs/notes.md).
    """
    if rule == "best":
        return best_index(scores.mean(axis=0))
    return _nearest(np.unique(bests, axis=0), np.median(bests, axis=0))


def _plateau(scores: np.ndarray, weights: np.ndarray, sigmas: float) -> np.ndarray:
    best = best_index(scores.mean(axis=0))
    worse = _scores_at(scores, best).reshape(-1, *[1] * (scores.ndim - 1)) - scores
    spread = np.tensordot(weights, worse, axes=1).std(axis=0, ddof=1)
    plateau: np.ndarray = worse.mean(axis=0) <= sigmas * spread + 1e-12
    return plateau


def _held_out(
    scores: np.ndarray, settings: ChoiceSettings, rng: np.random.Generator
) -> float | None:
    count = len(scores)
    if count < settings.folds:
        return None
    fold = rng.permutation(count) % settings.folds
    held = np.empty(count)
    for number in range(settings.folds):
        rest = scores[fold != number]
        weights = rng.multinomial(len(rest), np.full(len(rest), 1 / len(rest)), 100) / len(rest)
        index = _chosen(rest, _bests(rest, weights), settings.rule)
        held[fold == number] = _scores_at(scores, index)[fold == number]
    return float(held.mean())


def objective_scores(scores: dict[str, np.ndarray], objective: str) -> np.ndarray:
    """Return (event, point...) of an objective: a metric, or a product as in `purity*efficiency`.

    An event without a value scores 0, because the reconstruction found nothing.
    """
    value = np.ones(())
    for metric in objective.split("*"):
        value = value * np.nan_to_num(scores[metric])
    return np.asarray(value)
