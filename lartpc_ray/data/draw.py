"""Draw an event: an interactive plotly figure, and the same views as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from plotly import graph_objects as plotly

from lartpc_ray.atomic import replace_file, write_text
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.figure import FIT, legend, make_figure, pixels_of
from lartpc_ray.data.views import View, views

MAX_VOXELS = 20_000
"""Voxels of an event that are drawn, those of most energy: the page stays below 10 MB."""


def draw(
    event: Event,
    predicted: Event | np.ndarray | None = None,
    *,
    title: str | None = None,
    voxel_cm: float | None = None,
) -> plotly.Figure:
    """Draw an event as an interactive figure with a button per view, for example in a notebook.

    The views are energy, class and true cluster. With `predicted` the predicted clusters stand at
    their right, each in the colour of the true cluster with which it shares most voxels. Predicted
    classes stand at the right of the true ones. A 2D event is an image of wires and ticks. Of a
    very large event the voxels of most energy are drawn.

    Args:
        event: a 2D or 3D event.
        predicted: (voxel,) predicted clusters, -1 none; or the same event with predicted clusters
            or classes, as `predict` returns it.
        title: the title; by default the numbers of voxels and the energy.
        voxel_cm: side of a voxel [cm], for 3D axes in cm; by default they are in voxels.

    Raises:
        ValueError: if `predicted` is another event or has another length, or if `voxel_cm` is not
            above 0, or the event in 2D.

    Example:
        >>> event = Event.of(np.array([[1, 2, 3]]), np.array([0.5]), (8, 8, 8))
        >>> figure = draw(event, np.array([0]))
        >>> [button.label for button in figure.layout.updatemenus[0].buttons]
        ['energy', 'class', 'true cluster']
    """
    check_voxel(event, voxel_cm)
    drawn = brightest(event)
    if predicted is None:
        shown = views(drawn)
    elif isinstance(predicted, Event):
        shown = compared_views(drawn, predicted)
    else:
        labelled = replace(event, cluster=np.asarray(predicted, np.int32))
        shown = views(drawn, clusters=match_voxels(drawn, labelled))
    return make_figure(drawn, title or describe(event), shown, voxel_cm)


def check_voxel(event: Event, voxel_cm: float | None) -> None:
    """Check the side of a voxel.

    Raises:
        ValueError: unless it is above 0, and the event in 3D.
    """
    if voxel_cm is None:
        return
    if not 0 < voxel_cm < np.inf:
        raise ValueError(f"voxel_cm {voxel_cm}: the side of a voxel in cm is above 0; try 0.3")
    if len(event.shape) != 3:
        raise ValueError(
            f"voxel_cm {voxel_cm}: a 2D event has axes of wires and ticks; leave it out"
        )


def compared_views(event: Event, predicted: Event) -> list[View]:
    """Return the views of an event, and of the clusters and classes that are predicted for it.

    Clusters are left out where only the classes differ, as after a segmentation: each voxel has the
    event's own cluster. Classes are left out where only the clusters differ.

    Raises:
        ValueError: if the two have no voxel in common.
    """
    own, theirs = _common_voxels(event, predicted)
    clusters, classes = (np.full(len(event), -1, np.int32) for _ in range(2))
    clusters[own], classes[own] = predicted.cluster[theirs], predicted.semantic[theirs]
    same_classes = bool((classes[own] == event.semantic[own]).all())
    same_clusters = bool((clusters[own] == event.cluster[own]).all())
    return views(
        event,
        clusters=clusters if same_classes or not same_clusters else None,
        classes=classes if same_clusters or not same_classes else None,
    )


def describe(event: Event) -> str:
    """Return the number of voxels, or of pixels in 2D, and the energy in a line."""
    name, unit = ("voxels", "MeV") if len(event.shape) == 3 else ("pixels", "ADC counts")
    text = f"{len(event)} {name}, {event.energy.sum():.0f} {unit}"
    return text + f" (drawn: the {MAX_VOXELS} of most energy)" * (len(event) > MAX_VOXELS)


def match_voxels(event: Event, other: Event) -> np.ndarray:
    """Return (voxel,) the clusters that another reading of the event gives its voxels; -1 none.

    Raises:
        ValueError: if the two have no voxel in common.
    """
    own, theirs = _common_voxels(event, other)
    clusters = np.full(len(event), -1, np.int32)
    clusters[own] = other.cluster[theirs]
    return clusters


def _common_voxels(event: Event, other: Event) -> tuple[np.ndarray, np.ndarray]:
    """Return (common,) the places, in each of two events, of the voxels that both have."""
    if event.shape != other.shape:
        raise ValueError(f"images of {event.shape} and {other.shape} voxels: not the same event")
    keys, other_keys = (voxel_keys(e.coords, event.shape) for e in (event, other))
    _, own, theirs = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    if len(event) and not len(own):
        raise ValueError("not one voxel in common: not the same event")
    return own, theirs


def brightest(event: Event) -> Event:
    """Return the event, or its `MAX_VOXELS` voxels of most energy."""
    keep = np.zeros(len(event), bool)
    keep[np.argsort(-event.energy, kind="stable")[:MAX_VOXELS]] = True
    return event.select(keep)


def write_drawing(
    page: Path,
    event: Event,
    title: str,
    shown: Sequence[View],
    *,
    links: Mapping[str, str] | None = None,
    voxel_cm: float | None = None,
) -> Path:
    """Write a page that contains plotly's code, so that it opens anywhere, and a picture beside it.

    Args:
        page: the file to write; its name does not end in `.png`.
        event: a 2D or 3D event.
        title: the title of both.
        shown: the views.
        links: text to the name of another page in the same folder, for the top of the page.
        voxel_cm: side of a voxel [cm], for axes in cm.

    Returns:
        The path of the picture.
    """
    picture = page.with_suffix(".png")
    figure = make_figure(event, escape(title, quote=False), shown, voxel_cm)
    text = figure.to_html(include_plotlyjs=True, post_script=FIT, config={"responsive": True})
    text = text.replace("</head>", f"<title>{escape(title, quote=False)}</title></head>", 1)
    if links:
        anchors = (f'<a href="{quote(name)}">{escape(to)}</a>' for to, name in links.items())
        style = "position: fixed; z-index: 9; bottom: 6px; right: 12px; font: 14px sans-serif"
        text = text.replace("<body>", f'<body><nav style="{style}">{" · ".join(anchors)}</nav>', 1)
    panels = _make_picture(event, title, shown, voxel_cm)
    write_text(page, text)
    with replace_file(picture) as part:
        panels.savefig(part, dpi=90, format="png")
    return picture


def _make_picture(
    event: Event, title: str, shown: Sequence[View], voxel_cm: float | None
) -> Figure:
    is_3d = len(event.shape) == 3
    figure = Figure(figsize=(4.6 * len(shown), 4.6 if is_3d else 5.2))
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    if is_3d:  # the constrained layout cuts the label of the z axis off
        figure.subplots_adjust(left=0.02, right=0.93, bottom=0.02, top=0.84, wspace=0.2)
    else:  # the colour bar and the legend stand below the images
        figure.subplots_adjust(left=0.05, right=0.98, bottom=0.24, top=0.86, wspace=0.2)
    unit = "cm" if voxel_cm else "voxel"
    names = [f"{axis} [{unit}]" for axis in "xyz"] if is_3d else ["wire", "tick"]
    for number, view in enumerate(shown, 1):
        axes: Any = figure.add_subplot(1, len(shown), number, projection="3d" if is_3d else None)
        _draw_panel(axes, event, view, voxel_cm or 1.0)
        axes.set_title(view.title)
        axes.tick_params(labelsize=7, pad=-2 if is_3d else 2)
        for axis, name in zip("xyz", names, strict=False):
            getattr(axes, f"set_{axis}label")(name, fontsize=8)
        if len(event):
            axes.locator_params(nbins=4)
            extent = np.ptp(event.coords, axis=0) + 1
            if is_3d:
                axes.set_box_aspect(extent, zoom=0.85)
            else:  # the images fill their panels, all alike
                axes.set_aspect("equal", adjustable="datalim")
    return figure


def _draw_panel(axes: Any, event: Event, view: View, voxel: float) -> None:
    if view.colours:
        for index, colour, name in legend(view, event.semantic):
            mask = view.value == index
            _scatter(axes, event.coords[mask] * voxel, color=colour, label=name)
        if view.names and len(event):
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 5}
            place = {"loc": "upper left"} if len(event.shape) == 3 else below
            axes.legend(fontsize=7, markerscale=4, **place)
        return
    low, high = view.value.min(initial=1), view.value.max(initial=1.1)
    norm = LogNorm(max(float(low), 1e-3), float(high), clip=True)
    if len(event.shape) == 2 and len(event):
        wire, tick = event.coords.min(axis=0) - 0.5
        image = pixels_of(event, view.value)
        extent = (wire, wire + image.shape[1], tick, tick + image.shape[0])
        points = axes.imshow(image, norm=norm, cmap="viridis", origin="lower", extent=extent)
    else:
        points = _scatter(axes, event.coords * voxel, c=view.value, norm=norm, cmap="viridis")
    is_3d = len(event.shape) == 3
    bar = axes.inset_axes([0.02, 0.9, 0.4, 0.03] if is_3d else [0.2, -0.2, 0.6, 0.03])
    unit = "MeV" if is_3d else "ADC"
    axes.figure.colorbar(points, cax=bar, orientation="horizontal", label=f"energy [{unit}]")


def _scatter(axes: Any, coords: np.ndarray, **style: Any) -> Any:
    return axes.scatter(*coords.T, s=2, **style)
