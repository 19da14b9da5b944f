"""Log tuned thresholds as a table, a file and MLflow runs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lartpc_ray.atomic import write_text
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid
from lartpc_ray.reconstruct.names import UNTUNED
from lartpc_ray.thresholds.figures import draw_curves, draw_surface
from lartpc_ray.tracking.runs import Tracking, as_folder

PASSED_ON = ("task", "engine", "data")
"""Tags of a run that are copied to the runs of its thresholds."""


@dataclass(frozen=True, eq=False)
class TunedThresholds:
    """The scores of a split at every point, and the chosen points.

    Attributes:
        scores: class to metric to (event, point...).
        grid: of each class's objective.
        choices: class to the chosen point.
        objectives: class to its objective.
    """

    scores: dict[str, dict[str, np.ndarray]]
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
    """Return a table like Table II of Koh et al. 2020: class, thresholds, score, error."""
    axes = list(next(iter(content["classes"].values()))["interval"])
    head = "".join(f"{axis + ' (68 %)':>24}" for axis in axes)
    lines = [
        f"{content['split']} split, {content['events']} events, rule {content['rule']}",
        f"{'':<8}{head}{'score':>17}{'held out':>10}{'events':>8}  objective",
    ]
    for name, row in content["classes"].items():
        cells = ""
        for axis in axes:
            low, high = row["interval"][axis]
            cells += f"{f'{row[axis]:.3g} ({low:.3g} - {high:.3g})':>24}"
        held = "-" if row["held_out"] is None else f"{row['held_out']:.3f}"
        score = f"{row['score']:.3f} ± {row['error']:.3f}"
        lines.append(f"{name:<8}{cells}{score:>17}{held:>10}{row['events']:>8}  {row['objective']}")
    lines += [f"{name:<8}untuned: no event has a cluster of it" for name in content["untuned"]]
    return "\n".join(lines)


def describe_row(row: dict[str, Any]) -> str:
    """Return the thresholds of a class and their score as a line of markdown."""
    point = ", ".join(f"{axis} = {row[axis]:.3g}" for axis in row["interval"])
    score = f"{row['score']:.3f} ± {row['error']:.3f}"
    return f"`{row['objective']}` {score} at {point} ({row['events']} events)"


def log_thresholds(
    tracking: Tracking, run: str, content: dict[str, Any], tuned: TunedThresholds
) -> None:
    """Log the result to the run, and under it a run per class with a figure of its scores.

    A folder of a run takes the thresholds file alone.
    """
    text = yaml.safe_dump(content, sort_keys=False)
    file = f"thresholds-{content['method']}.yaml"
    if folder := as_folder(run):
        write_text(folder / file, text)
        return
    name = f"thresholds {content['method']} {content['rule']}"
    child = tracking.start(name, {"kind": "thresholds", "of": name}, run)
    known = tracking.run_info(run) | {key: content[key] for key in PASSED_ON if key in content}
    tags = {key: known[key] for key in PASSED_ON if key in known}
    tracking.set_tags(child, tags)
    tracking.describe(child, f"```\n{table(content)}\n```")
    for owner in (run, child):
        tracking.log_text(owner, text, file)
    tracking.log_text(child, table(content), "table.txt")
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(child, _write_scores(Path(scratch) / "scores.npz", tuned))
        for label in tuned.choices:
            figure = _draw(Path(scratch) / f"{label}.png", label, tuned)
            _log_class(tracking, child, label, tuned, tags, content["classes"][label], figure)
    tracking.finish(child)
    tracking.finish(run)


def _write_scores(path: Path, tuned: TunedThresholds) -> Path:
    arrays = {
        f"{label}/{metric}": values
        for label, metrics in tuned.scores.items()
        for metric, values in metrics.items()
    }
    np.savez_compressed(path, **arrays, **tuned.grid.axes)  # type: ignore[arg-type]
    return path


def _draw(path: Path, label: str, tuned: TunedThresholds) -> Path | None:
    """Draw the scores of a class over one or two thresholds; None for more thresholds."""
    grid, choice = tuned.grid, tuned.choices[label]
    if len(grid.axes) == 2:
        draw_surface(path, grid, label, choice, UNTUNED, tuned.objectives[label])
    elif len(grid.axes) == 1:
        draw_curves(path, grid, label, choice, tuned.scores[label])
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
