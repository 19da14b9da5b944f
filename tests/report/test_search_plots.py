"""Optuna's plots of a search: right for each kind of setting, and for few or failed trials."""

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from lartpc_ray.report import search_plots
from lartpc_ray.report.search_plots import MIN_TRIALS, Search, make_study
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.tracking.trial_run import logged_text
from lartpc_ray.trials.paths import flatten_settings, make_trial

SEARCH: Search = {
    "optimizer.learning_rate": ("log", [1e-3, 1.0]),
    "network.depth": ("int", [4, 6]),
    "task.loss.mask": ("choice", ["focal", "<b>"]),
    "data.box": ("grid", [64, 96]),
}


def row(trial: int, objective: float | None, *values: object, cost: float = 1) -> TrialRow:
    settings = {path: str(value) for path, value in zip(SEARCH, values, strict=True)}
    return TrialRow(trial, objective, "run", "FINISHED", "", {"training_gib": cost}, settings)


ROWS = [
    row(3, 0.9, 1e-2, 6, "<b>", 96, cost=2),
    row(1, 0.8, 1e-1, 4, "focal", 64),
    row(2, 0.7, 1.0, 5, "focal", 96),
    row(0, None, 1e-3, 4, "focal", 64),
]


def test_the_history_is_in_the_order_of_the_trials_without_the_failed_one() -> None:
    trials, best, *_ = search_plots.history(make_study(ROWS, SEARCH))["data"]
    assert list(trials["x"]) == [1, 2, 3]
    assert list(trials["y"]) == [0.8, 0.7, 0.9]
    assert list(best["y"][1:]) == [0.8, 0.8, 0.9]


def test_a_line_of_a_trial_follows_the_scale_of_each_setting() -> None:
    plot = search_plots.parallel(make_study(ROWS, SEARCH))
    assert plot["layout"]["xaxis"]["ticktext"] == (
        ["objective", "box", "depth", "learning_rate", "mask"]
    )
    lowest, _, best, _ = plot["data"]
    assert lowest["y"] == pytest.approx([0, 1, 0.5, 1, 0]), "the best is drawn last"
    assert best["y"] == pytest.approx([1, 1, 1, 0, 1])
    ticks = [tick["text"] for tick in plot["layout"]["annotations"]]
    assert ticks[5:] == ["64", "96", "4", "5", "6", "0.01", "0.1", "1", "focal", "&lt;b&gt;"]


def test_the_front_holds_the_trials_that_no_other_dominates() -> None:
    study = make_study(ROWS, {}, "training_gib")
    others, front = search_plots.pareto_front(study, "training GiB")["data"]
    assert sorted(zip(front["text"], front["x"], front["y"], strict=True)) == [
        ("trial 1", 1, 0.8),
        ("trial 3", 2, 0.9),
    ]
    assert list(others["text"]) == ["trial 2"]


def test_the_setting_that_makes_the_objective_is_the_most_important() -> None:
    rng = np.random.default_rng(3)
    rates = 10 ** rng.uniform(-3, 0, 200)
    rows = [
        row(trial, np.log10(rate), rate, rng.integers(4, 7), "focal", rng.choice([64, 96]))
        for trial, rate in enumerate(rates)
    ]
    plot = search_plots.importances(make_study(rows, SEARCH))
    assert plot is not None
    (bar,) = plot["data"]
    assert (bar["y"][-1], bar["x"][-1] > 0.9) == ("learning_rate", True)
    assert sum(bar["x"]) == pytest.approx(1)


def test_a_setting_without_an_effect_in_some_trials_has_no_axis() -> None:
    """Optuna would leave out trial 3; the study keeps the values of the other trials."""
    rows = [replace(ROWS[0], settings={**ROWS[0].settings, "task.loss.mask": None}), *ROWS[1:]]
    study = make_study(rows, SEARCH)
    assert "mask" not in study.trials[3].params
    plot = search_plots.parallel(study)
    assert plot["layout"]["xaxis"]["ticktext"] == ["objective", "box", "depth", "learning_rate"]
    assert len(plot["data"]) == 4, "three trials and the colours"
    many = [replace(rows[n % 3], trial=n, objective=0.1 * n) for n in range(MIN_TRIALS)]
    shares = search_plots.importances(make_study(many, SEARCH))
    assert shares is not None
    assert "mask" not in shares["data"][0]["y"]


@pytest.mark.parametrize("count", [1, MIN_TRIALS - 1, MIN_TRIALS])
def test_few_trials_or_equal_objectives_have_no_importances_and_all_other_plots(count: int) -> None:
    rows = [
        row(trial, 0.5 + trial * (count < MIN_TRIALS), 0.1, 4, "<b>", 64) for trial in range(count)
    ]
    study = make_study(rows, SEARCH)
    assert search_plots.importances(study) is None
    front = search_plots.pareto_front(make_study(rows, {}, "training_gib"), "training GiB")
    for plot in (search_plots.history(study), search_plots.parallel(study), front):
        assert plot["layout"]["height"] > 0
        assert go.Figure(plot).data


@pytest.mark.parametrize(
    ("path", "kind", "values"),
    [
        ("optimizer.weight_decay", "choice", [1.0, 0.000123456]),
        ("optimizer.weight_decay", "choice", [1, 2]),
        ("task.linked.s0", "choice", [[0.1, 1], [0.2, 0.5]]),
        ("data.splits.train_events", "choice", [None, 8]),
        ("optimizer.learning_rate", "log", [0.00123454, 0.0123456]),
    ],
)
def test_a_logged_value_is_found_among_those_of_the_space(
    path: str, kind: str, values: list[Any]
) -> None:
    """MLflow has rounded texts, and a setting turns 1 into 1.0."""
    settings = [flatten_settings(make_trial({path: value}))[path] for value in values]
    rows = [
        TrialRow(number, 0.5 + number / 10, "r", "FINISHED", "", {}, {path: logged_text(value)})
        for number, value in enumerate(settings)
    ]
    study = make_study(rows, {path: (kind, values)})
    (name,) = search_plots.common_settings(study)
    assert len({trial.params[name] for trial in study.trials}) == 2


def test_a_value_that_the_space_has_not_is_left_out() -> None:
    row = TrialRow(0, 0.5, "r", "FINISHED", "", {}, {"network.depth": "9"})
    study = make_study([row], {"network.depth": ("choice", [4, 5])})
    assert not search_plots.common_settings(study)
