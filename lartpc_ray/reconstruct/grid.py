"""ThresholdGrid: named axes, their points, and the best point of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class ThresholdGrid:
    """The mean score of each class over a grid of thresholds.

    Attributes:
        axes: name of each threshold and its points, in the order of the scores' axes.
        scores: class to its mean score, one axis a threshold; a class without a score is absent.
        events: class to the number of events that have it.
    """

    axes: dict[str, Float[np.ndarray, " point"]]
    scores: dict[str, np.ndarray]
    events: dict[str, int]

    def best(self, name: str) -> dict[str, float]:
        """The point of highest score; of several equal ones the one nearest to their centre."""
        place = self._best_place(name)
        return {
            axis: float(points[index])
            for (axis, points), index in zip(self.axes.items(), place, strict=True)
        }

    def best_score(self, name: str) -> float:
        """The highest score of a class."""
        return float(self.scores[name][self._best_place(name)])

    def _best_place(self, name: str) -> tuple[int, ...]:
        score = self.scores[name]
        equal = np.argwhere(score >= score.max() - 1e-12)
        middle = ((equal - equal.mean(axis=0)) ** 2).sum(axis=1).argmin()
        return tuple(int(index) for index in equal[middle])
