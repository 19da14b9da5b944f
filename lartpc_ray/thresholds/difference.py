"""The difference of tuned thresholds from those that a run uses, on the same events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid
from lartpc_ray.reconstruct.resampling import ChoiceSettings


@dataclass(frozen=True)
class Difference:
    """The score of a class at the tuned thresholds minus that at the used ones.

    Attributes:
        used: the thresholds in use.
        compared: the point of the grid nearest to them, which is scored.
        difference: of the mean scores over the events.
        error: standard error of the difference, paired over the events.
    """

    used: dict[str, float]
    compared: dict[str, float]
    difference: float
    error: float


def compare(
    grid: ThresholdGrid, choices: Mapping[str, Choice], used: Mapping[str, Mapping[str, Any]]
) -> dict[str, Difference]:
    """Compare the chosen point of each class with the thresholds that a run uses.

    Args:
        grid: scores of the events.
        choices: class to the chosen point.
        used: class to its row in the thresholds file of the run.
    """
    differences = {}
    for name, choice in choices.items():
        if name in used and all(axis in used[name] for axis in grid.axes):
            point = {axis: float(used[name][axis]) for axis in grid.axes}
            samples = grid.resamples(name, ChoiceSettings())
            here, there = (_index(grid, values) for values in (choice.thresholds, point))
            spread = (samples.at(here) - samples.at(there)).std(ddof=1)
            gained = float(samples.mean[here] - samples.mean[there])
            differences[name] = Difference(point, grid.point(there), gained, float(spread))
    return differences


def _index(grid: ThresholdGrid, point: Mapping[str, float]) -> tuple[int, ...]:
    """Return the index of the grid point that is nearest along each axis."""
    axes = grid.axes.items()
    return tuple(int(np.abs(points - point[axis]).argmin()) for axis, points in axes)
