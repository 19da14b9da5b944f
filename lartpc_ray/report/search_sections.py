"""The sections of a page about a search: history, settings, importances, costs."""

from __future__ import annotations

from collections.abc import Sequence

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.report import search_plots
from lartpc_ray.report.charts import Chart, learning_curve
from lartpc_ray.report.document import Page, Plot, Row, Table, Text
from lartpc_ray.report.effects import effects_chart
from lartpc_ray.report.search_plots import Search, make_study
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import TrialRow, cost_ratios
from lartpc_ray.terminal.text import format_value
from lartpc_ray.trials.effects import SURE, Effects

EFFECTS = "Effects of the settings"
"""Title of their section."""
MOST_ROWS = 12
"""Trials listed."""
BY_EVENTS = "Objective by training events"
"""Title of the section with a learning curve over the number of events."""
TRAIN_EVENTS = "data.splits.train_events"
"""The setting of a learning curve over the number of events."""


def write(page: Page, subject: Subject, search: Search, costs: Sequence[str]) -> None:
    """Write the sections of a search; none before a trial has reported an objective.

    Args:
        page: to write on.
        subject: the study.
        search: the searched settings in which the trials differ.
        costs: names of the costs to plot.
    """
    rows = [row for row in subject.rows if row.objective is not None]
    if not rows:
        return
    study = make_study(rows, search)
    _history(page, subject, search_plots.history(study), rows, list(search))
    _learning_curve(page, rows)
    common = search_plots.common_settings(study)
    if common and len(rows) > 1:
        chart = search_plots.parallel(study)
        text = (
            f"A line is one of {len(rows)} trials and joins its settings; red lines have a high "
            "objective."
        )
        if len(common) < len(search):
            text += " Settings without an effect in some trials have no axis."
        width = 90 * (len(common) + 1)
        page.add("What was tried", text, Plot(chart, "Parallel coordinates", width=width))
    if importances := search_plots.importances(study):
        text = (
            f"How much each setting decides whether one of the {len(rows)} trials is among "
            "the best tenth (PED-ANOVA, Watanabe et al. 2023). Settings that were not searched "
            "cannot be seen here."
        )
        page.add("Which settings matter", text, Plot(importances, "Importances"))
    _front(page, rows, costs)


def write_effects(page: Page, measured: Effects) -> None:
    """Write the section of the effects of the settings."""
    text = (
        f"The change of the objective from the first value of a setting to the second one, by an "
        f"additive model of {measured.trials} trials after {measured.step} steps. The bars are "
        f"68 % errors. A filled point is more than {SURE:g} errors from zero, an open one is not."
    )
    page.add(EFFECTS, text, Plot(effects_chart(measured.effects), "Effects with errors", width=520))


def _history(
    page: Page, subject: Subject, chart: Chart, rows: Sequence[TrialRow], paths: Sequence[str]
) -> None:
    text = (
        f"{len(rows)} trials reported an objective, which is measured on the tune split. One that "
        "was stopped early counts with the last objective that it reported."
    )
    page.add(
        "The search",
        text,
        Plot(chart, "Objective of each trial in their order"),
        _best_trials(rows, paths),
        *_failed(subject.rows),
        *_cost_ratios(subject),
    )


def _learning_curve(page: Page, rows: Sequence[TrialRow]) -> None:
    """Write the objective by training events, where the trials differ in their number."""
    points = {
        f"trial {row.trial}": (int(events), row.objective, row.objective_error)
        for row in rows
        if row.objective is not None
        and (events := row.settings.get(TRAIN_EVENTS) or "").isdecimal()
    }
    if len({events for events, _, _ in points.values()}) < 2:
        return
    text = (
        "The objective of each trial on the same tune events, by the number of events that it was "
        "trained on. The bars are the 68 % errors from the tune events, which the trials share: "
        "a difference of two trials is known better."
    )
    page.add(BY_EVENTS, text, Plot(learning_curve(points), BY_EVENTS))


def _best_trials(rows: Sequence[TrialRow], paths: Sequence[str]) -> Table:
    heads = ["objective", *(path.rsplit(".", 1)[-1].replace("_", " ") for path in paths)]
    best = rows[:MOST_ROWS]
    lines = [
        Row("", f"trial {row.trial}", [f"{row.objective:.4f}", *_settings(row, paths)])
        for row in best
    ]
    title = "all trials" if len(best) == len(rows) else f"the best {len(best)} of {len(rows)}"
    return Table(title, heads, lines)


def _settings(row: TrialRow, paths: Sequence[str]) -> list[str]:
    """Return settings as short texts."""

    def short(text: str | None) -> str:
        try:
            return format_value(float(text or ""))
        except ValueError:
            return text or "-"

    return [short(row.settings[path]) for path in paths]


def _cost_ratios(subject: Subject) -> list[Text]:
    lines = cost_ratios(subject.name, subject.rows)
    return [Text("verbatim", "\n".join(lines))] if lines else []


def _failed(rows: Sequence[TrialRow]) -> list[Table]:
    failed = [row for row in rows if row.error]
    if not failed:
        return []
    lines = [Row("", f"trial {row.trial}", [row.error]) for row in failed[:MOST_ROWS]]
    title = f"{len(failed)} failed" + ", the first:" * (len(failed) > MOST_ROWS)
    return [Table(title, ["reason"], lines)]


def _front(page: Page, rows: Sequence[TrialRow], costs: Sequence[str]) -> None:
    body = []
    for name in costs:
        known = [row for row in rows if row.costs.get(name) is not None]
        if len(known) > 1:
            chart = search_plots.pareto_front(make_study(known, {}, name), COSTS[name])
            body.append(Plot(chart, f"Objective against {COSTS[name]}"))
    if body:
        text = (
            "Each trial's objective against its cost, as measured while it ran. A trial is on "
            "the Pareto front if no other trial has as high an objective at a lower cost."
        )
        page.add("What it costs", text, *body)
