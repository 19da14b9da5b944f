"""The sections of a page about a network: thresholds, clusters, mistakes, events."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.thresholds_file import read_thresholds_file
from lartpc_ray.reconstruct.grid import ChoiceSettings, ThresholdGrid, choose, objective_scores
from lartpc_ray.reconstruct.reconstructions import Reconstruction
from lartpc_ray.report import charts, clusters, mistakes
from lartpc_ray.report.document import Block, EventFigure, Grid, Page, Plot, Text
from lartpc_ray.report.gallery import EventDrawing, draw_events, extreme_events, scan_events
from lartpc_ray.report.subject import Subject, load_evaluation
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.command import log
from lartpc_ray.tracking.runs import Tracking


@dataclass(frozen=True, eq=False)
class _Scan:
    """The scores over the thresholds, the rule and objective of each class, and their source."""

    grid: ThresholdGrid
    settings: ChoiceSettings
    objectives: dict[str, str]
    about: str


def write(page: Page, subject: Subject, shown: Mapping[str, Any]) -> None:
    """Write the sections, or the reason if the network or its events cannot be read."""
    if subject.run is None or subject.result is None:
        return
    try:
        evaluation = subject.evaluation or load_evaluation(
            subject.tracking, subject.run, subject.data
        )
        _thresholds(page, subject, evaluation)
        _events(page, subject.result, evaluation, shown)
    except (ValueError, FileNotFoundError) as error:
        log.warning(f"not on the page is what the network finds: {error}")
        page.add("What the network finds", f"It could not be drawn: {error}")


def _thresholds(page: Page, subject: Subject, evaluation: Evaluation) -> None:
    """Plot the score over the thresholds of each class: logged with the run, or computed now."""
    task = evaluation.task
    if not task.methods or len(task.active_method.axes()) > 2:
        return
    scan = None if subject.data else _logged_scan(subject, task)
    scan = scan or _new_scan(evaluation)
    body = []
    for name in scan.grid.scores:
        choice = choose(scan.grid, name, scan.settings)
        score = f"{choice.score:.3f} ± {choice.error:.3f}"
        point = ", ".join(f"{axis} = {value:.3g}" for axis, value in choice.thresholds.items())
        title = f"{name}: mean {scan.objectives[name]} {score} at {point} ({choice.events} events)"
        chart = (
            charts.surface(scan.grid, name, choice)
            if len(scan.grid.axes) == 2
            else charts.one_threshold(scan.grid, name, choice, scan.objectives[name])
        )
        body.append(Plot(chart, title, title))
    text = (
        f"The mean score of each class at every threshold ({scan.about}). The red point is the "
        "chosen one, its bars the interval in which the best point lies in 68 % of 1,000 resamples "
        "of the events. The white line encloses the plateau: all points that are not worse than "
        "the best by two standard errors."
    )
    page.add("Thresholds", text, Grid(body))


def _new_scan(evaluation: Evaluation) -> _Scan:
    predictions, settings = evaluation.predictions("tune"), ChoiceSettings()
    grid = evaluation.task.grid(predictions)
    objectives = dict.fromkeys(grid.scores, str(evaluation.task.metric))
    about = f"{len(predictions)} events of the tune split, rule {settings.rule}"
    return _Scan(grid, settings, objectives, about)


def _logged_scan(subject: Subject, task: Task) -> _Scan | None:
    """Read the newest logged thresholds of the active method; None if the run has none."""
    assert subject.run is not None
    method = task.active_method
    for run in subject.tracking.children(subject.run, kind="thresholds"):
        if subject.tracking.run_info(run).get("of", "").startswith(f"thresholds {method.name} "):
            with tempfile.TemporaryDirectory() as scratch:
                return _read_scan(subject.tracking, run, method, Path(scratch))
    return None


def _read_scan(tracking: Tracking, run: str, method: Reconstruction, folder: Path) -> _Scan:
    content = read_thresholds_file(tracking.fetch(run, f"thresholds-{method.name}.yaml", folder))
    objectives = {name: str(row["objective"]) for name, row in content["classes"].items()}
    with np.load(tracking.fetch(run, "scores.npz", folder)) as arrays:
        axes = {axis: arrays[axis] for axis in method.axes()}
        scores = {
            name: objective_scores(
                {metric: arrays[f"{name}/{metric}"] for metric in objective.split("*")}, objective
            )
            for name, objective in objectives.items()
        }
    about = f"{content['events']} events of the {content['split']} split, rule {content['rule']}"
    settings = ChoiceSettings(rule=content["rule"])
    return _Scan(ThresholdGrid(axes, scores), settings, objectives, about)


def _events(
    page: Page, result: EvaluationResult, evaluation: Evaluation, shown: Mapping[str, Any]
) -> None:
    """Report test events: scores against the clusters, mistakes, the worst and the best events."""
    wanted = shown.get("events")
    if not wanted:
        return
    task, predictions = evaluation.task, evaluation.predictions("test")
    metric, names, count = wanted["metric"], wanted["of"], min(wanted["looked"], len(predictions))
    thresholds = result.thresholds
    scan = scan_events(task, predictions, count, thresholds, metric, names)
    clusters.write(page, scan, count, metric)
    label, best_thresholds = result.best_method(task.scored_classes, task.metric)
    best_task = task.alternatives()[label] if label else task
    mistakes.write(page, best_task, predictions, count, best_thresholds)
    _confusion(page, result, shown)
    worst, best = extreme_events(scan.scores, wanted["each"])
    if not worst:
        return
    text = (
        f"From the first {count} test events, of which {len(scan.scores)} have something "
        f"to score. The score of an event is its {metric}, the mean over {', '.join(names)} "
        f"as far as it has them.{wanted.get('note', '')} Drag to turn, the drawings of an event "
        "turn together; a double click comes nearer. The box is the extent of what is drawn."
    )
    body: list[Block] = []
    for title, numbers in (("Worst", worst), ("Best", best)):
        drawings = draw_events(task, predictions, scan, numbers, thresholds)
        body.append(Text("heading", title))
        body += [EventFigure(drawing.panels, _caption(drawing, metric)) for drawing in drawings]
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
    """Return the caption of an event: its number, scores and voxels."""
    most = max(len(panel.coords) for panel in event.panels)
    only = f", the {most} of most energy are drawn" if most < event.voxels else ""
    mean = sum(event.scores.values()) / len(event.scores)
    classes = ", ".join(f"{name} {score:.2f}" for name, score in event.scores.items())
    by_class = f" ({classes})" * (len(event.scores) > 1)
    return f"event {event.number}: {metric} {mean:.3f}{by_class}, {event.voxels} voxels{only}"
