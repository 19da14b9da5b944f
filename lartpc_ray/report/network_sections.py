"""The sections of a page about a network: thresholds, clusters, mistakes, events."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.formats.arrays import read_arrays
from lartpc_ray.data.formats.source import locate_errors
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.thresholds_file import read_thresholds_file
from lartpc_ray.reconstruct.grid import ThresholdGrid, choose, objective_scores, seed_plane
from lartpc_ray.reconstruct.reconstructions import (
    DbscanClustering,
    Reconstruction,
    SeedClustering,
)
from lartpc_ray.reconstruct.resampling import ChoiceSettings, ScoreSums
from lartpc_ray.report import charts, clusters, mistakes
from lartpc_ray.report.document import Block, EventFigure, Grid, Page, Plot, Text
from lartpc_ray.report.gallery import EventDrawing, draw_events, extreme_events, scan_events
from lartpc_ray.report.sides import are_measured
from lartpc_ray.report.subject import Subject, load_evaluation
from lartpc_ray.report.tables import metric_name
from lartpc_ray.terminal.command import log
from lartpc_ray.tracking.runs import Tracking

MAX_SCORES = 2**32
"""Bytes of an array of scores: by threshold and event."""


@dataclass(frozen=True, eq=False)
class _Scan:
    """The scores over the thresholds, the rule and objective of each class, and their source."""

    grid: ThresholdGrid
    settings: ChoiceSettings
    objectives: dict[str, str]
    about: str
    split: str


def load(page: Page, subject: Subject) -> Evaluation | None:
    """Load the network of a run; write the reason if it cannot be read."""
    if subject.run is None or subject.result is None or subject.evaluation:
        return subject.evaluation
    try:
        return load_evaluation(subject.tracking, subject.run, subject.data, subject.ray)
    except (ValueError, FileNotFoundError) as error:
        _missing(page, error)
        return None


def _missing(page: Page, error: Exception) -> None:
    log.warning(f"not on the page is what the network finds: {error}")
    page.add("What the network finds", f"It could not be drawn: {error}")


def write(page: Page, subject: Subject, shown: Mapping[str, Any]) -> None:
    """Write the sections, or the reason if the events of the network cannot be read."""
    if subject.run is None:
        return
    if subject.result is None:
        if scan := _scan_of_outputs(subject):
            _plot_scan(page, scan, subject)
        return
    try:
        if subject.evaluation:
            _thresholds(page, subject, subject.evaluation)
            _events(page, subject.result, subject.evaluation, shown)
    except (ValueError, FileNotFoundError) as error:
        _missing(page, error)


def _thresholds(page: Page, subject: Subject, evaluation: Evaluation) -> None:
    """Plot the score over the thresholds of each class: logged with the run, or computed now.

    The score over more than two thresholds takes minutes, so it is not computed for the page.
    """
    task = evaluation.task
    if not task.methods:
        return
    axes = task.active_method.axes()
    scan = None if subject.data else _logged_scan(subject, task.active_method)
    if scan is None and len(axes) <= 2:
        scan = _new_scan(evaluation)
    if scan is not None and (len(axes) <= 2 or "s0" in axes):
        _plot_scan(page, scan, subject, task.active_method.name)


def _plot_scan(page: Page, scan: _Scan, subject: Subject, method: str = "") -> None:
    trial = next((f"trial {row.trial}" for row in subject.rows if row.run == subject.run), "")
    task, body = subject.result.task if subject.result else "clustering", []
    for name in scan.grid.names:
        choice = choose(scan.grid, name, scan.settings)
        score = f"{choice.score:.3f} ± {choice.error:.3f}"
        point = ", ".join(f"{axis} = {value:.3g}" for axis, value in choice.thresholds.items())
        metric = metric_name(task, scan.objectives[name])
        title = f"{name}: mean {metric} {score} at {point}; {choice.events} events"
        title += f" {scan.split}" + f", {trial}" * bool(trial)
        plane, choice = seed_plane(scan.grid, name, choice)
        chart = (
            charts.surface(plane, name, choice)
            if len(plane.axes) == 2
            else charts.one_threshold(scan.grid, name, choice, metric)
        )
        body.append(Plot(chart, title, title))
    clustering = f" of the clusters of --method {method}" if method else ""
    text = f"The mean score{clustering} at every threshold ({scan.about})."
    note = (
        "Red: the chosen point, its bars the interval in which the best point lies in 68 % of "
        "1,000 resamples of the events. White: the plateau, all points that are not worse than the "
        "best by two standard errors. Other thresholds have their chosen values."
    )
    page.add("Thresholds", text, Grid(body, narrow=True), Text("note", note))


def _new_scan(evaluation: Evaluation) -> _Scan:
    predictions, settings = evaluation.predictions("tune"), ChoiceSettings()
    grid = evaluation.task.grid(predictions)
    objectives = dict.fromkeys(grid.scores, str(evaluation.task.metric))
    about = f"{len(predictions)} events of the tune split, rule {settings.rule}"
    return _Scan(grid, settings, objectives, about, "of the tune split")


def _logged_scan(subject: Subject, method: Reconstruction) -> _Scan | None:
    """Read the logged thresholds of a method; None without any.

    Those of the result come first, then those in use, then the newest. Where those of the result
    are not logged, and can be computed in seconds, there are none.
    """
    assert subject.run is not None
    tracking, kind = subject.tracking, {"kind": "thresholds"}
    used = tracking.children(subject.run, **kind, in_use="true")
    runs = [
        run
        for run in dict.fromkeys([*used, *tracking.children(subject.run, **kind)])
        if tracking.run_info(run).get("of", "").startswith(f"thresholds {method.name} ")
    ]
    with tempfile.TemporaryDirectory() as scratch:
        if result := subject.result:
            measured = [
                run
                for run in runs
                if are_measured(
                    _content(tracking, run, method, Path(scratch))["classes"], result.thresholds
                )
            ]
            runs = measured or (runs if len(method.axes()) > 2 else [])
        return _read_scan(tracking, runs[0], method, Path(scratch)) if runs else None


def _content(tracking: Tracking, run: str, method: Reconstruction, folder: Path) -> dict[str, Any]:
    """Return the content of a logged thresholds file."""
    return read_thresholds_file(tracking.fetch(run, f"thresholds-{method.name}.yaml", folder))


def _scan_of_outputs(subject: Subject) -> _Scan | None:
    """Read the thresholds that were tuned on the outputs of any network; None for other runs."""
    scans = (_logged_scan(subject, method) for method in (SeedClustering(), DbscanClustering()))
    return next((scan for scan in scans if scan), None)


def _read_scan(tracking: Tracking, run: str, method: Reconstruction, folder: Path) -> _Scan:
    content = _content(tracking, run, method, folder)
    objectives = {name: str(row["objective"]) for name, row in content["classes"].items()}
    path = tracking.fetch(run, "scores.npz", folder)
    with locate_errors(path):
        arrays = read_arrays(path, MAX_SCORES)
    axes = {axis: arrays[axis] for axis in method.axes()}
    sums = {
        name: ScoreSums.read(arrays, f"{name}/sums")
        for name in objectives
        if f"{name}/sums/events" in arrays
    }
    scores = {
        name: objective_scores(
            {metric: arrays[f"{name}/{metric}"] for metric in objective.split("*")}, objective
        )
        for name, objective in objectives.items()
        if name not in sums
    }
    split = f"the {content['split']} split" if "split" in content else Path(content["data"]).name
    about = f"{content['events']} events of {split}, rule {content['rule']}"
    settings = ChoiceSettings(rule=content["rule"])
    return _Scan(ThresholdGrid(axes, scores, sums), settings, objectives, about, f"of {split}")


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
    word = metric_name(result.task, metric)
    clusters.write(page, scan, count, metric, word)
    worst, best = extreme_events(scan.scores, wanted["each"])
    mistakes.write(page, task, predictions, count, thresholds, without={*worst, *best})
    _confusion(page, result, shown)
    if not worst:
        return
    text = (
        f"From the first {count} test events, of which {len(scan.scores)} have something "
        f"to score. The score of an event is its {word}, the mean over {', '.join(names)} "
        f"as far as it has them.{wanted.get('note', '')} Drag to turn, the drawings of an event "
        "turn together; a double click comes nearer. The box is the extent of what is drawn."
    )
    body: list[Block] = []
    for title, numbers in (("Worst", worst), ("Best", best)):
        drawings = draw_events(task, predictions, scan, numbers, thresholds)
        body.append(Text("heading", title))
        body += [EventFigure(drawing.panels, _caption(drawing, word)) for drawing in drawings]
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
    """Return the caption of an event: its number, scores by a metric, and voxels."""
    most = max(len(panel.coords) for panel in event.panels)
    only = f", the {most} of most energy are drawn" if most < event.voxels else ""
    mean = sum(event.scores.values()) / len(event.scores)
    classes = ", ".join(f"{name} {score:.2f}" for name, score in event.scores.items())
    by_class = f" ({classes})" * (len(event.scores) > 1)
    return f"event {event.number}: {metric} {mean:.3f}{by_class}, {event.voxels} voxels{only}"
