"""Show a comparison of two networks: as an HTML page, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.views import Panel
from lartpc_ray.metrics.paired import LOWER_IS_BETTER, PairedDifference
from lartpc_ray.report import charts
from lartpc_ray.report.charts import ACCENT, NEUTRAL, Chart, chart
from lartpc_ray.report.comparison import Comparison, format_setting
from lartpc_ray.report.document import Block, EventFigure, Grid, Page, Plot, Row, Table, Text
from lartpc_ray.report.gallery import subsample
from lartpc_ray.report.sides import Side
from lartpc_ray.report.verdict import SIGMAS

SHOWN = 3
"""Events of largest difference that are drawn, of each sign."""


def write_comparison(path: Path, comparison: Comparison, sides: Sequence[Side] = ()) -> None:
    """Write a comparison: a picture for a path that ends with .png, a page for another one.

    Args:
        path: of the file, written whole or not at all.
        comparison: of two networks.
        sides: the two networks, to draw events; none where their outputs are not at hand.
    """
    if path.suffix == ".png":
        _draw(path, comparison)
        return
    page = Page()
    first, *further = comparison.sentences()
    facts = {"A": comparison.labels[0], "B": comparison.labels[1], "task": comparison.task}
    marked = f"Marked: a difference of more than {SIGMAS:.0f} errors, of either sign."
    tables: list[Block] = [*_tables(comparison), Text("note", marked)]
    page.add("Comparison", " ".join([first, *further]), *tables)
    _differences(page, comparison)
    _settings(page, comparison)
    _learning(page, comparison)
    if sides:
        _events(page, comparison, sides)
    page.write(
        path, "A against B", facts | {"events": f"{comparison.events} of {comparison.source}"}
    )


def _tables(comparison: Comparison) -> list[Table]:
    heads = ["A", "B", "A - B", "P(A better)", "events"]
    tables = []
    for metric, title in comparison.titles.items():
        rows = [
            Row(
                "this" if abs(row.difference) > SIGMAS * row.error else "",
                name,
                [
                    *(_number(comparison.mean(side, metric, name)) for side in (0, 1)),
                    f"{row.difference:+.3f} ± {row.error:.3f}",
                    f"{row.p_better:.2f}",
                    str(row.events),
                ],
            )
            for name, row in comparison.differences[metric].items()
        ]
        if rows:
            lower = ", lower is better" * (metric in LOWER_IS_BETTER)
            tables.append(Table(f"{title}{lower}", heads, rows, aligned=True))
    return tables


def _differences(page: Page, comparison: Comparison) -> None:
    plots = [
        Plot(difference_chart(rows, f"A - B, {title}"), f"Differences of {title}", title)
        for metric, title in comparison.titles.items()
        if (rows := comparison.differences[metric])
    ]
    text = (
        "The mean difference over the events that both networks have, class by class. The bars "
        "are one standard error over the events. Right of the line the first network has the "
        "higher value."
    )
    page.add("Differences by class", text, Grid(plots))


def difference_chart(rows: dict[str, PairedDifference], across: str) -> Chart:
    """Draw paired differences with their errors, the first class on top."""
    names = list(rows)[::-1]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [rows[name].difference for name in names],
        "y": names,
        "error_x": {"type": "data", "array": [rows[name].error for name in names]},
        "marker": {"color": ACCENT, "size": 8},
        "hovertemplate": "%{y}: %{x:+.3f}<extra></extra>",
        "showlegend": False,
    }
    zero = {"type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    shapes = [zero | {"line": {"color": NEUTRAL, "dash": "dot", "width": 1.5}}]
    return chart([trace], across, "", height=110 + 28 * len(names), shapes=shapes)


def _settings(page: Page, comparison: Comparison) -> None:
    if comparison.settings is None:
        return
    rows = [
        Row("", key, [format_setting(value) for value in values])
        for key, values in comparison.settings.items()
    ]
    text = "All other settings are equal." if rows else "No setting differs."
    page.add("Settings that differ", text, *([Table("setting", ["A", "B"], rows)] if rows else []))


def _learning(page: Page, comparison: Comparison) -> None:
    pairs = zip(("A", "B"), comparison.objectives, strict=True)
    curves = {name: dict(points) for name, points in pairs if points}
    if any(len(points) > 1 for points in curves.values()):
        drawn = charts.curves(curves, next(iter(curves)))
        for trace in drawn["data"]:
            trace["showlegend"] = True
        text = "The objective on the tune split as each network was trained."
        page.add("Learning curves", text, Plot(drawn, "Objective by step"))


def _events(page: Page, comparison: Comparison, sides: Sequence[Side]) -> None:
    """Draw the events of largest difference, both networks side by side."""
    scores = comparison.event_differences()
    order = sorted(scores, key=lambda number: (scores[number], number))
    worst = [number for number in order[:SHOWN] if scores[number] < 0]
    best = [number for number in order[::-1][:SHOWN] if scores[number] > 0]
    body: list[Block] = []
    for title, numbers in (("A is better", best), ("B is better", worst)):
        figures = [_figure(number, scores[number], sides) for number in numbers]
        body += [Text("heading", title), *figures] if figures else []
    if body:
        metric = next(iter(comparison.titles.values()))
        text = (
            f"The test events in which the two networks differ most by {metric} (mean over the "
            "classes of the event). Drag to turn; the drawings of an event turn together."
        )
        page.add("The same events side by side", text, *body)


def _figure(number: int, difference: float, sides: Sequence[Side]) -> EventFigure:
    """Draw the truth and what each network makes of an event."""
    shown: list[Panel] = []
    for name, side in zip("AB", sides, strict=True):
        event, outputs = side.evaluation.predictions("test")[number]
        panels = side.evaluation.task.panels(event, outputs, side.thresholds)
        truth, *made = (subsample(panel, event) for panel in panels if panel.image)
        shown += [] if shown else [truth]
        shown += [
            replace(panel, view=replace(panel.view, title=f"{name}: {panel.view.title}"))
            for panel in made
        ]
    return EventFigure(shown, f"event {number}: A - B {difference:+.3f}, {len(event)} voxels")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _draw(path: Path, comparison: Comparison) -> None:
    """Draw the differences of the first metric by class, and the learning curves."""
    metric, title = next(iter(comparison.titles.items()))
    curves = [points for points in comparison.objectives if len(points) > 1]
    figure = Figure(figsize=(11 if curves else 6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, *right = np.atleast_1d(figure.subplots(1, 1 + bool(curves)))
    _draw_differences(left, comparison.differences[metric])
    left.set(xlabel=f"A - B, {title}", title=f"{comparison.events} events of {comparison.source}")
    for axes in right:
        for name, points, colour in zip(
            "AB", comparison.objectives, (ACCENT, NEUTRAL), strict=True
        ):
            axes.plot(*zip(*sorted(points.items()), strict=True), "o-", color=colour, label=name)
        axes.set(xlabel="training step", ylabel="objective on the tune split")
        axes.legend()
    a, b = (label if len(label) < 70 else f"{label[:67]}..." for label in comparison.labels)
    figure.suptitle(f"A: {a}\nB: {b}", fontsize=10)
    with replace_file(path) as part:
        figure.savefig(part, dpi=110, format="png")


def _draw_differences(axes: Axes, rows: dict[str, PairedDifference]) -> None:
    names = list(rows)[::-1]
    values, errors = ([getattr(rows[n], key) for n in names] for key in ("difference", "error"))
    axes.errorbar(values, range(len(names)), xerr=errors, fmt="o", color=ACCENT, capsize=3)
    axes.axvline(0, color=NEUTRAL, linestyle=":")
    axes.set_yticks(range(len(names)), names)
