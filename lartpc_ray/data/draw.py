"""Draw an event: an interactive plotly figure, and the same views as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from plotly import graph_objects as plotly

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.views import GREY, View, views

MAX_VOXELS = 70_000
"""Voxels of an event that are drawn, those of most energy: the page stays below 10 MB."""


def draw(
    event: Event, predicted: Event | np.ndarray | None = None, *, title: str | None = None
) -> plotly.Figure:
    """Draw an event as an interactive figure with a button per view, for example in a notebook.

    The views are energy, class and true cluster and, with `predicted`, predicted cluster in the
    colours of the true clusters. Of a very large event the voxels of most energy are drawn.

    Args:
        event: a 2D or 3D event.
        predicted: (voxel,) predicted clusters, -1 none; or the same event with predicted clusters,
            as `predict` returns it.
        title: the title; by default the numbers of voxels and the energy.

    Raises:
        ValueError: if `predicted` is another event or has another length.

    Example:
        >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (8, 8, 8))
        >>> figure = draw(event, np.array([0]))
        >>> [button.label for button in figure.layout.updatemenus[0].buttons]
        ['energy', 'class', 'true cluster', 'predicted cluster']
    """
    drawn, clusters = brightest(event), None
    if predicted is not None:
        if not isinstance(predicted, Event):
            predicted = replace(event, cluster=np.asarray(predicted, np.int32))
        clusters = match_voxels(drawn, predicted)
    return make_figure(drawn, title or describe(event), views(drawn, clusters=clusters))


def describe(event: Event) -> str:
    """Return the number of voxels and the energy in a line."""
    unit = "MeV" if len(event.shape) == 3 else "ADC counts"
    text = f"{len(event)} voxels, {event.energy.sum():.0f} {unit}"
    return text + f" (drawn: the {MAX_VOXELS} of most energy)" * (len(event) > MAX_VOXELS)


def match_voxels(event: Event, other: Event) -> np.ndarray:
    """Return (voxel,) the clusters that another reading of the event gives its voxels; -1 none.

    Raises:
        ValueError: if the two have no voxel in common.
    """
    if event.shape != other.shape:
        raise ValueError(f"images of {event.shape} and {other.shape} voxels: not the same event")
    keys, other_keys = (voxel_keys(e.coords, event.shape) for e in (event, other))
    _, own, theirs = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    if len(event) and not len(own):
        raise ValueError("not one voxel in common: not the same event")
    clusters = np.full(len(event), -1, np.int32)
    clusters[own] = other.cluster[theirs]
    return clusters


def brightest(event: Event) -> Event:
    """Return the event, or its `MAX_VOXELS` voxels of most energy."""
    keep = np.zeros(len(event), bool)
    keep[np.argsort(-event.energy, kind="stable")[:MAX_VOXELS]] = True
    return event.select(keep)


def write_drawing(page: Path, event: Event, title: str, shown: Sequence[View]) -> Path:
    """Write a page that contains plotly's code, so that it opens anywhere, and a picture beside it.

    Args:
        page: the file to write; its name does not end in `.png`.
        event: a 2D or 3D event.
        title: the title of both.
        shown: the views.

    Returns:
        The path of the picture.
    """
    picture = page.with_suffix(".png")
    interactive, panels = make_figure(event, title, shown), _make_picture(event, title, shown)
    with replace_file(page) as part:
        interactive.write_html(part, include_plotlyjs=True)
    with replace_file(picture) as part:
        panels.savefig(part, dpi=90, format="png")
    return picture


def make_figure(event: Event, title: str, shown: Sequence[View]) -> plotly.Figure:
    """Make an interactive figure of an event with a button per view."""
    groups = [_make_traces(event, view) for view in shown]
    figure = plotly.Figure([trace for group in groups for trace in group])
    buttons = []
    for index, view in enumerate(shown):
        visible = [n == index for n, group in enumerate(groups) for _ in group]
        buttons.append({"label": view.title, "method": "update", "args": [{"visible": visible}]})
    for trace in figure.data[len(groups[0]) :]:
        trace.visible = False
    position = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.06}
    figure.update_layout(
        title=title,
        updatemenus=[{"buttons": buttons, **position}],
        scene={"aspectmode": "data"},
        legend={"itemsizing": "constant"},
    )
    if len(event.shape) == 2:
        figure.update_yaxes(scaleanchor="x")
    return figure


def _make_traces(event: Event, view: View) -> list[Any]:
    """Make one trace for energies, else a trace per colour."""
    if not view.colours:
        value = np.log10(np.maximum(view.value, 1e-3))
        bar = {"title": "log10(energy / MeV)"}
        marker = {"color": value, "colorscale": "Viridis", "showscale": True, "colorbar": bar}
        return [_make_trace(event, view, np.ones(len(event), bool), marker, "")]
    return [
        _make_trace(event, view, view.value == index, {"color": colour}, name)
        for index, colour, name in _legend(view)
    ]


def _legend(view: View) -> list[tuple[int, str, str]]:
    """Return index, colour and name of each colour that the view uses."""
    return [
        (
            index,
            GREY if index < 0 else view.colours[index],
            "none" if index < 0 else view.names[index] if view.names else "",
        )
        for index in np.unique(view.value).tolist()
    ]


def _make_trace(
    event: Event, view: View, mask: np.ndarray, marker: dict[str, Any], name: str
) -> Any:
    integer = np.int16 if max(event.shape) < 2**15 else np.int32
    axes = dict(zip("xyz", event.coords[mask].T.astype(integer), strict=False))
    kind = plotly.Scatter3d if len(event.shape) == 3 else plotly.Scattergl
    position = ", ".join(f"%{{{axis}}}" for axis in axes)
    return kind(
        **axes,
        mode="markers",
        marker={"size": 2.5 if len(axes) == 3 else 4, **marker},
        name=name,
        showlegend=bool(name),
        customdata=view.hover[mask],
        hovertemplate=f"({position})<br>{view.title} %{{customdata}}<extra></extra>",
    )


def _make_picture(event: Event, title: str, shown: Sequence[View]) -> Figure:
    figure = Figure(figsize=(4.2 * len(shown), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    is_3d = len(event.shape) == 3
    for number, view in enumerate(shown, 1):
        axes: Any = figure.add_subplot(1, len(shown), number, projection="3d" if is_3d else None)
        _draw_panel(axes, event, view)
        axes.set_title(view.title)
        axes.tick_params(labelsize=7, pad=-2 if is_3d else 2)
        if len(event):
            axes.locator_params(nbins=4)
            extent = np.ptp(event.coords, axis=0) + 1
            axes.set_box_aspect(extent, zoom=1.0) if is_3d else axes.set_aspect("equal")
    return figure


def _draw_panel(axes: Any, event: Event, view: View) -> None:
    if not view.colours:
        low, high = view.value.min(initial=1), view.value.max(initial=1.1)
        norm = LogNorm(max(float(low), 1e-3), float(high), clip=True)
        points = axes.scatter(*event.coords.T, c=view.value, norm=norm, s=2, cmap="viridis")
        bar = axes.inset_axes([0.02, 0.9, 0.4, 0.03])
        axes.figure.colorbar(points, cax=bar, orientation="horizontal", label="MeV")
        return
    for index, colour, name in _legend(view):
        axes.scatter(*event.coords[view.value == index].T, color=colour, s=2, label=name)
    if view.names and len(event):
        axes.legend(fontsize=7, markerscale=4, loc="upper left")
