"""The summary of a result: a row per method, value and error in one cell, the best marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lartpc_ray.metrics.table import MEAN
from lartpc_ray.predict.evaluate import (
    UNTRAINED,
    EvaluationResult,
    mean_of,
    short_method,
)
from lartpc_ray.report.tables import layout
from lartpc_ray.tasks import TASKS
from lartpc_ray.terminal.text import align_columns

BEST = "*"
"""The mark before the best value of a column."""


class Cell(NamedTuple):
    """A value of a method, its error if known, and whether no other method has a higher one."""

    value: float | None
    error: float | None = None
    best: bool = False

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        error = f"±{self.error:.3f}" if self.error is not None else ""
        text = re.sub(r"\b0\.", ".", f"{self.value:.3f}{error}")
        return BEST * self.best + text.removesuffix("±.000")


class Method(NamedTuple):
    """A row of the summary; `best` marks the method of highest headline score."""

    label: str
    cells: list[Cell]
    best: bool


class Summary(NamedTuple):
    """The methods by one metric; the first column is the headline score."""

    title: str
    heads: list[str]
    rows: list[Method]


def headline(result: EvaluationResult, method: str, metric: str = "") -> float | None:
    """Return the score that sums up a method: its mean over the classes, or of one class."""
    task = TASKS[result.task]
    metric = metric or result_metric(result)
    if task.headline != MEAN:
        return result.means[method].get(task.headline, {}).get(metric)
    return mean_of(task.scored_classes, result.means[method], metric)


def result_metric(result: EvaluationResult) -> str:
    """Return the metric of the objective, or the first of the table where that is no column."""
    titles: dict[str, str] = layout(result.task)["tables"][0]["metrics"]
    return next((metric for metric in result.differences if metric in titles), next(iter(titles)))


def summaries(result: EvaluationResult) -> list[Summary]:
    """Return a summary by the objective, and one by each further metric that is compared."""
    part = layout(result.task)["tables"][0]
    metrics = [metric for metric in result.differences if metric in part["metrics"]]
    metrics = metrics or [result_metric(result)]
    return [_summary(result, part, metric) for metric in metrics]


def compared_methods(result: EvaluationResult) -> list[str]:
    """Return the methods of the summary: of the untrained network the best one alone."""
    untrained = [method for method in result.means if method.startswith(UNTRAINED)]
    best = max(untrained, key=lambda method: headline(result, method) or 0.0, default=None)
    return [
        method
        for method in result.means
        if method not in untrained or method == best
        if not method.endswith(TASKS[result.task].untuned_label) or len(result.means) < 3
    ]


def _summary(result: EvaluationResult, part: Mapping[str, Any], metric: str) -> Summary:
    task = TASKS[result.task]
    columns = dict(part["columns"])
    columns = {task.headline: columns.pop(task.headline, MEAN), **columns}
    methods = compared_methods(result)
    values = {method: _values(result, method, columns, metric) for method in methods}
    rows = []
    tops = [_top([row[column] for row in values.values()]) for column in range(len(columns))]
    for method, row in values.items():
        errors = [result.errors.get(method, {}).get(name, {}).get(metric) for name in columns]
        cells = [
            Cell(value, error, value is not None and value == top)
            for value, error, top in zip(row, errors, tops, strict=True)
        ]
        rows.append(Method(_label(method), cells, cells[0].best))
    return Summary(part["metrics"][metric], list(columns.values()), rows)


def _values(
    result: EvaluationResult, method: str, columns: Mapping[str, str], metric: str
) -> list[float | None]:
    means = result.means[method]
    head = headline(result, method, metric)
    return [head, *(means.get(name, {}).get(metric) for name in list(columns)[1:])]


def _top(values: list[float | None]) -> float | None:
    """Return the highest value, or None if all methods have the same."""
    known = [value for value in values if value is not None]
    return max(known) if known and max(known) > min(known) else None


def _label(method: str) -> str:
    """Return a method as short as a line allows.

    Example:
        >>> _label("untrained network, linked voxels"), _label("DBSCAN (eps 2.8, min 1)")
        ('untrained', 'DBSCAN')
        >>> _label("this network, seeds")
        'seeds'
    """
    short = short_method(method)
    return "untrained" if method.startswith(UNTRAINED) else short.partition(" (")[0]


def summary_text(result: EvaluationResult, bold: tuple[str, str] = ("", "")) -> str:
    """Return the summaries as text, at most 80 columns wide.

    Args:
        result: of a network.
        bold: texts before and after the best row, as a terminal needs them.
    """
    lines: list[str] = []
    for summary in summaries(result):
        cells = [[row.label, *map(str, row.cells)] for row in summary.rows]
        head, *rows = align_columns([["", *summary.heads], *cells], "<>", gap=1)
        rows = [
            f"{bold[0]}{line}{bold[1]}" if row.best else line
            for line, row in zip(rows, summary.rows, strict=True)
        ]
        lines += ["", f"{summary.title} ({BEST} best of a column)", head, *rows]
    return "\n".join(lines[1:])
