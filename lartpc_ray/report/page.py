"""Write the page about a study or a run: `python -m lartpc_ray.report NAME --html OUT.html`.

The head comes first, then the verdict and its table beside the thresholds, then further figures.

dashboards/TASK.yaml defines the tables and the events to show. Empty sections are left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.report import charts, network_sections, search_sections
from lartpc_ray.report.document import Block, Page, Plot, Row, Table, Text
from lartpc_ray.report.effects import read_effects
from lartpc_ray.report.head import facts
from lartpc_ray.report.search_sections import BY_EVENTS, EFFECTS
from lartpc_ray.report.sides import changed_since
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.summary import BEST, Summary, summaries
from lartpc_ray.report.tables import axes, blocks, layout
from lartpc_ray.report.verdict import verdict
from lartpc_ray.trials.effects import Effects
from lartpc_ray.trials.recorded import minimised, searched

OPEN = (
    "Verdict",
    "Thresholds",
    "The search",
    EFFECTS,
    BY_EVENTS,
    "What was tried",
    "Learning curves",
)
"""Sections that are open, in their order; a reader opens the others."""
MOST_CURVES = 50
"""Learning curves drawn: those of the best trials, since each is a request of its own."""


def write(path: Path, subject: Subject) -> None:
    """Write the page whole or not at all.

    Raises:
        ValueError: for a run that does not exist.
    """
    page = Page()
    shown = layout(subject.result.task) if subject.result else {}
    space = _space(subject)
    effects = _logged_effects(subject)
    _verdict(page, subject, effects.verdict if effects else [])
    evaluation = network_sections.load(page, subject)
    if evaluation:
        subject = replace(subject, evaluation=evaluation)
    _result(page, subject, shown)
    costs = minimised(space) or shown.get("page", {}).get("costs", [])
    differ = subject.rows[0].settings if subject.rows else {}
    search = {path: entry for path, entry in searched(space).items() if path in differ}
    search_sections.write(page, subject, search, costs)
    if effects and effects.effects:
        search_sections.write_effects(page, effects)
    _learning(page, subject)
    network_sections.write(page, subject, shown.get("page", {}))
    order = {title: number for number, title in enumerate(OPEN)}
    page.sections.sort(key=lambda section: order.get(section.title, len(OPEN)))
    trial = evaluation.state.trial if evaluation else None
    head = facts(subject, trial, compared=bool(effects and effects.verdict))
    page.write(path, subject.name, head, OPEN)


def _space(subject: Subject) -> str:
    """Return the search-space file that is logged with the study; empty for a single run."""
    if not subject.rows:
        return ""
    parent = subject.tracking.run_info(subject.rows[0].run)["mlflow.parentRunId"]
    with tempfile.TemporaryDirectory() as scratch:
        file = subject.tracking.fetch(parent, f"{subject.name}.yaml", Path(scratch))
        return file.read_text()


def _logged_effects(subject: Subject) -> Effects | None:
    """Return the effects and the verdict in the run of the search, if any."""
    if not subject.rows:
        return None
    parent = subject.tracking.run_info(subject.rows[0].run)["mlflow.parentRunId"]
    return read_effects(subject.tracking, parent)


def _verdict(page: Page, subject: Subject, of_search: Sequence[str]) -> None:
    """Write the verdicts on network and search in sentences, and the summary tables."""
    result = subject.result
    if result is None:
        return
    changed = "" if subject.data else changed_since(subject.tracking, subject.run, result)
    if subject.data:  # the result is of other events than the search's
        of_search = [f"On the events of the search: {text}" for text in of_search]
    sentences = [*verdict(result), *([changed] if changed else []), *of_search]
    first, *further = summaries(result)
    body: list[Block] = [Text("sentence", text) for text in sentences[1:]]
    body = [_summary(first), *body, *(_summary(more) for more in further)]
    page.add("Verdict", sentences[0], *body)


def _summary(summary: Summary) -> Table:
    rows = [
        Row("this" if row.best else "", row.label, [str(cell) for cell in row.cells])
        for row in summary.rows
    ]
    return Table(f"{summary.title} ({BEST} best)", summary.heads, rows)


def _result(page: Page, subject: Subject, shown: Mapping[str, Any]) -> None:
    """Write the table of the best network beside the published rows; its thresholds."""
    result = subject.result
    if result is None:
        return
    published = {row["row"]: row["means"] for row in shown["published"]}
    made = [
        Table(block.title, block.heads, _marked(block.rows, result, published), aligned=True)
        for part in shown["tables"]
        for block in blocks(part, result.rows | published)
        if block.rows
    ]
    made += _thresholds(result, shown)
    text = (
        f"Measured once, on {result.events['test']} events of the test split that had no part in "
        "training or tuning. The first row is the network of this page. – is nothing to measure, "
        "or not published."
    )
    sources = sorted({row["source"] for row in shown["published"]})
    small = f"{shown['note']} Published rows: {', '.join(sources)}." if sources else shown["note"]
    page.add("Every metric", text, *made, Text("note", small))


def _marked(
    rows: Sequence[tuple[str, list[float | None]]],
    result: EvaluationResult,
    published: Mapping[str, Any],
) -> list[Row]:
    first = next(iter(result.means))
    return [
        Row(
            "this" if label == first else "published" if label in published else "",
            label,
            ["–" if value is None else f"{value:.3f}" for value in row],
        )
        for label, row in rows
    ]


def _thresholds(result: EvaluationResult, shown: Mapping[str, Any]) -> list[Table]:
    title = f"thresholds, tuned on {result.events['tune']} other events"
    printed = {row["row"]: row["points"] for row in shown["thresholds"]}
    tables = []
    for label, points in {title: result.thresholds, **result.alternatives, **printed}.items():
        rows = [
            Row("", axis, [f"{point[axis]:.3g}" for point in points.values()])
            for axis in axes(points)
        ]
        if rows:
            heading = f"the same of {label}" if label in result.alternatives else label
            tables.append(Table(heading, list(points), rows, aligned=True))
    return tables


def _learning(page: Page, subject: Subject) -> None:
    """Plot the objective by step, of the best trials or of the run."""
    finished = [row for row in subject.rows if row.objective is not None]
    runs = {f"trial {row.trial}": row.run for row in finished[:MOST_CURVES]}
    if not subject.rows and subject.run:
        runs = {subject.tracking.run_info(subject.run)["name"]: subject.run}
    curves = {name: subject.tracking.logged(run, "objective") for name, run in runs.items()}
    curves = {name: points for name, points in curves.items() if points}
    if any(len(points) > 1 for points in curves.values()):
        best = next((name for name, run in runs.items() if run == subject.run), next(iter(curves)))
        count = f"the {len(curves)} best" if len(curves) < len(finished) else f"{len(curves)}"
        text = (
            f"The objective of {count} trials on the tune split as they were trained. "
            f"In colour: {best}."
        )
        page.add("Learning curves", text, Plot(charts.curves(curves, best), "Objective by step"))
