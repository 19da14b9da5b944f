"""Plots of a search, made by Optuna: history, parallel coordinates, importances, Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import optuna
from optuna import distributions, visualization
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.colors import sample_colorscale

from lartpc_ray.report.charts import ACCENT, NEUTRAL, Chart, chart
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.trial_run import logged_text
from lartpc_ray.trials.space import is_number

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
    values = [row.costs.get(cost)] * bool(cost) + [row.objective] if row else [None]
    if row is None or None in values:
        return create_trial(state=TrialState.FAIL)
    names = {escape(name): path for name, path in short_names(search).items()}
    texts = {name: row.settings.get(path) for name, path in names.items()}
    known = {name: text for name, text in texts.items() if text is not None}
    read = {name: _value(text, *search[names[name]]) for name, text in known.items()}
    params = {name: value for name, value in read.items() if value is not None}
    return create_trial(
        values=[float(value) for value in values if value is not None],
        params=params,
        distributions={name: distribution(*search[names[name]]) for name in params},
    )


def distribution(kind: str, values: list[Any]) -> distributions.BaseDistribution:
    """Return Optuna's distribution of a searched setting."""
    if kind in ("choice", "grid"):
        return distributions.CategoricalDistribution([_choice(value) for value in values])
    low, high = values
    if kind == "int":
        return distributions.IntDistribution(low, high)
    return distributions.FloatDistribution(low, high, log=kind == "log")


def _value(text: str, kind: str, values: list[Any]) -> Any:
    """Return the value of a logged text, which is rounded; None for no option."""
    if kind in ("choice", "grid"):
        return next((_choice(value) for value in values if text in _texts(value)), None)
    number = int(text) if kind == "int" else float(text)
    return min(max(number, values[0]), values[1])


def _texts(value: Any) -> set[str]:
    """Return the texts by which MLflow may have an option: a setting turns 1 into 1.0."""
    return {str(value), *(logged_text(one) for one in (value, _as_float(value)))}


def _as_float(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_float(one) for one in value]
    return float(value) if is_number(value) else value


def _choice(value: Any) -> str | float:
    """Keep a number, which Optuna sorts; escape a text, in which plotly reads tags."""
    return value if is_number(value) else escape(str(value))


def history(study: optuna.Study) -> Chart:
    """Plot the objective of each trial, and the best so far, by the index of the trial."""
    figure = visualization.plot_optimization_history(study, target_name="objective")
    trials, best, _ = figure.data
    trials.marker = {"color": NEUTRAL, "size": 7, "opacity": 0.75}
    best.update(name="best so far", line={"color": ACCENT, "shape": "hv", "width": 2})
    ticks = {"dtick": 1} if len(study.trials) <= 20 else {}
    return chart(figure.to_plotly_json()["data"], "trial", "objective", xaxis=ticks)


def common_settings(study: optuna.Study) -> list[str]:
    """Return the settings that have an effect in every trial with an objective."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shared = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    return sorted(shared)


def parallel(study: optuna.Study) -> Chart:
    """Plot each trial as a line through its settings, the best on top and most opaque.

    A setting without an effect in some trials has no axis: Optuna would leave out these trials.
    """
    figure = visualization.plot_parallel_coordinate(
        study, params=common_settings(study), target_name="objective"
    )
    plot = figure.to_plotly_json()
    *lines, colour_bar = plot["data"]
    lines.sort(key=lambda line: line["y"][0])
    colours = sample_colorscale(SCALE, [line["y"][0] for line in lines])
    for line, colour in zip(lines, colours, strict=True):
        line["line"]["color"] = colour
        line["opacity"] = 0.4 + 0.6 * line["y"][0] ** 3
    colour_bar["marker"] |= {"colorscale": SCALE, "colorbar": {"thickness": 10}}
    layout = {name: plot["layout"][name] for name in ("xaxis", "yaxis", "shapes")}
    layout["xaxis"]["automargin"] = True
    layout |= {"height": 420, "margin": {"l": 60, "r": 16, "t": 12, "b": 48}}
    return {"data": [*lines, colour_bar], "layout": layout | {"annotations": _ticks(study, plot)}}


def _ticks(study: optuna.Study, plot: Chart) -> list[Chart]:
    """Drop the ticks that Optuna puts between whole numbers, and its colour, unfit for black."""
    kinds = study.best_trial.distributions
    axes = [kinds.get(name) for name in plot["layout"]["xaxis"]["ticktext"]]
    return [
        tick | {"font": {"size": 10}}
        for tick in plot["layout"]["annotations"]
        if "." not in tick["text"] or not isinstance(axes[tick["x"]], distributions.IntDistribution)
    ]


def importances(study: optuna.Study) -> Chart | None:
    """Plot the share of each setting in the difference of the best tenth of the trials to the rest.

    PED-ANOVA (Watanabe et al. 2023) takes 0.2 s for 1,000 trials of eight settings; fANOVA, which
    explains all trials and not only the best, takes 234 s.

    Returns:
        None for fewer than `MIN_TRIALS` trials, for equal objectives, and without a search.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    is_constant = len({trial.value for trial in trials}) < 2
    common = common_settings(study)
    if len(trials) < MIN_TRIALS or is_constant or not common:
        return None
    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=common)
    # plot_param_importances copies all trials once per setting: 1.2 s for 1,000 trials
    bars: Chart = {"type": "bar", "orientation": "h", "marker": {"color": ACCENT}}
    bars |= {"x": list(shares.values())[::-1], "y": list(shares)[::-1]}
    bars |= {"texttemplate": "%{x:.0%}", "hovertemplate": "%{y}: %{x:.1%}<extra></extra>"}
    axis = {"tickformat": ".0%", "rangemode": "tozero"}
    return chart([bars], "share", "", height=90 + 28 * len(shares), xaxis=axis)


def pareto_front(study: optuna.Study, cost: str) -> Chart:
    """Plot the objective against a cost, and mark the trials on the Pareto front.

    Args:
        study: made with the cost.
        cost: its title on the axis.
    """
    figure = visualization.plot_pareto_front(study)
    others, front = figure.data
    for trace in figure.data:  # the colour is the index of the trial
        trace.text = [f"trial {index}" for index in trace.marker.color]
        trace.hovertemplate = "%{text}<br>%{x:.3g}, %{y:.4f}<extra></extra>"
        trace.showlegend = True
    others.update(name="other trials", marker={"color": NEUTRAL, "size": 7}, overwrite=True)
    front.update(name="Pareto front", marker={"color": ACCENT, "size": 9}, overwrite=True)
    return chart(figure.to_plotly_json()["data"], cost, "objective")
