"""Tables of results, by the layouts in dashboards/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import yaml

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.metrics.table import MEAN
from lartpc_ray.predict.evaluate import OF_ERRORS, EvaluationResult
from lartpc_ray.report.published import resolved
from lartpc_ray.tasks import TASKS
from lartpc_ray.tasks.task import Means, Thresholds
from lartpc_ray.terminal.text import align_columns, counted, format_value
from lartpc_ray.tracking.trial_run import TrialRun
from lartpc_ray.trials.shipped import shipped

LABELS = 38
"""Width of the labels of rows, unless one is longer."""
RUNNING = "RUNNING"
"""Status in MLflow of a trial that has not ended."""


class Block(NamedTuple):
    """A metric of several methods beside each other: a row a method, a column a class."""

    title: str
    heads: list[str]
    rows: list[tuple[str, list[float | None]]]


def blocks(
    part: Mapping[str, Any], methods: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[Block]:
    """Return the blocks of one part of a table's layout in dashboards/TASK.yaml.

    Args:
        part: `columns` and `metrics`, name to title; `mean` adds the mean of the columns;
            `only_this` shows the first method alone.
        methods: method to class to metric to value; a method without values has no row.

    Example:
        >>> part = {"columns": {"MIP": "tracks"}, "metrics": {"ari": "ARI"}}
        >>> blocks(part, {"new": {"MIP": {"ari": 0.9}}, "old": {}})
        [Block(title='ARI', heads=['tracks'], rows=[('new', [0.9])])]
    """
    shown = list(methods.items())[: 1 if part.get("only_this") else None]
    heads = [*part["columns"].values(), *[MEAN] * part.get("mean", False)]
    return [
        Block(
            title,
            heads,
            [row for method, means in shown for row in _row(part, metric, method, means)],
        )
        for metric, title in part["metrics"].items()
    ]


def _row(
    part: Mapping[str, Any], metric: str, method: str, means: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, list[float | None]]]:
    """Return the row of a method, or none for a method without values."""
    row = [means.get(name, {}).get(metric) for name in part["columns"]]
    known = [value for value in row if value is not None]
    has_mean = known and not method.startswith(OF_ERRORS)
    mean = means.get(MEAN, {}).get(metric, sum(known) / len(known) if has_mean else None)
    return [(method, [*row, *[mean] * part.get("mean", False)])] if known else []


def layout(task: str) -> dict[str, Any]:
    """Read the layout of a task's table, dashboards/TASK.yaml, with the published numbers."""
    path = shipped("dashboards") / f"{task}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    for group, key in (("published", "means"), ("thresholds", "points")):
        rows = content.get(group, [])
        content[group] = [resolved(row, key) if key in row else row for row in rows]
    return content


def metric_name(task: str, metric: str) -> str:
    """Return the name of a metric in the table of a task, or the metric where it is no column.

    Example:
        >>> metric_name("clustering", "ari"), metric_name("clustering", "purity*efficiency")
        ('ARI', 'purity*efficiency')
    """
    titles: dict[str, str] = layout(task)["tables"][0]["metrics"]
    return titles.get(metric, metric).partition(",")[0]


def table(result: EvaluationResult) -> str:
    """Return the result as text."""
    shown = layout(result.task)
    methods = result.rows | {row["row"]: row["means"] for row in shown["published"]}
    lines = [f"test split, {result.events['test']} events"]
    for part in shown["tables"]:
        lines += ["", *_part(part, methods)]
    names = TASKS[result.task].scored_classes
    lines += _thresholds(
        f"thresholds, tuned on {result.events['tune']} other events", names, result.thresholds
    )
    for label, thresholds in result.alternatives.items():
        lines += _thresholds(f"the same of {label}", names, thresholds)
    for row in shown["thresholds"]:
        lines += _thresholds(row["row"], names, row["points"])
    lines += [
        "",
        fill(shown["note"], 80),
        "'-': nothing to measure (no such cluster here, or not published).",
    ]
    return "\n".join(lines)


def axes(thresholds: Thresholds) -> list[str]:
    """Return the names of the thresholds, in their order."""
    return list({axis: None for point in thresholds.values() for axis in point})


def _thresholds(title: str, names: Sequence[str], thresholds: Thresholds) -> list[str]:
    points = [thresholds.get(name, {}) for name in names]
    lines = [
        _line(f"  {axis}", _numbers([point.get(axis) for point in points], ".3g"))
        for axis in axes(thresholds)
    ]
    return ["", _line(title, names), *lines] if lines else []


def _part(part: dict[str, Any], methods: dict[str, Means]) -> list[str]:
    """Return a table: a block per metric, a row per method, a column per class."""
    shown = [block for block in blocks(part, methods) if block.rows]
    longest = max((len(_label(method)) for block in shown for method, _ in block.rows), default=0)
    labels = max(LABELS, longest)
    lines: list[str] = []
    for block in shown:
        lines += ["", _line(block.title, block.heads, labels)]
        lines += [_line(_label(method), _numbers(row), labels) for method, row in block.rows]
    return lines[1:]


def _label(method: str) -> str:
    """Return the label of a row; the errors of an untrained network have a shorter one.

    Example:
        >>> _label("± 68 %, untrained network, joined pieces")
        '  ± 68 %, untrained, joined pieces'
    """
    short = method.replace(", untrained network,", ", untrained,")
    return f"  {method if len(method) <= LABELS - 2 else short}"


def _numbers(values: Iterable[float | None], form: str = ".3f") -> list[str]:
    return ["-" if value is None else format(value, form) for value in values]


def _line(label: str, cells: Sequence[str], labels: int = LABELS) -> str:
    """Return a line of at most 80 characters, for labels of 38 and six classes of six letters."""
    width = min(7, 42 // len(cells)) if len(cells) > 4 else 10
    return f"{label:<{labels}}" + "".join(f"{cell:>{width}}" for cell in cells)


@dataclass(frozen=True)
class TrialRow:
    """A trial in the table of a study.

    Attributes:
        trial: its index.
        objective: of its last validation; None where no validation was done.
        run: the id of its MLflow run.
        status: of that run.
        error: the reason why the trial failed; empty otherwise.
        costs: name to value.
        settings: path to value as text, of the settings in which the trials differ; None where
            a trial has no such setting.
        objective_error: of the objective, from the events of the tune split; None if unknown.
    """

    trial: int
    objective: float | None
    run: str
    status: str
    error: str
    costs: dict[str, float | None]
    settings: dict[str, Any]
    objective_error: float | None = None


def trial_rows(trials: Sequence[TrialRun]) -> list[TrialRow]:
    """Return the trials with the settings in which they differ, those that run at the end.

    The highest objective comes first: the last one of a trial that runs may be of its first steps.
    """
    values: dict[str, set[str | None]] = {}
    for name in {name for trial in trials for name in trial.parameters}:
        values[name] = {trial.parameters.get(name) for trial in trials}
    differ = sorted(name for name, of_trials in values.items() if len(of_trials) > 1)
    rows = [
        TrialRow(
            trial=trial.number,
            objective=trial.numbers.get("objective"),
            run=trial.id,
            status=trial.status,
            error=trial.error,
            costs={name: trial.numbers.get(name) for name in COSTS},
            settings={name: trial.parameters.get(name) for name in differ},
            objective_error=trial.numbers.get("objective_error"),
        )
        for trial in trials
    ]
    return sorted(rows, key=_rank)


def _rank(row: TrialRow) -> tuple[bool, float]:
    return row.status == RUNNING, np.inf if row.objective is None else -row.objective


def study_text(study: str, rows: Sequence[TrialRow], width: int = 0) -> str:
    """Return the trials of a study as text, with a column per setting in which they differ.

    Args:
        study: its name.
        rows: its trials.
        width: characters of a line; the settings that do not fit are named below. 0: no limit.
    """
    differ = list(rows[0].settings)
    heads = ["trial", "objective", *(name.rsplit(".", 1)[-1] for name in differ)]
    cells = [
        [str(row.trial), format_value(row.objective)]
        + [_short(row.settings[name]) for name in differ]
        for row in rows
    ]
    shown = len(heads)
    lines = align_columns([heads, *cells])
    while width and shown > 2 and max(map(len, lines)) > width:
        shown -= 1
        lines = align_columns([row[:shown] for row in (heads, *cells)])
    if hidden := heads[shown:]:
        lines.append(fill(f"not shown: {', '.join(hidden)}; see --all", width))
    return "\n".join([f"{study}: {_order(rows)}", *lines, *cost_ratios(study, rows)])


def _order(rows: Sequence[TrialRow]) -> str:
    """Return how many trials have ended and how many run, in the order of their rows."""
    running = sum(row.status == RUNNING for row in rows)
    text = counted(len(rows), "trial") + ", best first" * (len(rows) > 1)
    if running == len(rows):
        return f"{text}, running"
    return f"{text}: {len(rows) - running} ended, then {running} running" if running else text


def cost_ratios(study: str, rows: Sequence[TrialRow]) -> list[str]:
    """Compare the costs of two values of a setting, for trials that are equal otherwise.

    dashboards/STUDY.yaml names the setting under `compare`; without it the result is empty.
    """
    path = shipped("dashboards") / f"{study}.yaml"
    shown = layout(study) if path.is_file() else {}
    setting = shown.get("compare", {}).get("setting", "")
    if setting not in rows[0].settings:
        return []
    values = (shown["compare"]["of"], shown["compare"]["to"])
    others = [name for name in rows[0].settings if name != setting]
    groups: dict[tuple[str, ...], dict[str | None, TrialRow]] = {}
    for row in sorted(rows, key=lambda row: row.trial):
        same = tuple(_short(row.settings[name]) for name in others)
        groups.setdefault(same, {})[row.settings[setting]] = row
    heads = _cells(name.rsplit(".", 1)[-1] for name in others) + " " * 16
    lines = [heads + _cells(COSTS[name] for name in shown["costs"])]
    for same, trials in groups.items():
        lines += [_cells(same) + line for line in _compared(trials, values, shown["costs"])]
    for published in shown["published"]:
        factors = [published["factors"].get(name) for name in shown["costs"]]
        lines.append(f"{published['row']:>{len(heads)}}" + _cells(_numbers(factors, ".3g")))
    return ["", *lines, "", shown["note"]]


def _compared(
    trials: Mapping[str | None, TrialRow], values: tuple[str, str], names: Sequence[str]
) -> list[str]:
    """Return the costs, or the failure, of a trial with each value, and their ratios."""
    costs = [
        [trials[value].costs.get(name) if value in trials else None for name in names]
        for value in values
    ]
    ratios = [of / to if of is not None and to else None for of, to in zip(*costs, strict=True)]
    lines = []
    for value, row in zip(values, costs, strict=True):
        error = trials[value].error if value in trials else ""
        lines.append(f"{value:>16}" + (f"  {error}" if error else _cells(_numbers(row, ".3g"))))
    return [*lines, f"{' / '.join(values):>16}" + _cells(_numbers(ratios, ".3g"))]


def _cells(values: Iterable[str]) -> str:
    return "".join(f"{value:>15}" for value in values)


def _short(value: str | None) -> str:
    try:
        return format_value(float(value)) if value and "." in value else str(value or "-")
    except ValueError:
        return str(value)
