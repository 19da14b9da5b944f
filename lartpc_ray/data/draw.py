"""An event as a page to turn with the mouse, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from plotly import graph_objects as plotly

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import CLASS_NAMES, NO_CLASS
from lartpc_ray.data.event import Event

MOST_DRAWN = 70_000
"""Voxels of an event that are drawn: those of most energy. The page stays below 10 MB."""
GREY = "#b0b0b0"
CLASS_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")
CLUSTER_COLOURS = tuple(
    to_hex(colormaps["tab20"](place)) for place in [*range(0, 20, 2), *range(1, 20, 2)]
)


@dataclass(frozen=True, eq=False)
class View:
    """One way to colour the voxels of an event.

    Attributes:
        title: what the colour shows.
        value: (voxel,) energy, or the place of a colour, -1 grey.
        shown: (voxel,) what is written beside the mouse.
        colours: of the places; none for energies.
        names: of the places, where a legend can hold them.
    """

    title: str
    value: np.ndarray
    shown: np.ndarray
    colours: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def views(
    event: Event,
    *,
    predicted: bool = False,
    found: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> list[View]:
    """Energy, class and cluster of an event.

    Args:
        event: in 2D or 3D.
        predicted: whether its own clusters are what a network found.
        found: (voxel,) clusters that a network found, beside the event's own.
        classes: (voxel,) classes that a network found.
    """
    kind = "predicted" if predicted else "true"
    shown = [
        View("energy", event.energy, event.energy),
        View("class", event.semantic, event.semantic, CLASS_COLOURS, CLASS_NAMES),
        _clusters(f"{kind} cluster", event, event.cluster),
    ]
    if classes is not None:
        shown.append(View("predicted class", classes, classes, CLASS_COLOURS, CLASS_NAMES))
    return shown if found is None else [*shown, _clusters("predicted cluster", event, found)]


def matched(event: Event, other: Event) -> np.ndarray:
    """(voxel,) clusters that another file gives the voxels of the same event; -1 none.

    Raises:
        ValueError: where the two have no voxel in common.
    """
    if event.shape != other.shape:
        raise ValueError(f"images of {event.shape} and {other.shape} voxels: not the same event")
    mine, theirs = (np.ravel_multi_index(tuple(e.coords.T), e.shape) for e in (event, other))
    _, here, there = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    if len(event) and not len(here):
        raise ValueError("not one voxel in common: not the same event")
    found = np.full(len(event), -1, np.int32)
    found[here] = other.cluster[there]
    return found


def brightest(event: Event) -> Event:
    """The event, or its `MOST_DRAWN` voxels of most energy."""
    keep = np.zeros(len(event), bool)
    keep[np.argsort(-event.energy, kind="stable")[:MOST_DRAWN]] = True
    return event.select(keep)


def draw(page: Path, event: Event, title: str, shown: Sequence[View]) -> Path:
    """Write a page with plotly's code in it, so that it opens anywhere, and a picture beside it.

    Args:
        page: to write, not ending in `.png`.
        event: in 2D or 3D.
        title: of both.
        shown: the ways to colour it.

    Returns:
        the picture.
    """
    picture = page.with_suffix(".png")
    scene, panels = _page(event, title, shown), _picture(event, title, shown)
    with replace_file(page) as part:
        scene.write_html(part, include_plotlyjs=True)
    with replace_file(picture) as part:
        panels.savefig(part, dpi=90, format="png")
    return picture


def _clusters(title: str, event: Event, cluster: np.ndarray) -> View:
    """A colour a cluster, the largest first; one number in two classes is two clusters."""
    key = cluster.astype(np.int64) * (len(CLASS_NAMES) + 1) + event.semantic
    known = cluster >= 0
    _, place, counts = np.unique(key[known], return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    colour = np.full(len(event), NO_CLASS, np.int32)
    colour[known] = rank[place] % len(CLUSTER_COLOURS)
    return View(title, colour, cluster, CLUSTER_COLOURS)


def _page(event: Event, title: str, shown: Sequence[View]) -> Any:
    traces = [_traces(event, view) for view in shown]
    figure = plotly.Figure([trace for group in traces for trace in group])
    buttons = []
    for place, view in enumerate(shown):
        seen = [n == place for n, group in enumerate(traces) for _ in group]
        buttons.append({"label": view.title, "method": "update", "args": [{"visible": seen}]})
    for trace in figure.data[len(traces[0]) :]:
        trace.visible = False
    places = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.06}
    figure.update_layout(
        title=title,
        updatemenus=[{"buttons": buttons, **places}],
        scene={"aspectmode": "data"},
        legend={"itemsizing": "constant"},
    )
    if len(event.shape) == 2:
        figure.update_yaxes(scaleanchor="x")
    return figure


def _traces(event: Event, view: View) -> list[Any]:
    """One trace for energies; else one a colour, with a legend where the colours have names."""
    if not view.colours:
        value = np.log10(np.maximum(view.value, 1e-3))
        bar = {"title": "log10(energy / MeV)"}
        marker = {"color": value, "colorscale": "Viridis", "showscale": True, "colorbar": bar}
        return [_trace(event, view, np.ones(len(event), bool), marker, "")]
    found = []
    for place in np.unique(view.value):
        name = "none" if place < 0 else view.names[place] if view.names else ""
        colour = GREY if place < 0 else view.colours[place]
        found.append(_trace(event, view, view.value == place, {"color": colour}, name))
    return found


def _trace(event: Event, view: View, mask: np.ndarray, marker: dict[str, Any], name: str) -> Any:
    narrow = np.int16 if max(event.shape) < 2**15 else np.int32
    axes = dict(zip("xyz", event.coords[mask].T.astype(narrow), strict=False))
    kind = plotly.Scatter3d if len(event.shape) == 3 else plotly.Scattergl
    position = ", ".join(f"%{{{axis}}}" for axis in axes)
    return kind(
        **axes,
        mode="markers",
        marker={"size": 2.5 if len(axes) == 3 else 4, **marker},
        name=name,
        showlegend=bool(name),
        customdata=view.shown[mask],
        hovertemplate=f"({position})<br>{view.title} %{{customdata}}<extra></extra>",
    )


def _picture(event: Event, title: str, shown: Sequence[View]) -> Figure:
    figure = Figure(figsize=(4.2 * len(shown), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    deep = len(event.shape) == 3
    for place, view in enumerate(shown, 1):
        axes: Any = figure.add_subplot(1, len(shown), place, projection="3d" if deep else None)
        _panel(axes, event, view)
        axes.set_title(view.title)
        axes.tick_params(labelsize=7, pad=-2 if deep else 2)
        if len(event):
            axes.locator_params(nbins=4)
            extent = np.ptp(event.coords, axis=0) + 1
            axes.set_box_aspect(extent, zoom=1.0) if deep else axes.set_aspect("equal")
    return figure


def _panel(axes: Any, event: Event, view: View) -> None:
    if not view.colours:
        low, high = view.value.min(initial=1), view.value.max(initial=1.1)
        norm = LogNorm(max(float(low), 1e-3), float(high), clip=True)
        points = axes.scatter(*event.coords.T, c=view.value, norm=norm, s=2, cmap="viridis")
        bar = axes.inset_axes([0.02, 0.9, 0.4, 0.03])
        axes.figure.colorbar(points, cax=bar, orientation="horizontal", label="MeV")
        return
    for place in np.unique(view.value):
        colour = GREY if place < 0 else view.colours[place]
        name = "none" if place < 0 else view.names[place] if view.names else None
        axes.scatter(*event.coords[view.value == place].T, color=colour, s=2, label=name)
    if view.names and len(event):
        axes.legend(fontsize=7, markerscale=4, loc="upper left")
