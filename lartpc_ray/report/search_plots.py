"""Plots of a search, made by Optuna: history, parallel coordinates, importances, Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
)
from plotly.colors import sample_colorscale

from lartpc_ray.report.charts import FRONT, OTHER, Chart, chart
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.terminal.text import short_names

Search = Mapping[str, tuple[str, list[Any]]]
"""Path of each searched setting to its kind and its values, as a space file has them."""
MIN_TRIALS = 20
"""Importances need as many trials: of fewer, the best tenth is a single trial."""
SCALE = [[0, "#9aa5b8"], [0.5, "#e8a33d"], [1, "#c92a2a"]]
"""Colours from the lowest to the highest objective, visible on white and on black."""


def make_study(rows: Sequence[TrialRow], search: Search, cost: str = "") -> optuna.Study:
    """Make an Optuna study of trials that keep their indices.

    A trial without an objective, or without the cost, counts as failed, and no plot shows it.

    Args:
        rows: the trials.
        search: the settings to keep of each trial.
        cost: the cost that the study minimises beside the objective, if any.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [StudyDirection.MINIMIZE] * bool(cost) + [StudyDirection.MAXIMIZE]
    study = optuna.create_study(directions=directions)
    by_index = {row.trial: row for row in rows}
    for index in range(max(by_index, default=-1) + 1):
        study.add_trial(_trial(by_index.get(index), search, cost))
    return study


def _trial(row: TrialRow | None, search: Search, cost: str) -> FrozenTrial:
    values = [row.costs.get(cost)] * bool(cost) + [row.objective] if row else []
    known = [value for value in values if value is not None]
    if row is None or len(known) < len(values):
        return create_trial(state=TrialState.FAIL)
    params, distributions = {}, {}
    for name, path in short_names(search).items():
        if (text := row.settings.get(path)) is not None:
            params[escape(name)] = _value(text, *search[path])
            distributions[escape(name)] = _distribution(*search[path])
    return create_trial(values=known, params=params, distributions=distributions)


def _distribution(kind: str, values: list[Any]) -> BaseDistribution:
    if kind in ("choice", "grid"):
        return CategoricalDistribution([_choice(value) for value in values])
    if kind == "int":
        return IntDistribution(int(values[0]), int(values[1]))
    return FloatDistribution(float(values[0]), float(values[1]), log=kind == "log")


def _value(text: str, kind: str, values: list[Any]) -> Any:
    if kind in ("choice", "grid"):
        return _choice(values[[str(value) for value in values].index(text)])
    return int(text) if kind == "int" else float(text)


def _choice(value: Any) -> str | float:
    """Keep a number, which Optuna sorts; plotly reads tags in a text, so escape them."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else escape(str(value))


def history(study: optuna.Study) -> Chart:
    """Plot the objective of each trial, and the best so far, by the index of the trial."""
    figure = plot_optimization_history(study, target_name="objective")
    figure.update_traces(selector=0, marker={"color": OTHER, "size": 7, "opacity": 0.75})
    figure.update_traces(
        selector=1, name="best so far", line={"color": FRONT, "shape": "hv", "width": 2}
    )
    few = {"dtick": 1} if len(study.trials) <= 20 else {}
    return chart(figure.to_plotly_json()["data"], "trial", "objective", xaxis=few)


def parallel(study: optuna.Study) -> Chart:
    """Plot each trial as a line through its settings, the best on top."""
    plot = plot_parallel_coordinate(study, target_name="objective").to_plotly_json()
    *lines, colour_bar = plot["data"]
    colours = sample_colorscale(SCALE, [line["y"][0] for line in lines])
    for line, colour in zip(lines, colours, strict=True):
        line["line"]["color"] = colour
    lines.sort(key=lambda line: line["y"][0])
    colour_bar["marker"] |= {"colorscale": SCALE, "colorbar": {"thickness": 10}}
    layout = {"height": 420, "margin": {"l": 60, "r": 16, "t": 12, "b": 48}}
    layout |= {name: plot["layout"][name] for name in ("xaxis", "yaxis", "shapes")}
    return {"data": [*lines, colour_bar], "layout": layout | {"annotations": _ticks(study, plot)}}


def _ticks(study: optuna.Study, plot: Chart) -> list[Chart]:
    """Return the ticks in the colour of the page; Optuna puts some between whole numbers."""
    distributions = study.best_trial.distributions
    whole = [
        axis
        for axis, name in enumerate(plot["layout"]["xaxis"]["ticktext"])
        if isinstance(distributions.get(name), IntDistribution)
    ]
    ticks = plot["layout"]["annotations"]
    shown = [tick for tick in ticks if tick["x"] not in whole or "." not in tick["text"]]
    return [tick | {"font": {"size": 10}} for tick in shown]


def importances(study: optuna.Study) -> Chart | None:
    """Plot the share of each setting in the difference of the best tenth of the trials to the rest.

    fANOVA, which explains all trials and not only the best, took 234 s for 1,000 trials of eight
    settings; PED-ANOVA takes 0.2 s.

    Returns:
        None for fewer than `MIN_TRIALS` trials, for equal objectives, and without a search.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    is_constant = len({trial.value for trial in trials}) < 2
    if len(trials) < MIN_TRIALS or is_constant or not trials[0].params:
        return None
    figure = plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    figure.update_traces(marker={"color": FRONT}, hovertemplate="%{y}: %{x:.0%}<extra></extra>")
    plot = figure.to_plotly_json()
    height = 90 + 28 * len(plot["data"][0]["y"])
    share = {"tickformat": ".0%", "rangemode": "tozero"}
    return chart(plot["data"], "share", "", height=height, xaxis=share)


def pareto_front(study: optuna.Study, cost: str) -> Chart:
    """Plot the objective against a cost, and mark the trials on the Pareto front.

    Args:
        study: made with the cost.
        cost: its title on the axis.
    """
    figure = plot_pareto_front(study)
    shown = ((OTHER, 7, "other trials"), (FRONT, 9, "Pareto front"))
    for trace, (colour, size, name) in zip(figure.data, shown, strict=True):
        trace.text = [f"trial {index}" for index in trace.marker.color]
        trace.marker = {"color": colour, "size": size}
        trace.update(name=name, showlegend=True)
        trace.hovertemplate = "%{text}<br>%{x:.3g}, %{y:.4f}<extra></extra>"
    return chart(figure.to_plotly_json()["data"], cost, "objective")
