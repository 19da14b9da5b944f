"""Log tuned thresholds as a table, a file and MLflow runs, beside those that a run has."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lartpc_ray.atomic import write_text
from lartpc_ray.predict.thresholds_file import read_thresholds_file
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid, seed_plane
from lartpc_ray.reconstruct.names import UNTUNED
from lartpc_ray.tasks.clustering import LABELS
from lartpc_ray.terminal.text import align_columns
from lartpc_ray.thresholds.difference import Difference, compare
from lartpc_ray.thresholds.figures import draw_curves, draw_surface
from lartpc_ray.tracking.runs import NOTE, Tracking, as_folder

WIDTH = 80
"""Characters of a line of a table."""
IN_USE = " · in use"
"""End of the name of a run of thresholds that `predict` uses: its parent's page lists the names."""
PASSED_ON = ("task", "engine", "data")
"""Tags of a run that are copied to the runs of its thresholds."""
IDENTITY = ("method", "cluster_rule", "rule", "split", "data", "refine", "min_voxels")
"""Entries of a thresholds file that, with the objectives, identify it among those of a run."""


@dataclass(frozen=True, eq=False)
class TunedThresholds:
    """The scores of a split at every point, and the chosen points.

    Attributes:
        scores: class to metric to (event, point...); empty for too many events to keep each.
        means: class to metric to the mean over the events (point...).
        grid: of each class's objective.
        choices: class to the chosen point, in the order of the objectives.
        objectives: class to its objective.
    """

    scores: dict[str, dict[str, np.ndarray]]
    means: dict[str, dict[str, np.ndarray]]
    grid: ThresholdGrid
    choices: dict[str, Choice]
    objectives: dict[str, str]

    def content(self) -> dict[str, Any]:
        """Return `classes` and `untuned` of a thresholds file: plain values only."""
        classes = {
            name: {
                **{axis: float(f"{value:.12g}") for axis, value in choice.thresholds.items()},
                "objective": objective,
                "interval": {axis: list(ends) for axis, ends in choice.interval.items()},
                "score": round(choice.score, 6),
                "error": round(choice.error, 6),
                "held_out": choice.held_out and round(choice.held_out, 6),
                "events": choice.events,
            }
            for name, objective in self.objectives.items()
            if (choice := self.choices.get(name))
        }
        return {
            "classes": classes,
            "untuned": [name for name in self.objectives if name not in classes],
        }


def table(content: dict[str, Any]) -> str:
    """Return a table like Table II of Koh et al. 2020: class, thresholds, score, error.

    A table of many thresholds is continued below itself: no line is longer than `WIDTH`.
    """
    objectives = {row["objective"] for row in content["classes"].values()}
    shared = f", objective {min(objectives)}" if len(objectives) == 1 else ""
    lines = [f"{events_of(content)}, rule {content['rule']}{shared}; 68 % intervals"]
    columns = _columns(content["classes"])
    lines += _continued(["", *content["classes"]], columns[:-1] if shared else columns)
    lines += [f"{name:<8}untuned: no event has a cluster of it" for name in content["untuned"]]
    return "\n".join(lines)


def difference_table(differences: Mapping[str, Difference]) -> str:
    """Return the differences from the thresholds in use, and those thresholds, as a table."""
    rows = list(differences.values())
    gained = [f"{row.difference:+.3f} ± {row.error:.3f}" for row in rows]
    used = [[axis, *(f"{row.used[axis]:.3g}" for row in rows)] for axis in rows[0].used]
    columns = [["difference", *gained], *used]
    lines = ["difference from the thresholds in use, which are at the right"]
    lines += _continued(["", *differences], columns)
    near = [name for name, row in differences.items() if row.used != row.compared]
    note = f"{', '.join(near)}: compared with the nearest point of the grid"
    return "\n".join([*lines, *([note] if near else [])])


def _continued(names: list[str], columns: list[list[str]]) -> list[str]:
    """Return columns beside the names, continued below where a line is full."""
    lines = []
    while columns:
        block, columns = _block(names, columns)
        lines += block
    return lines


def _block(names: list[str], columns: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return as many columns beside the names as fit a line, and the other columns."""
    for count in range(len(columns), 1, -1):
        for gap in (2, 1):
            block = align_columns(list(zip(names, *columns[:count], strict=True)), "<>", gap=gap)
            if max(map(len, block)) <= WIDTH:
                return block, columns[count:]
    return align_columns(list(zip(names, columns[0], strict=True)), "<>"), columns[1:]


def _columns(classes: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the columns of a table, each with its head: thresholds, score, events, objective."""
    rows = list(classes.values())
    columns = [
        [
            axis,
            *("{:.3g} ({:.3g} - {:.3g})".format(row[axis], *row["interval"][axis]) for row in rows),
        ]
        for axis in rows[0]["interval"]
    ]
    held_out = [row["held_out"] for row in rows]
    return [
        *columns,
        ["score", *(f"{row['score']:.3f} ± {row['error']:.3f}" for row in rows)],
        ["held out", *("-" if score is None else f"{score:.3f}" for score in held_out)],
        ["events", *(str(row["events"]) for row in rows)],
        ["objective", *(str(row["objective"]) for row in rows)],
    ]


def events_of(content: Mapping[str, Any]) -> str:
    """Return the events that thresholds were tuned on, as text."""
    split = f"{content['split']} split" if "split" in content else Path(content["data"]).name
    return f"{split}, {content['events']} events"


def describe_row(row: dict[str, Any]) -> str:
    """Return the thresholds of a class and their score as a line of markdown."""
    point = ", ".join(f"{axis} = {row[axis]:.3g}" for axis in row["interval"])
    score = f"{row['score']:.3f} ± {row['error']:.3f}"
    return f"`{row['objective']}` {score} at {point} ({row['events']} events)"


@dataclass(frozen=True, eq=False)
class ThresholdsRecord:
    """Tuned thresholds that are logged to a run.

    Attributes:
        content: of their file.
        choices: class to the chosen point.
        differences: class to the difference from the thresholds that the run used before.
        kept: whether the run uses the tuned thresholds from now on.
    """

    content: dict[str, Any]
    choices: dict[str, Choice]
    differences: dict[str, Difference]
    kept: bool


def log_thresholds(
    tracking: Tracking,
    run: str,
    content: dict[str, Any],
    tuned: TunedThresholds,
    *,
    keep: bool,
    usable: bool = True,
) -> ThresholdsRecord:
    """Log the result under the run, with a run per class and a figure of its scores.

    Other results of the run stay, except one of the same reconstruction, objectives, rule and
    events. The run uses the new thresholds if it has none of the method, or with `keep`. Thresholds
    in use that are found once more stay in use.

    Args:
        tracking: store of the run.
        run: its id, or a folder of a run's files, which gets an MLflow run of its own.
        content: of the thresholds file.
        tuned: the scores and choices behind it.
        keep: use the new thresholds from now on.
        usable: whether the run clusters by the rule that the thresholds are for.
    """
    used = used_thresholds(tracking, run, content["method"])
    differences = compare(tuned.grid, tuned.choices, used["classes"]) if used else {}
    same = used is not None and _is_same(used, content)
    kept = usable and (keep or used is None or same)
    text = yaml.safe_dump(content, sort_keys=False)
    parent = holder(tracking, run)
    child = tracking.start(title(content), {"kind": "thresholds", "of": _identity(content)}, parent)
    known = tracking.run_info(run) | {key: content[key] for key in PASSED_ON if key in content}
    tags = {key: known[key] for key in PASSED_ON if key in known}
    tracking.set_tags(child, tags if kept else tags | {"in_use": "false"})
    tracking.log_text(child, text, file_name(content))
    tracking.log_text(child, table(content), "table.txt")
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(child, _write_scores(Path(scratch) / "scores.npz", tuned))
        for label in tuned.choices:
            figure = _draw(Path(scratch) / f"{label}.png", label, tuned)
            _log_class(tracking, child, label, tuned, tags, content["classes"][label], figure)
    tracking.finish(child)
    if kept:
        _use(tracking, run, child, content, "" if same else text)
    tracking.rename(child, title(content) + IN_USE * kept)
    tracking.describe(child, f"{_state(content, kept)}\n```\n{table(content)}\n```")
    return ThresholdsRecord(content, tuned.choices, differences, kept)


def _use(tracking: Tracking, run: str, child: str, content: dict[str, Any], text: str) -> None:
    """Make `predict` use these thresholds, then mark the run `child` as the one in use.

    Args:
        tracking: store of the run.
        run: its id, or a folder of a run's files.
        child: the run of the thresholds.
        content, text: of the thresholds file; an empty text for thresholds that are in use already.
    """
    folder = as_folder(run)
    if text and folder:
        write_text(folder / file_name(content), text)
    elif text:
        tracking.log_text(run, text, file_name(content))
    tracking.set_tags(child, {"in_use": "true"})
    for other in tracking.children(holder(tracking, run), kind="thresholds", in_use="true"):
        same = tracking.run_info(other).get("of", "").split()[1:2] == [content["method"]]
        if other != child and same:
            _, line, note = tracking.run_info(other).get(NOTE, "").partition("\n")
            tracking.describe(other, _state(content, kept=False) + line + note)
            tracking.set_tags(other, {"in_use": "false"})
            tracking.rename(other, tracking.run_info(other)["name"].removesuffix(IN_USE))


def _is_same(used: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Return whether a tuning has found the thresholds in use once more."""
    same_work = _identity(used) == _identity(content)
    return same_work and bool(used["classes"] == content["classes"])


def method_words(content: Mapping[str, Any]) -> str:
    """Return for which reconstruction thresholds are used, where a run has several."""
    words = {**LABELS, "dbscan": "DBSCAN"}.get(content["method"])
    return f" for {words}" if words else ""


def _state(content: Mapping[str, Any], kept: bool) -> str:
    """Return who uses the thresholds, the first line of a description."""
    user = "predict uses" if "split" in content else "in use for this file are"
    return f"{user} {'these' if kept else 'other'} thresholds{method_words(content)}"


def holder(tracking: Tracking, run: str) -> str:
    """Return the MLflow run that thresholds are logged under; a folder gets one of its own."""
    folder = as_folder(run)
    return start_run(tracking, folder.resolve(), "folder") if folder else run


def start_run(tracking: Tracking, path: Path, kind: str) -> str:
    """Return the MLflow run of a file or folder; create it if there is none."""
    run = tracking.start(path.name, {"kind": kind, "path": _digest(str(path))})
    tracking.finish(run)
    return run


def file_name(content: Mapping[str, Any]) -> str:
    """Return the name of a thresholds file."""
    return f"thresholds-{content['method']}.yaml"


def used_thresholds(tracking: Tracking, run: str, method: str) -> dict[str, Any] | None:
    """Return the content of the thresholds file that `predict` uses; None if the run has none."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = tracking.fetch(run, file_name({"method": method}), Path(scratch))
        except ValueError:
            return None
        return read_thresholds_file(path)


def title(content: Mapping[str, Any]) -> str:
    """Return the name of a run of thresholds."""
    objectives = dict.fromkeys(row["objective"] for row in content["classes"].values())
    rule = content.get("cluster_rule", "argmax")
    parts = ["thresholds", content["method"], *([rule] if rule != "argmax" else [])]
    parts += [*objectives, content["rule"]]
    return " ".join([*parts, *([f"on {Path(content['data']).name}"] if "data" in content else [])])


def _identity(content: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal reconstructions, objectives, rules and events."""
    known = {key: content[key] for key in IDENTITY if key in content}
    objectives = {name: row["objective"] for name, row in content["classes"].items()}
    digest = _digest(json.dumps([known, objectives], sort_keys=True))
    return f"thresholds {content['method']} {digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write_scores(path: Path, tuned: TunedThresholds) -> Path:
    """Write the scores of the events, or of many events the sums and the means."""
    arrays = {
        f"{label}/{metric}": values
        for label, metrics in (tuned.scores or tuned.means).items()
        for metric, values in metrics.items()
    }
    for label, sums in tuned.grid.sums.items():
        arrays |= {f"{label}/sums/{name}": values for name, values in vars(sums).items()}
    np.savez_compressed(path, **arrays, **tuned.grid.axes)  # type: ignore[arg-type]
    return path


def _draw(path: Path, label: str, tuned: TunedThresholds) -> Path | None:
    """Draw the scores of a class over its one threshold, or over s0 and p0; None for others."""
    grid, choice = seed_plane(tuned.grid, label, tuned.choices[label])
    if len(grid.axes) == 2:
        draw_surface(path, grid, label, choice, UNTUNED, tuned.objectives[label])
    elif len(grid.axes) == 1:
        draw_curves(path, grid, label, choice, tuned.means[label])
    return path if len(grid.axes) <= 2 else None


def _log_class(
    tracking: Tracking,
    parent: str,
    label: str,
    tuned: TunedThresholds,
    tags: dict[str, str],
    row: dict[str, Any],
    figure: Path | None,
) -> None:
    """Log the choice of a class to a run of its own under `parent`."""
    run = tracking.start(label, {"kind": "thresholds", "class": label}, parent)
    choice = tuned.choices[label]
    tracking.set_tags(run, tags)
    tracking.describe(run, describe_row(row))
    tracking.log_metrics(
        run, {**choice.thresholds, "score": choice.score, "error": choice.error}, 0
    )
    if figure:
        tracking.log_artifact(run, figure)
    tracking.finish(run)
