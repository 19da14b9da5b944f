"""ThresholdGrid: the score of every event at every point, and the choice of the best point."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lartpc_ray.reconstruct.names import Rule
from lartpc_ray.reconstruct.resampling import ChoiceSettings, Resamples, ScoreSums, resample


@dataclass(frozen=True, eq=False)
class ThresholdGrid:
    """The score of each class and event over a grid of thresholds.

    Attributes:
        axes: name of each threshold and its points, in the order of the scores' axes.
        scores: class to (event, point...); a class that no event has is absent.
        sums: class to sums over its events, for classes with too many events to keep each.
        events: class to the numbers of its events in their split; empty if unknown.
    """

    axes: dict[str, Float[np.ndarray, " point"]]
    scores: dict[str, Float[np.ndarray, "event ..."]]
    sums: dict[str, ScoreSums] = field(default_factory=dict)
    events: dict[str, list[int]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the classes."""
        return [*self.scores, *self.sums]

    @cached_property
    def means(self) -> dict[str, Float[np.ndarray, ...]]:
        """Return class to the mean over its events."""
        means = {name: values.mean(axis=0) for name, values in self.scores.items()}
        return means | {name: sums.resamples().mean for name, sums in self.sums.items()}

    def resamples(self, name: str, settings: ChoiceSettings) -> Resamples:
        """Return the means of resampled events of a class."""
        if name in self.sums:
            return self.sums[name].resamples()
        return resample(self.scores[name], settings)

    def best(self, name: str) -> dict[str, float]:
        """Return the point of highest score; of equal points the nearest to their centre."""
        return self.point(best_index(self.means[name]))

    def best_score(self, name: str) -> float:
        """Return the highest score of a class."""
        return float(self.means[name][best_index(self.means[name])])

    def event_scores(self, name: str) -> dict[int, float]:
        """Return event to score at the point of highest mean score."""
        index: tuple[Any, ...] = best_index(self.means[name])
        values = self.scores[name][(slice(None), *index)]
        return dict(zip(self.events[name], map(float, values), strict=True))

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


def seed_plane(grid: ThresholdGrid, name: str, choice: Choice) -> tuple[ThresholdGrid, Choice]:
    """Return the mean score of a class over s0 and p0, with all other thresholds as chosen.

    A grid without s0 is returned as it is.

    Example:
        >>> axes = {"s0": np.array([0.0, 1.0]), "p0": np.array([0.5]), "eps": np.array([2.0, 3.0])}
        >>> grid = ThresholdGrid(axes, {"MIP": np.array([[[[0.1, 0.2]], [[0.3, 0.4]]]])})
        >>> chosen = {"s0": 0.0, "p0": 0.5, "eps": 3.0}
        >>> choice = Choice(chosen, {}, 0.2, 0.0, None, np.ones((2, 1, 2), bool), 1, None)
        >>> plane, _ = seed_plane(grid, "MIP", choice)
        >>> plane.means["MIP"].tolist()
        [[0.2], [0.4]]
    """
    if "s0" not in grid.axes:
        return grid, choice
    kept = ("s0", "p0")
    index = tuple(
        slice(None) if axis in kept else int(np.abs(points - choice.thresholds[axis]).argmin())
        for axis, points in grid.axes.items()
    )
    axes = {axis: points for axis, points in grid.axes.items() if axis in kept}
    plane = ThresholdGrid(axes, {name: grid.means[name][index][None]})
    return plane, replace(choice, plateau=choice.plateau[index])


def choose(grid: ThresholdGrid, name: str, settings: ChoiceSettings) -> Choice:
    """Choose the thresholds of a class.

    Every point sees the same resampled events (paired bootstrap, Efron 1979), so the difficulty
    of single events does not blur the comparison of points.

    Args:
        grid: scores of the events.
        name: a class of the grid.
        settings: the rule and its numbers.
    """
    samples = grid.resamples(name, settings)
    bests = _bests(samples.replicates)
    index = _chosen(samples.mean, bests, settings.rule)
    error = float(samples.at(index).std(ddof=1))
    few = error > settings.precision
    low, high = np.percentile(bests, [16, 84], axis=0, method="nearest")
    interval = {
        axis: (float(points[int(low[number])]), float(points[int(high[number])]))
        for number, (axis, points) in enumerate(grid.axes.items())
    }
    return Choice(
        thresholds=grid.point(index),
        interval=interval,
        score=float(samples.mean[index]),
        error=error,
        held_out=_held_out(samples, settings.rule),
        plateau=_plateau(samples, settings.sigmas),
        events=samples.events,
        enough=int(np.ceil(samples.events * (error / settings.precision) ** 2)) if few else None,
    )


def _bests(replicates: np.ndarray) -> np.ndarray:
    """Return the best point (resample, axis) of each resample."""
    return np.array([best_index(means) for means in replicates])


def _chosen(mean: np.ndarray, bests: np.ndarray, rule: Rule) -> tuple[int, ...]:
    """Return the best point, or by `robust` the resamples' best point nearest to their median.

    The centre of the plateau would cost 0.01 of the score (docs/notes.md).
    """
    if rule == "best":
        return best_index(mean)
    return _nearest(np.unique(bests, axis=0), np.median(bests, axis=0))


def _plateau(samples: Resamples, sigmas: float) -> np.ndarray:
    best = best_index(samples.mean)
    at_best = samples.at(best).reshape(-1, *[1] * samples.mean.ndim)
    spread = (at_best - samples.replicates).std(axis=0, ddof=1)
    plateau: np.ndarray = samples.mean[best] - samples.mean <= sigmas * spread + 1e-12
    return plateau


def _held_out(samples: Resamples, rule: Rule) -> float | None:
    """Return the mean score of the events at the points that the other folds choose."""
    if not samples.folds:
        return None
    total = sum(
        fold.events * fold.held[_chosen(fold.mean, _bests(fold.replicates), rule)]
        for fold in samples.folds
    )
    return float(total / samples.events)


def objective_scores(scores: dict[str, np.ndarray], objective: str) -> np.ndarray:
    """Return (event, point...) of an objective: a metric, or a product as in `purity*efficiency`.

    An event without a value scores 0, because the reconstruction found nothing.
    """
    value = np.ones(())
    for metric in objective.split("*"):
        value = value * np.nan_to_num(scores[metric])
    return np.asarray(value)
