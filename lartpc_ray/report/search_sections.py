"""The sections of a page about a search: history, settings, importances, costs."""

from __future__ import annotations

from collections.abc import Sequence

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.report import search_plots
from lartpc_ray.report.charts import Chart
from lartpc_ray.report.document import Page, Plot, Row, Table, Text
from lartpc_ray.report.search_plots import Search, make_study
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import TrialRow, cost_ratios
from lartpc_ray.terminal.text import format_value

MOST_ROWS = 12
"""Trials listed."""


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
    if search and len(rows) > 1:
        chart = search_plots.parallel(study)
        text = (
            f"A line is one of {len(rows)} trials and joins its settings; red lines have a high "
            "objective."
        )
        width = 90 * (len(search) + 1)
        page.add("What was tried", text, Plot(chart, "Parallel coordinates", width=width))
    if importances := search_plots.importances(study):
        text = (
            f"How much each setting decides whether one of the {len(rows)} trials is among "
            "the best tenth (PED-ANOVA, Watanabe et al. 2023). Settings that were not searched "
            "cannot be seen here."
        )
        page.add("Which settings matter", text, Plot(importances, "Importances"))
    _front(page, rows, costs)


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

    def short(text: str) -> str:
        try:
            return format_value(float(text))
        except ValueError:
            return text

    return [short(str(row.settings[path])) for path in paths]


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
