"""The charts of a report page: numbers in, what plotly.js draws out.

Colours of text, grid and ground are the page's, light or dark; names are escaped, since plotly.js
reads tags in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.draw import CLASS_COLOURS
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid

Chart = dict[str, Any]
"""`data` and `layout` of a plotly figure."""
FRONT, OTHER = "#d9480f", "#8a94a6"
"""What is meant, and what stands beside it; read on white and on black."""
SCALE = "Viridis"
MOST_CLUSTERS = 8
"""True clusters of a class in an event from which on events are taken together."""


def chart(
    traces: Sequence[Chart], across: str, up: str, *, height: int = 320, **layout: Any
) -> Chart:
    """A chart with two titled axes."""
    axes = {
        name: {"title": {"text": title, "standoff": 6}, "automargin": True, **layout.pop(name, {})}
        for name, title in (("xaxis", across), ("yaxis", up))
    }
    margin = {"l": 56, "r": 16, "t": 12, "b": 48}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    shown = {"height": height, "margin": margin, "legend": legend, **axes, **layout}
    return {"data": list(traces), "layout": shown}


def curves(each: Mapping[str, Mapping[int, float]], best: str) -> Chart:
    """The objective of trials by training step; one of them is the best."""
    traces: list[Chart] = []
    for name, points in sorted(each.items(), key=lambda item: item[0] == best):
        meant = name == best
        line = {"color": FRONT if meant else OTHER, "width": 2.5 if meant else 1}
        steps = sorted(points)
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "x": steps, "name": escape(name)}
            | {"y": [points[step] for step in steps], "line": line}
            | {"marker": {"size": 5}, "opacity": 1 if meant else 0.6, "showlegend": meant}
        )
    return chart(traces, "training step", "objective")


def surface(grid: ThresholdGrid, name: str, choice: Choice) -> Chart:
    """A class's mean score over its two thresholds: plateau, chosen point and its interval.

    Points of the grid lie at even distances, as in `figure.draw_surface`.
    """
    (vertical, rows), (horizontal, columns) = grid.axes.items()
    across, up = ([f"{value:.3g}" for value in points] for points in (columns, rows))
    heat: Chart = {"type": "heatmap", "z": grid.means[name].astype(np.float32), "colorscale": SCALE}
    heat |= {"colorbar": {"thickness": 10, "outlinewidth": 0}, "customdata": [[*across]] * len(up)}
    heat |= {"hovertemplate": f"{horizontal} %{{customdata}}, %{{z:.3f}}<extra></extra>"}
    edge = _outline(choice.plateau)
    plateau: Chart = {
        "type": "scatter",
        "mode": "lines",
        "x": edge[0],
        "y": edge[1],
        "hoverinfo": "skip",
    }
    plateau |= {"line": {"color": "white", "width": 1.5}, "showlegend": False}
    x, xs = _span(columns, choice.thresholds[horizontal], choice.interval[horizontal])
    y, ys = _span(rows, choice.thresholds[vertical], choice.interval[vertical])
    point: Chart = {
        "type": "scatter",
        "mode": "markers",
        "x": [x],
        "y": [y],
        "error_x": xs,
        "error_y": ys,
    }
    point |= {"marker": {"color": "#ff4d4d", "size": 9, "line": {"color": "white", "width": 1}}}
    text = ", ".join(f"{axis} {value:.3g}" for axis, value in choice.thresholds.items())
    point |= {"showlegend": False, "hovertemplate": f"chosen: {text}<extra></extra>"}
    ticks: list[Chart] = [
        {"tickvals": list(range(0, len(names), 4)), "ticktext": names[::4], "showgrid": False}
        | {"range": [-0.5, len(names) - 0.5], "zeroline": False}
        for names in (across, up)
    ]
    return chart(
        [heat, plateau, point], horizontal, vertical, height=300, xaxis=ticks[0], yaxis=ticks[1]
    )


def _span(points: np.ndarray, value: float, ends: tuple[float, float]) -> tuple[int, Chart]:
    """The place of a value on its axis, and the bars to the ends of its interval."""
    at, low, high = (int(np.abs(points - one).argmin()) for one in (value, *ends))
    bar = {"type": "data", "symmetric": False, "color": "#ff4d4d", "thickness": 1.5, "width": 4}
    return at, bar | {"array": [max(high - at, 0)], "arrayminus": [max(at - low, 0)]}


def _outline(mask: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """The sides of the cells that are True beside ones that are not, as lines with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    padded = np.pad(mask, 1)
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        x += [column - 0.5, column - 0.5, None]
        y += [row - 1.5, row - 0.5, None]
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        x += [column - 1.5, column - 0.5, None]
        y += [row - 0.5, row - 0.5, None]
    return x, y


def one_threshold(grid: ThresholdGrid, name: str, choice: Choice, metric: str) -> Chart:
    """A class's mean score over its one threshold, with the chosen point and its interval."""
    ((axis, points),) = grid.axes.items()
    low, high = choice.interval[axis]
    line: Chart = {
        "type": "scatter",
        "mode": "lines",
        "x": points,
        "y": grid.means[name],
        "name": metric,
    }
    band: Chart = {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
    }
    at = {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": choice.thresholds[axis],
        "x1": choice.thresholds[axis],
    }
    shapes = [
        {**band, "fillcolor": OTHER, "opacity": 0.25, "line": {"width": 0}},
        {**at, "y0": 0, "y1": 1, "line": {"color": FRONT, "width": 2}},
    ]
    return chart([line | {"line": {"color": OTHER}}], axis, f"mean {metric}", shapes=shapes)


def by_clusters(
    true: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], up: str, *, diagonal: bool
) -> Chart:
    """Mean and standard error of a value by the true clusters of the class in the event.

    Args:
        true: class to (event,) number of true clusters.
        values: class to (event,) value.
        up: what the value is.
        diagonal: whether the value should be the number of true clusters.
    """
    traces: list[Chart] = []
    if diagonal:
        ends = [1, MOST_CLUSTERS]
        line = {"color": OTHER, "dash": "dot", "width": 1.5}
        ideal = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": "as many"}
        traces.append({**ideal, "line": line, "hoverinfo": "skip"})
    for name, counts in true.items():
        place = np.minimum(counts, MOST_CLUSTERS)
        bins = np.unique(place)
        groups = [values[name][place == one] for one in bins]
        errors = [
            float(group.std(ddof=1) / len(group) ** 0.5) if len(group) > 1 else 0
            for group in groups
        ]
        colour = CLASS_COLOURS[CLASS_NAMES.index(name)]
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "x": bins, "name": name}
            | {"y": [float(group.mean()) for group in groups], "line": {"color": colour}}
            | {"error_y": {"type": "data", "array": errors, "thickness": 1, "width": 3}}
            | {"text": [f"{len(group)} events" for group in groups]}
            | {"hovertemplate": f"{name}: %{{y:.3f}}, %{{text}}<extra></extra>"}
        )
    ticks = list(range(1, MOST_CLUSTERS + 1))
    names = [*map(str, ticks[:-1]), f"{MOST_CLUSTERS}+"]
    across = {"tickvals": ticks, "ticktext": names}
    title = "true clusters of the class in the event"
    return chart(traces, title, up, xaxis=across, yaxis={"rangemode": "tozero"})


def counted(true: np.ndarray, found: np.ndarray) -> Chart:
    """How many events have so many true (row) and so many predicted (column) clusters.

    Args:
        true, found: (event,) clusters.
    """
    places = [np.clip(counts, 0, MOST_CLUSTERS).astype(int) for counts in (true, found)]
    events = np.zeros((MOST_CLUSTERS + 1,) * 2, int)
    np.add.at(events, tuple(places), 1)
    shares = events / np.maximum(events.sum(axis=1, keepdims=True), 1)
    text = [[str(value) if value else "" for value in row] for row in events]
    heat: Chart = {"type": "heatmap", "z": shares[1:], "text": text[1:], "texttemplate": "%{text}"}
    heat |= {"y0": 1, "zmin": 0, "zmax": 1, "colorscale": SCALE, "showscale": False}
    heat |= {"customdata": events[1:]}
    heat |= {"hovertemplate": "%{y} true, %{x} found: %{customdata} events<extra></extra>"}
    ticks = list(range(MOST_CLUSTERS + 1))
    names = [*map(str, ticks[:-1]), f"{MOST_CLUSTERS}+"]
    axis = {"tickvals": ticks, "ticktext": names, "showgrid": False, "zeroline": False}
    return chart([heat], "predicted clusters", "true clusters", xaxis=axis, yaxis=axis)


def margins(sizes: Mapping[str, np.ndarray]) -> Chart:
    """The mean margin of each true cluster against its extent.

    Args:
        sizes: class to (cluster, 2) extent and margin, where the image spans -1 to 1.
    """
    traces: list[Chart] = []
    for name, each in sizes.items():
        colour = CLASS_COLOURS[CLASS_NAMES.index(name)]
        points: Chart = {"type": "scatter", "mode": "markers", "x": each[:, 0], "y": each[:, 1]}
        points |= {"name": name, "marker": {"color": colour, "size": 4, "opacity": 0.6}}
        traces.append(points | {"hovertemplate": f"{name}: %{{x:.3f}}, %{{y:.3f}}<extra></extra>"})
    log: Chart = {"type": "log", "nticks": 6}
    return chart(traces, "extent of the true cluster", "mean margin", xaxis=log, yaxis=log)


def confusion(shares: np.ndarray, names: Sequence[str]) -> Chart:
    """Share of each true class (row) found as each class (column)."""
    text = [[f"{value:.2f}" if np.isfinite(value) else "-" for value in row] for row in shares]
    heat = {
        "type": "heatmap",
        "z": shares,
        "x": list(names),
        "y": list(names),
        "zmin": 0,
        "zmax": 1,
    }
    heat |= {"colorscale": SCALE, "text": text, "texttemplate": "%{text}", "hoverinfo": "skip"}
    heat |= {"colorbar": {"thickness": 10, "outlinewidth": 0}}
    upside = {"autorange": "reversed", "showgrid": False}
    return chart([heat], "found as", "true class", height=380, yaxis=upside)
