"""Draw the score of a class over its thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid

EDGE = 20
"""Pixels per grid point in the outline of the plateau, which follows the squares."""


def draw_surface(
    path: Path,
    grid: ThresholdGrid,
    name: str,
    choice: Choice,
    untuned: Mapping[str, float],
    objective: str,
) -> None:
    """Draw a class's mean score as a heat map, with the plateau, the chosen and the untuned point.

    Points of the grid are drawn at even distances; p0 has several far below 0.05.
    """
    (vertical, rows), (horizontal, columns) = grid.axes.items()
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(grid.means[name], origin="lower", aspect="auto", cmap="viridis")
    figure.colorbar(image, label=f"mean {objective}")
    fine = np.kron(np.pad(choice.plateau, 1), np.ones((EDGE, EDGE)))
    extent = [-1.5, len(columns) + 0.5, -1.5, len(rows) + 0.5]
    axes.contour(fine, levels=[0.5], colors="white", linewidths=1.2, extent=extent)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.plot([], [], color="white", label="plateau (2σ)")
    _mark_points(axes, grid, choice, untuned)
    for axis, points in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(len(points)), [f"{value:.2g}" for value in points])
    axes.tick_params(axis="x", rotation=90)
    axes.set(xlabel=horizontal, ylabel=vertical, title=f"{name}: {choice.events} events")
    axes.legend(facecolor="0.35", labelcolor="white", fontsize=8)
    figure.savefig(path, dpi=110)


def _mark_points(
    axes: Axes, grid: ThresholdGrid, choice: Choice, untuned: Mapping[str, float]
) -> None:
    """Mark the chosen point with its intervals, and the untuned point."""
    (vertical, rows), (horizontal, columns) = grid.axes.items()
    x, y = _index(columns, choice.thresholds[horizontal]), _index(rows, choice.thresholds[vertical])
    across = [_index(columns, end) for end in choice.interval[horizontal]]
    up = [_index(rows, end) for end in choice.interval[vertical]]
    # lines, not error bars: the chosen point may lie outside of an interval of one axis alone
    axes.plot(across, [y, y], "|-", [x, x], up, "_-", color="red")
    axes.plot(x, y, "o", color="red", label=f"chosen: {choice.score:.3f} ± {choice.error:.3f}")
    if vertical in untuned and horizontal in untuned:
        point = _index(columns, untuned[horizontal]), _index(rows, untuned[vertical])
        axes.plot(*point, "wx", markersize=9, clip_on=False, label="untuned (0, 0.5)")


def draw_curves(
    path: Path, grid: ThresholdGrid, name: str, choice: Choice, means: Mapping[str, np.ndarray]
) -> None:
    """Draw a class's mean scores (point,) over its one threshold, and the chosen point."""
    ((axis, points),) = grid.axes.items()
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for metric, values in means.items():
        axes.plot(points, values, label=metric)
    low, high = choice.interval[axis]
    axes.axvspan(low, high, color="0.85", label="68 % of the resamples' best points")
    axes.axvline(choice.thresholds[axis], color="red", label=f"chosen: {choice.score:.3f}")
    axes.set(xlabel=axis, ylim=(0, 1), title=f"{name}: {choice.events} events")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _index(points: np.ndarray, value: float) -> int:
    return int(np.abs(points - value).argmin())
