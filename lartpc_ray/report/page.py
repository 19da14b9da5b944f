"""What a page about a study, or one run, shows: `python -m lartpc_ray.report NAME --html OUT.html`.

dashboards/TASK.yaml says it, beside the table's layout. A section that has nothing to show is left
out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.inference import predict
from lartpc_ray.predict.thresholds_file import read_thresholds_file
from lartpc_ray.reconstruct.grid import (
    Choice,
    ChoiceSettings,
    ThresholdGrid,
    choose,
    objective_scores,
)
from lartpc_ray.report import charts, clusters, mistakes, search_plots
from lartpc_ray.report.document import Block, EventFigure, Grid, Page, Plot, Row, Table, Text
from lartpc_ray.report.gallery import EventDrawing, draw_events, extreme_events, scan_events
from lartpc_ray.report.search_plots import Search, make_study
from lartpc_ray.report.tables import TrialRow, axes, blocks, cost_ratios, layout
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.tasks.task import ThresholdTask
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import format_value
from lartpc_ray.tracking.runs import Tracking, as_folder
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.space_file import minimised, searched

MOST_CURVES = 50
"""Learning curves drawn: those of the best trials, since each is a request of its own."""
MOST_ROWS = 12
"""Trials listed."""


@dataclass(frozen=True)
class Subject:
    """What a page is about.

    Attributes:
        name: of the study, or of the run.
        tracking: where it is kept.
        run: the run whose network is shown; None where none has ended yet.
        rows: the trials, best first, as `report.compared` gives them; none for a single run.
        verdict: what the test split says of the run's network, if it was judged.
        data: the splits that it was judged on, if not the run's own.
    """

    name: str
    tracking: Tracking
    run: str | None
    rows: Sequence[TrialRow]
    result: EvaluationResult | None
    data: str | None = None


def write(path: Path, subject: Subject) -> None:
    """Write the page whole or not at all.

    Raises:
        ValueError: for a run that does not exist.
    """
    page = Page()
    with tempfile.TemporaryDirectory() as scratch:
        shown, space = _layout(subject), _space(subject, Path(scratch))
        _result(page, subject, shown)
        costs = minimised(space) or shown.get("page", {}).get("costs", [])
        _trials(page, subject, _searched(subject, space), costs)
        _learning(page, subject)
        _network(page, subject, shown.get("page", {}), Path(scratch))
    page.write(path, subject.name, _facts(subject))


def _layout(subject: Subject) -> dict[str, Any]:
    """dashboards/TASK.yaml, as far as the task is known."""
    if subject.result:
        return layout(subject.result.task)
    return {}


def _space(subject: Subject, scratch: Path) -> str:
    """The search-space file that is kept with the study; of a single run none."""
    if not subject.rows:
        return ""
    parent = subject.tracking.run_info(subject.rows[0].run)["mlflow.parentRunId"]
    return subject.tracking.fetch(parent, f"{subject.name}.yaml", scratch).read_text()


def _searched(subject: Subject, space: str) -> Search:
    """What the study searched: the settings in which its trials differ."""
    differ = subject.rows[0].settings if subject.rows else {}
    return {path: entry for path, entry in searched(space).items() if path in differ}


def _network(page: Page, subject: Subject, shown: Mapping[str, Any], scratch: Path) -> None:
    """What the network of the run finds; where it, or its events, cannot be read: why."""
    if subject.run is None or subject.result is None:
        return
    try:
        state = checkpoints.load(subject.tracking.fetch(subject.run, checkpoints.FILE, scratch))
        if subject.data:
            state = replace(state, trial=state.trial.with_events(subject.data))
        _thresholds(page, subject, state, scratch)
        _events(page, subject.result, state, shown)
    except (ValueError, FileNotFoundError) as error:
        log.warning(f"not on the page is what the network finds: {error}")
        page.add("What the network finds", f"It could not be drawn: {error}")


def _facts(subject: Subject) -> dict[str, str]:
    """What stands below the title."""
    facts: dict[str, str] = {}
    tracking, rows = subject.tracking, subject.rows
    about = tracking.run_info(subject.run or rows[0].run)
    if rows:
        search = tracking.run_info(about["mlflow.parentRunId"])
        ended = [row.status for row in rows]
        failed = ended.count("FAILED")
        facts["search"] = search["name"]
        facts["begun"] = search["started"]
        facts["took"] = f"{search['hours']} h" if "hours" in search else "is still running"
        facts["trials"] = f"{len(rows)}" + (f", {failed} failed" if failed else "")
        best = next((row for row in rows if row.objective is not None), None)
        if best:
            facts["best objective"] = f"{best.objective:.4f} (trial {best.trial})"
    else:
        told = {"begun": about.get("started"), "status": about.get("status", "").lower()}
        facts |= {name: text for name, text in told.items() if text}
    if subject.result:
        facts["task"] = subject.result.task
        facts["events"] = "{tune} to tune, {test} to test".format(**subject.result.events)
    if subject.data:
        facts["measured on"] = subject.data
    if subject.run:
        facts["folder" if as_folder(subject.run) else "MLflow run"] = subject.run
    return facts


def _result(page: Page, subject: Subject, shown: Mapping[str, Any]) -> None:
    """The table of the best network beside the published rows; its thresholds."""
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
    title = f"thresholds, tuned on {result.events['tune']} other events"
    printed = {row["row"]: row["points"] for row in shown["thresholds"]}
    for text, at in {title: result.thresholds, **result.alternatives, **printed}.items():
        names = list(at)
        cells = {axis: [f"{at[name][axis]:.3g}" for name in names] for axis in axes(at)}
        if cells:
            heading = f"the same of {text}" if text in result.alternatives else text
            rows = [Row("", *row) for row in cells.items()]
            made.append(Table(heading, names, rows, aligned=True))
    text = (
        f"Measured once, on {result.events['test']} events of the test split that had no part in "
        "training or tuning. The first row is the network of this page. – is nothing to measure, "
        "or not published."
    )
    sources = sorted({row["source"] for row in shown["published"]})
    small = f"{shown['note']} Published rows: {', '.join(sources)}." if sources else shown["note"]
    page.add("Result", text, *made, Text("note", small))


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


def _trials(
    page: Page,
    subject: Subject,
    search: Search,
    costs: Sequence[str],
) -> None:
    """The search: its history, what was tried, which settings matter, what the objective costs."""
    rows = [row for row in subject.rows if row.objective is not None]
    if not rows:
        return
    study = make_study(rows, search)
    text = (
        f"{len(rows)} trials reported an objective, which is measured on the tune split. One that "
        "was stopped early counts with the last objective that it reported."
    )
    history = search_plots.history(study)
    page.add(
        "The search",
        text,
        Plot(history, "Objective of each trial in their order"),
        _best_trials(rows, list(search)),
        *_failed(subject.rows),
        *_cost_ratios(subject),
    )
    if search and len(rows) > 1:
        chart = search_plots.parallel(study)
        text = (
            f"A line is one of {len(rows)} trials and joins its settings; red lines have a high "
            "objective."
        )
        width = 90 * (len(search) + 1)
        page.add("What was tried", text, Plot(chart, "Parallel coordinates", width=width))
    importances = search_plots.importances(study)
    if importances:
        text = (
            f"How much each setting decides whether one of the {len(rows)} trials is among "
            "the best tenth (PED-ANOVA, Watanabe et al. 2023). Settings that were not searched "
            "cannot be seen here."
        )
        page.add("Which settings matter", text, Plot(importances, "Importances"))
    _front(page, rows, costs)


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
    """Settings as short texts."""

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


def _learning(page: Page, subject: Subject) -> None:
    """The objective by step, of the best trials or of the run."""
    told = [row for row in subject.rows if row.objective is not None]
    runs = {f"trial {row.trial}": row.run for row in told[:MOST_CURVES]}
    if not subject.rows and subject.run:
        runs = {subject.tracking.run_info(subject.run)["name"]: subject.run}
    found = {name: subject.tracking.logged(run, "objective") for name, run in runs.items()}
    found = {name: points for name, points in found.items() if points}
    if any(len(points) > 1 for points in found.values()):
        best = next((name for name, run in runs.items() if run == subject.run), next(iter(found)))
        count = f"the {len(found)} best" if len(found) < len(told) else f"{len(found)}"
        text = (
            f"The objective of {count} trials on the tune split as they were trained. "
            f"In colour: {best}."
        )
        page.add("Learning curves", text, Plot(charts.curves(found, best), "Objective by step"))


def _thresholds(page: Page, subject: Subject, state: Checkpoint, scratch: Path) -> None:
    """The score over the thresholds of each class: those kept with the run, or new ones."""
    task = state.trial.task
    if not isinstance(task, ThresholdTask) or len(task.active_method.axes()) > 2:
        return
    kept = None if subject.data else _kept(subject, task, scratch)
    if kept is None:
        events = state.trial.data.splits.events("tune")
        grid = task.grid(predict(state.restored(), task, events))
        settings = ChoiceSettings()
        choices = {name: choose(grid, name, settings) for name in grid.scores}
        objectives: dict[str, str] = dict.fromkeys(choices, str(task.metric))
        about = f"{len(events)} events of the tune split, rule {settings.rule}"
    else:
        grid, choices, objectives, about = kept
    body = []
    for name, choice in choices.items():
        score = f"{choice.score:.3f} ± {choice.error:.3f}"
        at = ", ".join(f"{axis} = {value:.3g}" for axis, value in choice.thresholds.items())
        title = f"{name}: mean {objectives[name]} {score} at {at} ({choice.events} events)"
        chart = (
            charts.surface(grid, name, choice)
            if len(grid.axes) == 2
            else charts.one_threshold(grid, name, choice, objectives[name])
        )
        body.append(Plot(chart, title, title))
    text = (
        f"The mean score of each class at every threshold ({about}). The red point is the chosen "
        "one, its bars the interval in which the best point lies in 68 % of 1,000 resamples of the "
        "events. The white line encloses the plateau: all points that are not worse than the best "
        "by two standard errors."
    )
    page.add("Thresholds", text, Grid(body))


def _kept(
    subject: Subject, task: ThresholdTask, scratch: Path
) -> tuple[ThresholdGrid, dict[str, Choice], dict[str, str], str] | None:
    """The newest result of `lartpc_ray.thresholds` for the task's own cut."""
    assert subject.run is not None
    for run in subject.tracking.children(subject.run, kind="thresholds"):
        of = subject.tracking.run_info(run).get("of", "")
        if not of.startswith(f"thresholds {task.active_method.name} "):
            continue
        file = subject.tracking.fetch(run, f"thresholds-{task.active_method.name}.yaml", scratch)
        content = read_thresholds_file(file)
        objectives = {name: str(row["objective"]) for name, row in content["classes"].items()}
        with np.load(subject.tracking.fetch(run, "scores.npz", scratch)) as arrays:
            axes = {axis: arrays[axis] for axis in task.active_method.axes()}
            scores = {
                name: objective_scores(
                    {m: arrays[f"{name}/{m}"] for m in objective.split("*")}, objective
                )
                for name, objective in objectives.items()
            }
        grid = ThresholdGrid(axes, scores)
        settings = ChoiceSettings(rule=content["rule"])
        choices = {name: choose(grid, name, settings) for name in scores}
        about = (
            f"{content['events']} events of the {content['split']} split, rule {content['rule']}"
        )
        return grid, choices, objectives, about
    return None


def _events(
    page: Page, result: EvaluationResult, state: Checkpoint, shown: Mapping[str, Any]
) -> None:
    """Test events: the worst and the best, and how the score depends on the clusters."""
    wanted = shown.get("events")
    if not wanted:
        return
    events = state.trial.data.splits.events("test")
    metric, at = wanted["metric"], result.thresholds
    looked = scan_events(state, events, at, metric, wanted["of"], wanted["looked"])
    clusters.write(page, looked, metric)
    task = state.trial.task
    if isinstance(task, ClusteringTask):
        way, thresholds = result.best_method(task.scored_classes, task.metric)
        best_task = task.alternatives()[way] if way else task
        mistakes.write(page, state.restored(), best_task, events, looked.events, thresholds)
    _confusion(page, result, shown)
    worst, best = extreme_events(looked.scores, wanted["each"])
    if not worst:
        return
    text = (
        f"From the first {looked.events} test events, of which {len(looked.scores)} have something "
        f"to score. The score of an event is its {metric}, the mean over {', '.join(wanted['of'])} "
        f"as far as it has them.{wanted.get('note', '')} Drag to turn, the drawings of an event "
        "turn together; a double click comes nearer. The box is the extent of what is drawn."
    )
    body: list[Block] = []
    for title, numbers in (("Worst", worst), ("Best", best)):
        each = draw_events(state, events, looked, numbers, at)
        body += [
            Text("heading", title),
            *(EventFigure(one.panels, _caption(one, metric)) for one in each),
        ]
    page.add("Worst and best events", text, *body)


def _confusion(page: Page, result: EvaluationResult, shown: Mapping[str, Any]) -> None:
    prefix = shown.get("confusion")
    if prefix:
        means = result.best
        names = [name for name in CLASS_NAMES if name in means]
        shares = [[means[true].get(f"{prefix}{n}", np.nan) for n in names] for true in names]
        text = (
            f"Of the voxels of a true class in the {result.events['test']} test events, the share "
            "that is found as each class. A row sums to 1."
        )
        chart = charts.confusion(np.array(shares), names)
        page.add("Confusion", text, Plot(chart, "Confusion of the classes"))


def _caption(event: EventDrawing, metric: str) -> str:
    """An event in words."""
    most = max(len(panel.coords) for panel in event.panels)
    only = f", the {most} of most energy are drawn" if most < event.voxels else ""
    mean = sum(event.scores.values()) / len(event.scores)
    classes = ", ".join(f"{name} {score:.2f}" for name, score in event.scores.items())
    each = f" ({classes})" * (len(event.scores) > 1)
    return f"event {event.number}: {metric} {mean:.3f}{each}, {event.voxels} voxels{only}"
