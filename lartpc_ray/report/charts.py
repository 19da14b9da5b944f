"""Charts of a network's results, as `data` and `layout` for plotly.js.

The page sets the colours of text, grid and background, for light and dark screens. Names are
escaped because plotly.js reads tags in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.views import CLASS_COLOURS
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid

Chart = dict[str, Any]
"""`data` and `layout` of a plotly figure."""
ACCENT, NEUTRAL, CHOSEN = "#d9480f", "#8a94a6", "#ff4d4d"
"""The subject of a chart, all else, and a chosen point; visible on white and on black."""
COLOURS = dict(zip(CLASS_NAMES, CLASS_COLOURS, strict=True))
HEATMAP: Chart = {"type": "heatmap", "colorscale": "Viridis"}
SURFACE = 190
"""Height of a surface [pixels]: several are on the first screen."""
TICKS = 7
"""Labels on an axis of a surface."""
MAX_CLUSTERS = 8
"""Events with as many true clusters of a class, or more, make one group."""
COUNTS = {
    "tickvals": list(range(MAX_CLUSTERS + 1)),
    "ticktext": [*map(str, range(MAX_CLUSTERS)), f"{MAX_CLUSTERS}+"],
}


def chart(
    traces: Sequence[Chart], across: str, up: str, *, height: int = 320, **layout: Any
) -> Chart:
    """Make a chart with two titled axes."""
    axes = {
        name: {"title": {"text": title, "standoff": 6}, "automargin": True, **layout.pop(name, {})}
        for name, title in (("xaxis", across), ("yaxis", up))
    }
    margin = {"l": 56, "r": 16, "t": 12, "b": 48}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"}
    titled = {"height": height, "margin": margin, "legend": legend, **axes, **layout}
    return {"data": list(traces), "layout": titled}


def _scatter(mode: str, x: Any, y: Any, **more: Any) -> Chart:
    return {"type": "scatter", "mode": mode, "x": x, "y": y, **more}


def curves(objectives: Mapping[str, Mapping[int, float]], best: str) -> Chart:
    """Draw the objective of trials by training step, the best trial in colour and on top."""
    traces = []
    for name in sorted(objectives, key=lambda name: name == best):
        points, is_best = sorted(objectives[name].items()), name == best
        trace = _scatter("lines+markers", *zip(*points, strict=True), name=escape(name))
        line = {"color": ACCENT, "width": 2.5} if is_best else {"color": NEUTRAL, "width": 1}
        look = {"line": line, "marker": {"size": 5}, "opacity": 1 if is_best else 0.6}
        traces.append(trace | look | {"showlegend": is_best})
    return chart(traces, "training [step]", "objective")


def learning_curve(points: Mapping[str, tuple[int, float, float | None]]) -> Chart:
    """Draw the objective of trials by their number of training events, with errors.

    Args:
        points: trial to events, objective and its error.
    """
    events, objectives, errors = zip(*points.values(), strict=True)
    trace = _scatter("markers", events, objectives, text=[escape(name) for name in points])
    trace |= {"error_y": {"type": "data", "array": list(errors)}}
    trace |= {"marker": {"color": ACCENT, "size": 8}, "showlegend": False}
    trace |= {"hovertemplate": "%{text}: %{x} events, %{y:.3f}<extra></extra>"}
    ticks = sorted(set(events))
    across = {"type": "log", "tickvals": ticks, "ticktext": [f"{count:,}" for count in ticks]}
    return chart([trace], "training events", "objective", xaxis=across)


def surface(grid: ThresholdGrid, name: str, choice: Choice) -> Chart:
    """Draw a class's mean score over two thresholds: plateau, chosen point and its interval.

    The points of the grid lie at equal distances, as in `thresholds.figures.draw_surface`.
    """
    (vertical, rows), (horizontal, columns) = grid.axes.items()
    across, up = ([f"{value:.3g}" for value in points] for points in (columns, rows))
    cells = [[f"{vertical} {row}, {horizontal} {column}" for column in across] for row in up]
    heat = {**HEATMAP, "z": grid.means[name].astype(np.float32), "text": cells}
    heat |= {"hovertemplate": "%{text}: %{z:.3f}<extra></extra>", "colorbar": {"thickness": 10}}
    plateau = _scatter("lines", *outline(choice.plateau), showlegend=False, hoverinfo="skip")
    plateau |= {"line": {"color": "white", "width": 1.5}}
    (x, error_x), (y, error_y) = (
        _interval(points, choice.thresholds[axis], choice.interval[axis])
        for axis, points in ((horizontal, columns), (vertical, rows))
    )
    marker = {"color": CHOSEN, "size": 9, "line": {"color": "white", "width": 1}}
    point = _scatter("markers", [x], [y], error_x=error_x, error_y=error_y, marker=marker)
    point |= {"showlegend": False, "hovertemplate": f"chosen: {cells[y][x]}<extra></extra>"}
    axes = {"xaxis": _points(across), "yaxis": _points(up)}
    above = f"{vertical}<br>(not to scale)"  # in one line it is longer than the axis
    across_title = f"{horizontal} (not to scale)"
    return chart([heat, plateau, point], across_title, above, height=SURFACE, **axes)


def outline(mask: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """Return x and y of the edges between the cells of a mask and the others; None ends an edge.

    Args:
        mask: (row, column) of cells with a side of 1 around whole numbers.

    Example:
        >>> outline(np.array([[True]]))[0]
        [-0.5, 0.5, None, -0.5, 0.5, None, -0.5, -0.5, None, 0.5, 0.5, None]
    """
    padded = np.pad(mask, 1)
    below = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    beside = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    x: list[float | None] = []
    y: list[float | None] = []
    for row, column in (below - 0.5).tolist():
        x += [column, column + 1, None]
        y += [row, row, None]
    for row, column in (beside - 0.5).tolist():
        x += [column, column, None]
        y += [row, row + 1, None]
    return x, y


def _points(names: Sequence[str]) -> Chart:
    """Return an axis on which points at equal distances have their names, at most `TICKS`."""
    every = ceil(len(names) / TICKS)
    ticks = {"tickvals": [*range(0, len(names), every)], "ticktext": [*names[::every]]}
    return {**ticks, "range": [-0.5, len(names) - 0.5], "showgrid": False, "zeroline": False}


def _interval(points: np.ndarray, value: float, ends: tuple[float, float]) -> tuple[int, Chart]:
    """Return the index of a value, and the bars to the ends of its interval."""
    index, low, high = (int(np.abs(points - number).argmin()) for number in (value, *ends))
    bar = {"type": "data", "symmetric": False, "color": CHOSEN, "thickness": 1.5, "width": 4}
    return index, bar | {"array": [max(high - index, 0)], "arrayminus": [max(index - low, 0)]}


def one_threshold(grid: ThresholdGrid, name: str, choice: Choice, metric: str) -> Chart:
    """Draw a class's mean score over its one threshold, with the chosen point and its interval."""
    ((axis, points),) = grid.axes.items()
    low, high = choice.interval[axis]
    value = choice.thresholds[axis]
    span: Chart = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    band = {"type": "rect", "x0": low, "x1": high, "fillcolor": NEUTRAL, "opacity": 0.25}
    line = {"type": "line", "x0": value, "x1": value, "line": {"color": ACCENT, "width": 2}}
    shapes = [span | band | {"line": {"width": 0}}, span | line]
    trace = _scatter("lines", points, grid.means[name], name=metric, line={"color": NEUTRAL})
    return chart([trace], axis, f"mean {metric}", shapes=shapes)


def by_clusters(
    true: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], up: str, *, diagonal: bool
) -> Chart:
    """Draw mean and standard error of a value by the true clusters of the class in the event.

    Args:
        true: class to (event,) number of true clusters.
        values: class to (event,) value.
        up: title of the value.
        diagonal: draw the line on which the value is the number of true clusters.
    """
    traces = [_by_clusters(name, counts, values[name]) for name, counts in true.items()]
    if diagonal:
        line = {"color": NEUTRAL, "dash": "dot", "width": 1.5}
        ends = [1, MAX_CLUSTERS]
        traces.insert(0, _scatter("lines", ends, ends, name="equal", line=line, hoverinfo="skip"))
    title = "true clusters of the class in the event"
    return chart(traces, title, up, xaxis=COUNTS, yaxis={"rangemode": "tozero"})


def _by_clusters(name: str, counts: np.ndarray, values: np.ndarray) -> Chart:
    bins = np.minimum(counts, MAX_CLUSTERS)
    groups = [values[bins == count] for count in np.unique(bins)]
    sizes = np.array([len(group) for group in groups])
    errors = [
        group.std(ddof=1) / np.sqrt(len(group)) if len(group) > 1 else None for group in groups
    ]
    trace = _scatter("lines+markers", np.unique(bins), [group.mean() for group in groups])
    trace |= {"error_y": {"type": "data", "array": errors, "thickness": 1, "width": 3}}
    trace |= {"name": name, "line": {"color": COLOURS[name]}, "customdata": sizes}
    return trace | {"hovertemplate": f"{name}: %{{y:.3f}}, %{{customdata}} events<extra></extra>"}


def counted(true: np.ndarray, predicted: np.ndarray) -> Chart:
    """Draw the number of events by their true (row) and predicted (column) clusters.

    Args:
        true: (event,) clusters.
        predicted: (event,) clusters.
    """
    events = np.zeros((MAX_CLUSTERS + 1,) * 2, int)
    pairs = np.minimum([true, predicted], MAX_CLUSTERS).astype(int)
    np.add.at(events, tuple(pairs), 1)
    shares = events / np.maximum(events.sum(axis=1, keepdims=True), 1)
    text = [[str(value) if value else "" for value in row] for row in events[1:]]
    heat = {**HEATMAP, "z": shares[1:], "y0": 1, "zmin": 0, "zmax": 1, "showscale": False}
    heat |= {"text": text, "texttemplate": "%{text}", "customdata": events[1:]}
    heat |= {"hovertemplate": "%{y} true, %{x} predicted: %{customdata} events<extra></extra>"}
    axis = {**COUNTS, "showgrid": False, "zeroline": False}
    return chart([heat], "predicted clusters", "true clusters", xaxis=axis, yaxis=axis)


def margins(sizes: Mapping[str, np.ndarray]) -> Chart:
    """Draw the mean margin of each true cluster against its extent.

    Args:
        sizes: class to (cluster, 2) extent and margin, where the image spans -1 to 1.
    """
    traces = []
    for name, size in sizes.items():
        marker = {"color": COLOURS[name], "size": 4, "opacity": 0.6}
        hover = f"{name}: %{{x:.3f}}, %{{y:.3f}}<extra></extra>"
        trace = _scatter("markers", size[:, 0], size[:, 1], name=name, hovertemplate=hover)
        traces.append(trace | {"marker": marker})
    log = {"type": "log", "nticks": 6}
    return chart(
        traces,
        "extent of the true cluster [half an image]",
        "mean margin [half an image]",
        xaxis=log,
        yaxis=log,
    )


def confusion(shares: np.ndarray, names: Sequence[str]) -> Chart:
    """Draw the share of each true class (row) that is predicted as each class (column)."""
    text = [[f"{value:.2f}" if np.isfinite(value) else "-" for value in row] for row in shares]
    heat = {**HEATMAP, "z": shares, "x": names, "y": names, "zmin": 0, "zmax": 1, "text": text}
    heat |= {"texttemplate": "%{text}", "hoverinfo": "skip", "colorbar": {"thickness": 10}}
    downwards = {"autorange": "reversed", "showgrid": False}
    return chart([heat], "predicted class", "true class", height=380, yaxis=downwards)
