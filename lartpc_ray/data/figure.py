"""The interactive figure of an event: one drawing, or true and predicted side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly import graph_objects as plotly

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.data.views import GREY, View

NONE = "none"
"""The class or cluster of a voxel that has none."""
NAMED = 4
"""Clusters of one colour that the legend names."""
LARGEST_IMAGE = 1_000_000
"""Pixels of a 2D event that are drawn as an image; those of a larger one are drawn as points."""
EYE = 2.1
"""Distance of the camera, for each axis."""
TICKS = {"nticks": 5, "tickfont": {"size": 10}}
"""Few and small ticks of a 3D axis: they stay apart in a small window, too."""
FIT = """
const box = document.getElementById('{plot_id}');
const scenes = () => Object.keys(box._fullLayout).filter(name => /^scene\\d*$/.test(name));
let following = false;
function fit() {
  const change = {};
  for (const name of scenes()) {
    const size = box._fullLayout._size, domain = box._fullLayout[name].domain;
    const wide = size.w * (domain.x[1] - domain.x[0]), high = size.h * (domain.y[1] - domain.y[0]);
    const eye = EYE * Math.max(1, high / wide);
    change[name + '.camera.eye'] = {x: eye, y: eye, z: eye};
  }
  following = true;
  Plotly.relayout(box, change).then(() => { following = false; });
}
box.on('plotly_relayout', change => {
  if (following) return;
  for (const from of scenes()) {
    const camera = change[from + '.camera'];
    if (!camera) continue;
    const others = scenes().filter(name => name !== from);
    following = true;
    Plotly.relayout(box, Object.fromEntries(others.map(name => [name + '.camera', camera])))
      .then(() => { following = false; });
  }
});
if (scenes().length) { fit(); window.addEventListener('resize', fit); }
""".replace("EYE", str(EYE))
"""Keeps the whole event in view at any size of the window, and turns both drawings together."""


def make_figure(
    event: Event, title: str, shown: Sequence[View], voxel_cm: float | None = None
) -> plotly.Figure:
    """Make an interactive figure of an event with a button per view.

    With true and predicted views the predicted one is at the right of the true one.

    Args:
        event: a 2D or 3D event.
        title: of the figure.
        shown: the views.
        voxel_cm: side of a voxel [cm]; by default the axes are in voxels.
    """
    pairs = pair_views(shown)
    sides = max(map(len, pairs))
    texts = _Hover.of(event, shown)
    figure, groups = plotly.Figure(), []
    for pair in pairs:
        traces = [
            trace
            for side, view in enumerate(pair, 1)
            for trace in _make_traces(event, view, texts, side, voxel_cm)
        ]
        groups.append(len(traces))
        figure.add_traces(traces)
    first = _first_shown(pairs)
    buttons = []
    for index, pair in enumerate(pairs):
        visible = [n == index for n, count in enumerate(groups) for _ in range(count)]
        change = [{"visible": visible}, {"annotations": _headings(pair, sides)}]
        buttons.append({"label": pair[0].title, "method": "update", "args": change})
    active = [n == first for n, count in enumerate(groups) for _ in range(count)]
    for trace, on in zip(figure.data, active, strict=True):
        trace.visible = on
    position = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left"}
    position |= {"y": 1, "yanchor": "bottom", "pad": {"b": 28}}  # above the titles of the drawings
    figure.update_layout(
        title={"text": title, "y": 0.985, "yanchor": "top"},
        updatemenus=[{"buttons": buttons, "active": first, **position}],
        annotations=_headings(pairs[first], sides),
        legend={"itemsizing": "constant", "groupclick": "toggleitem", "font": {"size": 11}},
        margin={"l": 40, "r": 10, "b": 60, "t": 110},
        **_axes(event, sides, voxel_cm),
    )
    return figure


def pair_views(shown: Sequence[View]) -> list[tuple[View, ...]]:
    """Return the views with what stands at their right: the prediction of the same quantity.

    Without true clusters or classes beside the predictions each view stands alone.
    """
    predicted = {view.title.removeprefix("predicted "): view for view in shown[3:]}
    others = [view for view in shown if view not in predicted.values()]
    if not predicted:
        return [(view,) for view in others]
    last = list(predicted.values())[-1]
    return [(view, predicted.get(view.title.removeprefix("true "), last)) for view in others]


def _first_shown(pairs: Sequence[tuple[View, ...]]) -> int:
    """Return the button that is pressed first: clusters, or else classes, with their prediction."""
    compared = [
        n
        for n, (view, *right) in enumerate(pairs)
        if right and right[0].title == f"predicted {view.title.removeprefix('true ')}"
    ]
    return compared[-1] if compared else 0


def _headings(pair: Sequence[View], sides: int) -> list[dict[str, Any]]:
    """Return the titles of the drawings."""
    return [
        {
            "text": view.title,
            "showarrow": False,
            "xref": "paper",
            "yref": "paper",
            "x": (side + 0.5) / sides,
            "xanchor": "center",
            "y": 1,
            "yanchor": "bottom",
            "yshift": 4,
        }
        for side, view in enumerate(pair)
    ]


def _axes(event: Event, sides: int, voxel_cm: float | None) -> dict[str, Any]:
    """Return the titles and domains of all axes."""
    unit, layout = "cm" if voxel_cm else "voxel", dict[str, Any]()
    for side in range(sides):
        number = str(side + 1) if side else ""
        domain = [side / sides + 0.01 * side, (side + 1) / sides - 0.01]
        if len(event.shape) == 3:
            titles = {f"{axis}axis": {"title": f"{axis} [{unit}]", **TICKS} for axis in "xyz"}
            camera = {"eye": dict.fromkeys("xyz", EYE)}
            layout[f"scene{number}"] = {"aspectmode": "data", "camera": camera, **titles}
            layout[f"scene{number}"]["domain"] = {"x": domain, "y": [0, 1]}
        else:
            layout[f"xaxis{number}"] = {"title": "wire", "domain": domain, "constrain": "domain"}
            axis = {"title": "tick", "scaleanchor": f"x{number}", "constrain": "domain"}
            layout[f"yaxis{number}"] = {**axis, "anchor": f"x{number}"}
            if side:
                layout[f"xaxis{number}"] |= {"matches": "x", "anchor": f"y{number}"}
                layout[f"yaxis{number}"] |= {"matches": "y"}
    return layout


@dataclass(frozen=True, eq=False)
class _Hover:
    """The text beside the mouse: short values are much smaller in a page than lines of text.

    Attributes:
        template: plotly's template, after the position.
        classes: (voxel,) names of the classes.
        values: (voxel, column) energy, then clusters, `NONE` for a voxel in no cluster.
    """

    template: str
    classes: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(event: Event, shown: Sequence[View]) -> _Hover:
        unit = "MeV" if len(event.shape) == 3 else "ADC"
        energy = np.array([float(f"{one:.6g}") for one in event.energy], object)  # short in a page
        lines, names, values = [f"%{{customdata[0]:.3g}} {unit}"], [], [energy]
        for view in shown[1:]:
            if "class" in view.title:
                known = np.array([*CLASS_NAMES, NONE], object)  # -1 is the last
                names.append(known[view.hover])
            else:
                lines.append(f"{view.title} %{{customdata[{len(values)}]}}")
                values.append(np.where(view.hover < 0, NONE, view.hover.astype(object)))
        classes = np.full(len(event), "", object)
        for one, separator in zip(names, ["", *[", predicted "] * len(names)], strict=False):
            classes = classes + separator + one
        lines += ["class %{text}"] * bool(names)
        return _Hover("<br>".join(lines), classes, np.stack(values, axis=1))


def legend(view: View, classes: np.ndarray) -> list[tuple[int, str, str]]:
    """Return index, colour and name of each colour that a view uses, the largest cluster first.

    Args:
        view: of classes or clusters.
        classes: (voxel,) classes, for the names of clusters.
    """
    entries = []
    for index in np.unique(view.value).tolist():
        colour = GREY if index < 0 else view.colours[index]
        if index < 0:
            name = NONE
        elif view.names:
            name = view.names[index]
        else:
            name = _cluster_names(view, view.value == index, classes)
        entries.append((index, colour, name))
    return sorted(entries, key=lambda entry: entry[0] < 0)


def _cluster_names(view: View, mask: np.ndarray, classes: np.ndarray) -> str:
    """Return the clusters of a colour: number, class and voxels."""
    numbers, counts = np.unique(view.hover[mask], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    names = []
    for number, count in zip(numbers[order[:NAMED]], counts[order[:NAMED]], strict=True):
        of_cluster = classes[mask & (view.hover == number)]
        known = np.bincount(of_cluster[of_cluster >= 0], minlength=1)
        name = f" {CLASS_NAMES[known.argmax()]}" if known.any() else ""
        names.append(f"{number}{name} ({count})")
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{', '.join(names)}{more}"


def energy_ticks(energy: np.ndarray) -> tuple[list[float], list[str]]:
    """Return positions (logarithms) and labels of the ticks of a bar of energies.

    Example:
        >>> energy_ticks(np.array([0.3, 4.0]))
        ([-0.3010299956639812, 0.0, 0.3010299956639812], ['0.5', '1', '2'])
    """
    if not len(energy):
        return [0.0], ["1"]
    low, high = np.log10(np.maximum([energy.min(), energy.max()], 1e-3))
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    inside = [value for value in values if low <= np.log10(value) <= high]
    inside = inside if len(inside) < 8 else [value for value in inside if f"{value:e}"[0] == "1"]
    return [float(np.log10(value)) for value in inside], [f"{value:g}" for value in inside]


def _make_traces(
    event: Event, view: View, texts: _Hover, side: int, voxel_cm: float | None
) -> list[Any]:
    """Make one trace for energies, else a trace per colour; of a 2D event an image."""
    pixels = int(np.prod(np.ptp(event.coords, axis=0) + 1)) if len(event) else 0
    if len(event.shape) == 2 and 0 < pixels <= LARGEST_IMAGE:
        return _image_traces(event, view, texts, side)
    if not view.colours:
        value = np.log10(np.maximum(view.value, 1e-3))
        marker = {"color": value, "showscale": True, **_energy_scale(event)}
        return [_points(event, texts, np.ones(len(event), bool), marker, side, voxel_cm)]
    return [
        _points(event, texts, view.value == index, {"color": colour}, side, voxel_cm)
        | {"name": name, **_grouped(view, side)}
        for index, colour, name in legend(view, event.semantic)
    ]


def _grouped(view: View, side: int) -> dict[str, Any]:
    """Return the group of a trace in the legend: one for each drawing."""
    title = {"text": f"{view.title} (voxels)"} if not view.names else {"text": view.title}
    return {"showlegend": True, "legendgroup": str(side), "legendgrouptitle": title}


def _energy_scale(event: Event) -> dict[str, Any]:
    positions, names = energy_ticks(event.energy)
    unit = "MeV" if len(event.shape) == 3 else "ADC"
    bar = {"title": f"energy [{unit}]", "tickvals": positions, "ticktext": names, "thickness": 12}
    place = {"orientation": "h", "len": 0.35, "x": 0.25, "y": -0.02, "yanchor": "top"}
    return {"colorscale": "Viridis", "colorbar": bar | place}


def _points(
    event: Event,
    texts: _Hover,
    mask: np.ndarray,
    marker: dict[str, Any],
    side: int,
    voxel_cm: float | None,
) -> dict[str, Any]:
    integer = np.int16 if max(event.shape) < 2**15 else np.int32
    coords = event.coords[mask].T
    coords = (coords * voxel_cm).astype(np.float32) if voxel_cm else coords.astype(integer)
    axes = dict(zip("xyz", coords, strict=False))
    number = str(side) if side > 1 else ""
    where = {"scene": f"scene{number}"}
    if len(axes) == 2:
        where = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    position = "wire %{x}, tick %{y}"
    if len(axes) == 3:
        position = f"(%{{x}}, %{{y}}, %{{z}}) {'cm' if voxel_cm else 'voxel'}"
    return {
        "type": "scatter3d" if len(axes) == 3 else "scattergl",
        **axes,
        **where,
        "mode": "markers",
        "marker": {"size": 2.5 if len(axes) == 3 else 4, **marker},
        "showlegend": False,
        "text": texts.classes[mask],
        "customdata": texts.values[mask],
        "hovertemplate": f"{position}<br>{texts.template}<extra></extra>",
    }


def pixels_of(event: Event, value: np.ndarray) -> np.ndarray:
    """Return (tick, wire) the values of a 2D event inside its box; NaN where no pixel is."""
    low = event.coords.min(axis=0)
    image = np.full(np.ptp(event.coords, axis=0) + 1, np.nan, np.float32)
    image[tuple((event.coords - low).T)] = value
    return image.T


def _image_traces(event: Event, view: View, texts: _Hover, side: int) -> list[Any]:
    """Draw a 2D event as an image of wires and ticks, and invisible points for the mouse."""
    number = str(side) if side > 1 else ""
    where = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    wire, tick = (int(low) for low in event.coords.min(axis=0))
    image = {"type": "heatmap", "x0": wire, "dx": 1, "y0": tick, "dy": 1, "hoverinfo": "skip"}
    points = _points(event, texts, np.ones(len(event), bool), {"opacity": 0}, side, None)
    if not view.colours:
        value = pixels_of(event, np.log10(np.maximum(view.value, 1e-3)))
        return [{**image, **where, "z": value, "showscale": True, **_energy_scale(event)}, points]
    entries = legend(view, event.semantic)
    rank = {index: n for n, (index, _, _) in enumerate(entries)}
    value = pixels_of(event, np.array([rank[index] for index in view.value.tolist()], float))
    count = len(entries)
    scale = [
        [edge / count, colour] for n, (_, colour, _) in enumerate(entries) for edge in (n, n + 1)
    ]
    steps = {"colorscale": scale, "zmin": -0.5, "zmax": count - 0.5, "showscale": False}
    named = [
        {"type": "scatter", "x": [None], "y": [None], "mode": "markers", "name": name, **where}
        | {"marker": {"color": colour, "symbol": "square"}, **_grouped(view, side)}
        for _, colour, name in entries
    ]
    return [{**image, **where, "z": value, **steps}, points, *named]
