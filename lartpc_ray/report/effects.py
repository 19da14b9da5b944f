"""The effects of the settings of a search as a figure: on the page, and in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import ValidationError

from lartpc_ray.atomic import replace_file
from lartpc_ray.report.charts import ACCENT, NEUTRAL, Chart, chart
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text, format_value, short_names
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.effects import SURE, Effect, Effects

FILE, PICTURE = "effects.json", "effects.png"
"""The artefacts of a search's run."""
ACROSS = "change of the objective from the first to the second value"
LOOKS = {
    True: (f"more than {SURE:g} errors from zero", ACCENT, "circle"),
    False: (f"within {SURE:g} errors of zero", NEUTRAL, "circle-open"),
}
"""Significant or not, to the name, colour and symbol of the points."""
LONGEST = 24
"""Characters of a value in a label."""


def by_size(effects: Sequence[Effect]) -> dict[str, Effect]:
    """Return label to effect, the largest effect first.

    Example:
        >>> list(by_size([Effect("network.filters", 4, 8, 0.03, 0.01)]))
        ['filters: 4 → 8']
    """
    short = {path: name for name, path in short_names({one.setting for one in effects}).items()}
    ranked = sorted(effects, key=lambda one: -abs(one.change))
    labels: dict[str, Effect] = {}
    for one in ranked:
        label = f"{short[one.setting]}: {_value(one.low)} → {_value(one.high)}"
        if label in labels:  # of long values that begin alike
            label = f"{short[one.setting]}: {one.low} → {one.high}"
        labels[label] = one
    return labels


def _value(value: object) -> str:
    text = format_value(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def effects_chart(effects: Sequence[Effect]) -> Chart:
    """Draw a point with its error for each effect, the largest on top, and a line at zero.

    A filled point is significant, an open one is not.
    """
    ranked = by_size(effects)
    places = {label: len(ranked) - 1 - number for number, label in enumerate(ranked)}
    traces = []
    for significant, (name, colour, symbol) in LOOKS.items():
        shown = {label: one for label, one in ranked.items() if one.significant == significant}
        trace = {"type": "scatter", "mode": "markers", "name": name, "showlegend": True}
        trace |= {"x": [one.change for one in shown.values()]}
        trace |= {"y": [places[label] for label in shown]}
        trace |= {"text": [escape(label) for label in shown]}
        trace |= {"error_x": {"type": "data", "array": [one.error for one in shown.values()]}}
        trace |= {"marker": {"color": colour, "symbol": symbol, "size": 9}}
        trace |= {"hovertemplate": "%{text}: %{x:+.4f}<extra></extra>"}
        traces += [trace] if shown else []
    zero = {"type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    shapes = [zero | {"line": {"color": NEUTRAL, "dash": "dot", "width": 1.5}}]
    up = {"tickvals": list(places.values()), "ticktext": [escape(label) for label in places]}
    up |= {"range": [-0.6, len(ranked) - 0.4], "zeroline": False}
    height = 120 + 28 * len(ranked)
    return chart(traces, ACROSS, "", height=height, shapes=shapes, yaxis=up)


def draw_effects(path: Path, measured: Effects) -> None:
    """Write the figure of the page as a picture, whole or not at all.

    Args:
        path: of a PNG file.
        measured: the effects, with the trials that they follow from.
    """
    ranked = by_size(measured.effects)
    places = {label: len(ranked) - 1 - number for number, label in enumerate(ranked)}
    figure = Figure(figsize=(8, 1.6 + 0.32 * len(ranked)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for significant, (name, colour, _symbol) in LOOKS.items():
        shown = {label: one for label, one in ranked.items() if one.significant == significant}
        if shown:
            axes.errorbar(
                [one.change for one in shown.values()],
                [places[label] for label in shown],
                xerr=[one.error for one in shown.values()],
                fmt="o",
                color=colour,
                markerfacecolor=colour if significant else "white",
                capsize=3,
                label=name,
            )
    axes.axvline(0, color=NEUTRAL, linestyle=":")
    axes.set_yticks(list(places.values()), list(places), parse_math=False)
    axes.set(xlabel=ACROSS, ylim=(-0.6, len(ranked) - 0.4))
    axes.set_title(
        f"{measured.trials} trials after {measured.step} steps, 68 % errors", fontsize=10
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    with replace_file(path) as part:
        figure.savefig(part, dpi=110, format="png")


def log_effects(tracking: Tracking, search: str, measured: Effects) -> None:
    """Log the effects and the verdict to the run of a search, the effects also as a picture.

    An error is only a warning: the end of a search still has hours of work to record.
    """
    if not (measured.effects or measured.verdict):
        return
    try:
        tracking.log_text(search, measured.model_dump_json(indent=1), FILE)
        if not measured.effects:
            return
        with tempfile.TemporaryDirectory() as scratch:
            picture = Path(scratch) / PICTURE
            draw_effects(picture, measured)
            tracking.log_artifact(search, picture)
    except Exception as error:
        log.warning(f"the search has no {PICTURE} in MLflow: {error_text(error)}")


def read_effects(tracking: Tracking, search: str) -> Effects | None:
    """Return the logged effects of a search; None without any, or for a damaged file."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = tracking.fetch(search, FILE, Path(scratch))
            return Effects.model_validate_json(file.read_bytes())
        except ValidationError as error:
            log.warning(f"{FILE} of run {search}: {error_text(error)}; the page does not show it")
        except ValueError:  # of an earlier version, or of too few trials
            pass
    return None
