"""Tuned thresholds as a table, a file and MLflow runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lartpc_ray.atomic import write_text
from lartpc_ray.reconstruct.grid import Choice, ThresholdGrid
from lartpc_ray.tasks.clustering import UNTUNED
from lartpc_ray.thresholds.figures import draw_curves, draw_surface
from lartpc_ray.tracking.runs import Tracking, as_folder

PASSED_ON = ("task", "engine", "data")
"""Tags of a run that those of its thresholds have, too, to be found and compared by."""


def table(content: dict[str, Any]) -> str:
    """A Table II of one's own: class, thresholds, score, error."""
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


def sentence(row: dict[str, Any]) -> str:
    """The thresholds of a class, and what they give, in a line of markdown."""
    at = ", ".join(f"{axis} = {row[axis]:.3g}" for axis in row["interval"])
    score = f"{row['score']:.3f} ± {row['error']:.3f}"
    return f"`{row['objective']}` {score} at {at} ({row['events']} events)"


def log_thresholds(
    tracking: Tracking,
    run: str,
    folder: Path,
    content: dict[str, Any],
    grid: ThresholdGrid,
    scores: dict[str, dict[str, np.ndarray]],
    choices: dict[str, Choice],
) -> None:
    """Keep the result in the run, and a run a class under it with its surface as a picture.

    A folder of a run gets the file of the thresholds alone.
    """
    text = yaml.safe_dump(content, sort_keys=False)
    file = f"thresholds-{content['method']}.yaml"
    if kept := as_folder(run):
        write_text(kept / file, text)
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
    everything = {
        f"{label}/{metric}": value
        for label, metrics in scores.items()
        for metric, value in metrics.items()
    }
    np.savez_compressed(folder / "scores.npz", **everything, **grid.axes)  # type: ignore[arg-type]
    tracking.log_artifact(child, folder / "scores.npz")
    for label, choice in choices.items():
        each = tracking.start(label, {"kind": "thresholds", "class": label}, child)
        tracking.set_tags(each, tags)
        tracking.describe(each, sentence(content["classes"][label]))
        numbers = {**choice.thresholds, "score": choice.score, "error": choice.error}
        tracking.log_metrics(each, numbers, 0)
        if len(grid.axes) <= 2:
            picture = folder / f"{label}.png"
            objective = content["classes"][label]["objective"]
            if len(grid.axes) == 2:
                draw_surface(picture, grid, label, choice, UNTUNED, objective)
            else:
                draw_curves(picture, grid, label, choice, scores[label])
            tracking.log_artifact(each, picture)
        tracking.finish(each)
    tracking.finish(child)
    tracking.finish(run)
