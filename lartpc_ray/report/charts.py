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
from lartpc_ray.metrics.costs import pareto
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid

Chart = dict[str, Any]
"""`data` and `layout` of a plotly figure."""
FRONT, OTHER = "#d9480f", "#8a94a6"
"""What is meant, and what stands beside it; read on white and on black."""
SCALE = "Viridis"
GOOD = [[0, "#9aa5b8"], [0.5, "#e8a33d"], [1, "#c92a2a"]]
"""From low to high objectives: no end of it is lost on white or on black."""
TICKS = 5
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


def history(numbers: Sequence[int], objectives: Sequence[float]) -> Chart:
    """The objective of each trial in the order of their numbers, and the best so far."""
    order = np.argsort(numbers)
    x, y = np.array(numbers)[order], np.array(objectives)[order]
    best = np.maximum.accumulate(y)
    return chart(
        [
            {"type": "scatter", "mode": "markers", "x": x, "y": y, "name": "a trial"}
            | {"marker": {"color": OTHER, "size": 7, "opacity": 0.75}},
            {"type": "scatter", "mode": "lines", "x": x, "y": best, "name": "best so far"}
            | {"line": {"color": FRONT, "shape": "hv", "width": 2}},
        ],
        "trial",
        "objective",
        xaxis={"dtick": 1} if len(x) <= 20 else {},
    )


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


def front(
    numbers: Sequence[int], objectives: Sequence[float], cost: np.ndarray, title: str
) -> Chart:
    """Objective against a cost; the trials that no other beats are joined."""
    objective = np.array(objectives)
    best = pareto(objective, cost[:, None])
    order = np.flatnonzero(best)[np.argsort(cost[best], kind="stable")]
    names = np.array([f"trial {number}" for number in numbers])
    shared: Chart = {"type": "scatter", "hovertemplate": "%{text}<br>%{x:.3g}, %{y:.4f}"}
    others = {
        "x": cost[~best],
        "y": objective[~best],
        "text": names[~best].tolist(),
        "mode": "markers",
    }
    joined = {"x": cost[order], "y": objective[order], "text": names[order].tolist()}
    return chart(
        [
            {**shared, **others, "name": "beaten", "marker": {"color": OTHER, "size": 7}},
            {**shared, **joined, "name": "no other beats it", "mode": "lines+markers"}
            | {"line": {"color": FRONT, "shape": "hv"}, "marker": {"size": 9}},
        ],
        title,
        "objective",
    )


def bars(shares: Mapping[str, float]) -> Chart:
    """A share a name, the largest on top."""
    names = list(shares)[::-1]
    bar: Chart = {"type": "bar", "orientation": "h", "y": [escape(name) for name in names]}
    bar |= {"x": [shares[name] for name in names], "marker": {"color": FRONT}}
    bar |= {"hovertemplate": "%{y}: %{x:.0%}<extra></extra>"}
    height = 90 + 28 * len(names)
    return chart(
        [bar], "share", "", height=height, xaxis={"tickformat": ".0%", "rangemode": "tozero"}
    )


def parallel(
    search: Mapping[str, tuple[str, list[Any]]],
    settings: Sequence[Mapping[str, str]],
    objectives: Sequence[float],
) -> Chart:
    """A line a trial through its settings, in the colour of its objective."""
    order = np.argsort(objectives)  # the best drawn last
    axes = [
        _axis(path, entry[0], entry[1], [settings[place][path] for place in order])
        for path, entry in search.items()
    ]
    objective = np.array(objectives)[order]
    line = {"color": objective, "colorscale": GOOD, "showscale": False}
    axes.append(_scaled("objective", objective, np.array([objective.min(), objective.max()])))
    trace: Chart = {"type": "parcoords", "dimensions": axes, "line": line, "labelangle": -20}
    margin = {"l": 60, "r": 60, "t": 84, "b": 28}
    return {"data": [trace], "layout": {"height": 420, "margin": margin}}


def _axis(path: str, kind: str, values: list[Any], texts: Sequence[str]) -> Chart:
    """One setting: names at even distances, numbers along their scale."""
    label = escape(path.rsplit(".", 1)[-1].replace("_", " "))
    if kind in ("choice", "grid"):
        names = [str(value) for value in values]
        places, ticks = [names.index(text) for text in texts], list(range(len(names)))
        return {"label": label, "values": places, "tickvals": ticks} | {
            "ticktext": [escape(name) for name in names],
            "range": [-0.2, len(names) - 0.8],
        }
    numbers, ends = np.array(texts, float), np.array(values, float)
    if kind == "int":
        step = int(-(-(ends[1] - ends[0]) // TICKS))
        whole = list(range(int(ends[0]), int(ends[1]) + 1, step))
        return {**_scaled(label, numbers, ends), "tickvals": whole, "ticktext": [*map(str, whole)]}
    return _scaled(label, numbers, ends, log=kind == "log")


def _scaled(label: str, numbers: np.ndarray, ends: np.ndarray, *, log: bool = False) -> Chart:
    """Numbers along an axis from end to end."""
    scale = np.log10 if log else np.asarray
    low, high = scale(ends)
    if low == high:
        low, high = low - 0.5, high + 0.5
    places = np.linspace(low, high, TICKS)
    names = [f"{10**place if log else place:.3g}" for place in places]
    return {"label": label, "values": scale(numbers), "range": [low, high]} | {
        "tickvals": places,
        "ticktext": names,
    }


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
