"""Log tuned thresholds as a table, a file and MLflow runs, beside those that a run has."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lartpc_ray.atomic import write_text
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid, seed_plane
from lartpc_ray.reconstruct.names import UNTUNED
from lartpc_ray.terminal.text import align_columns
from lartpc_ray.thresholds.difference import Difference, compare
from lartpc_ray.thresholds.figures import draw_curves, draw_surface
from lartpc_ray.thresholds.in_use import (
    file_name,
    identify,
    is_same,
    mark_used,
    only_command,
    short_digest,
    state,
    used_thresholds,
)
from lartpc_ray.tracking.runs import Tracking, as_folder

WIDTH = 80
"""Characters of a line of a table."""
PASSED_ON = ("task", "engine", "data")
"""Tags of a run that are copied to the runs of its thresholds."""


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
    parent = holder(tracking, run)
    with only_command(tracking, parent):
        used = used_thresholds(tracking, run, content["method"])
        differences = compare(tuned.grid, tuned.choices, used["classes"]) if used else {}
        same = used is not None and is_same(used, content)
        child = _log_run(tracking, run, parent, content, tuned)
        if usable and not same and (keep or used is None):
            _write_used(tracking, run, content)
        used = mark_used(tracking, run, parent, content["method"], child)
    kept = usable and used is not None and is_same(used, content)
    return ThresholdsRecord(content, tuned.choices, differences, kept)


def _log_run(
    tracking: Tracking, run: str, parent: str, content: dict[str, Any], tuned: TunedThresholds
) -> str:
    """Log thresholds to a run of their own under `parent`; return it.

    Its mark stays as it was: `predict` still uses the earlier file.
    """
    child = tracking.start(title(content), {"kind": "thresholds", "of": identify(content)}, parent)
    known = tracking.run_info(run) | {key: content[key] for key in PASSED_ON if key in content}
    tags = {key: known[key] for key in PASSED_ON if key in known}
    tracking.set_tags(child, tags)
    tracking.log_text(child, _text(content), file_name(content))
    tracking.log_text(child, table(content), "table.txt")
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(child, _write_scores(Path(scratch) / "scores.npz", tuned))
        for label in tuned.choices:
            figure = _draw(Path(scratch) / f"{label}.png", label, tuned)
            _log_class(tracking, child, label, tuned, tags, content["classes"][label], figure)
    marked = tracking.run_info(child).get("in_use") == "true"
    tracking.describe(child, f"{state(content, marked)}\n```\n{table(content)}\n```")
    tracking.finish(child)
    return child


def _write_used(tracking: Tracking, run: str, content: dict[str, Any]) -> None:
    """Write the thresholds file that `predict` reads."""
    if folder := as_folder(run):
        write_text(folder / file_name(content), _text(content))
    else:
        tracking.log_text(run, _text(content), file_name(content))


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False)


def holder(tracking: Tracking, run: str) -> str:
    """Return the MLflow run that thresholds are logged under; a folder gets one of its own."""
    folder = as_folder(run)
    return start_run(tracking, folder.resolve(), "folder") if folder else run


def start_run(tracking: Tracking, path: Path, kind: str) -> str:
    """Return the MLflow run of a file or folder; create it if there is none."""
    digest = short_digest(str(path))
    with only_command(tracking, digest):
        run = tracking.start(path.name, {"kind": kind, "path": digest})
        tracking.finish(run)
    return run


def title(content: Mapping[str, Any]) -> str:
    """Return the name of a run of thresholds."""
    objectives = dict.fromkeys(row["objective"] for row in content["classes"].values())
    rule = content.get("cluster_rule", "argmax")
    parts = ["thresholds", content["method"], *([rule] if rule != "argmax" else [])]
    parts += [*objectives, content["rule"]]
    return " ".join([*parts, *([f"on {Path(content['data']).name}"] if "data" in content else [])])


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
