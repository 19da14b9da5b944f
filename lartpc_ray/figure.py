"""Pictures: the score over the threshold grid of a class; what Michel electrons were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.metrics.michel import Match
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid

EDGE = 20
"""Pixels a grid point has in the outline of the plateau, so that it follows the squares."""


def draw_surface(
    path: Path,
    grid: ThresholdGrid,
    name: str,
    choice: Choice,
    published: Mapping[str, float],
    goal: str,
) -> None:
    """Draw a class's mean score as a heat map, with the plateau, the chosen and the untuned point.

    Points of the grid lie at even distances, whatever their values: p0 has some far below 0.05.
    """
    (vertical, rows), (horizontal, columns) = grid.axes.items()
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(grid.means[name], origin="lower", aspect="auto", cmap="viridis")
    figure.colorbar(image, label=f"mean {goal}")
    fine = np.kron(np.pad(choice.plateau, 1), np.ones((EDGE, EDGE)))
    reach = [-1.5, len(columns) + 0.5, -1.5, len(rows) + 0.5]
    axes.contour(fine, levels=[0.5], colors="white", linewidths=1.2, extent=reach)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.plot([], [], color="white", label="plateau (2σ)")
    ends = [choice.interval[axis] for axis in (horizontal, vertical)]
    (left, right), (low, high) = (
        (_place(points, a), _place(points, b))
        for points, (a, b) in zip((columns, rows), ends, strict=True)
    )
    x, y = _place(columns, choice.at[horizontal]), _place(rows, choice.at[vertical])
    # lines, not error bars: the chosen point may lie outside of an interval of one axis alone
    axes.plot([left, right], [y, y], "|-", [x, x], [low, high], "_-", color="red")
    axes.plot(x, y, "o", color="red", label=f"chosen: {choice.score:.3f} ± {choice.error:.3f}")
    if vertical in published and horizontal in published:
        axes.plot(
            _place(columns, published[horizontal]), _place(rows, published[vertical]), "wx",
            markersize=9, clip_on=False, label="untuned (0, 0.5)",
        )  # fmt: skip
    for axis, points in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(len(points)), [f"{value:.2g}" for value in points])
    axes.tick_params(axis="x", rotation=90)
    axes.set(xlabel=horizontal, ylabel=vertical, title=f"{name}: {choice.events} events")
    axes.legend(facecolor="0.35", labelcolor="white", fontsize=8)
    figure.savefig(path, dpi=110)


def draw_curves(
    path: Path, grid: ThresholdGrid, name: str, choice: Choice, scores: Mapping[str, np.ndarray]
) -> None:
    """Draw a class's mean scores (event, point) over its one threshold, and the chosen point."""
    ((axis, points),) = grid.axes.items()
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for metric, values in scores.items():
        axes.plot(points, np.nan_to_num(values).mean(axis=0), label=metric)
    low, high = choice.interval[axis]
    axes.axvspan(low, high, color="0.85", label="68 % of the resamples' best points")
    axes.axvline(choice.at[axis], color="red", label=f"chosen: {choice.score:.3f}")
    axes.set(xlabel=axis, ylim=(0, 1), title=f"{name}: {choice.events} events")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def draw_confusion(
    path: Path, shares: Float[np.ndarray, "true found"], true: Sequence[str], found: Sequence[str]
) -> None:
    """Draw which share of the voxels of each true class was found as which."""
    figure = Figure(figsize=(5.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the true class")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(found)), found)
    axes.set_yticks(range(len(true)), true)
    axes.set(xlabel="found", ylabel="true", title="confusion, test split")
    figure.savefig(path, dpi=110)


def draw_michels(path: Path, matches: Sequence[Match]) -> None:
    """Draw the energies and the sizes of matched Michel electrons, found beside true.

    The spectrum ends at 52.8 MeV, less what photons carry away (Dominé & Terao 2020, VII).
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, sizes = figure.subplots(1, 2)
    bins = np.linspace(0, 60, 31).tolist()
    spectrum.hist([one.true_energy for one in matches], bins, histtype="step", label="true")
    spectrum.hist([one.found_energy for one in matches], bins, histtype="step", label="found")
    spectrum.set(xlabel="energy of the cluster [MeV]", ylabel="Michel electrons")
    spectrum.legend()
    sizes.plot([one.true for one in matches], [one.found for one in matches], ".", alpha=0.6)
    largest = max((max(one.true, one.found) for one in matches), default=1)
    sizes.plot([0, largest], [0, largest], color="0.6", linewidth=1)
    sizes.set(xlabel="true voxels", ylabel="found voxels", title=f"{len(matches)} matched")
    figure.savefig(path, dpi=110)


def _place(points: np.ndarray, value: float) -> int:
    return int(np.abs(points - value).argmin())
