"""Tune the thresholds of a trained network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.splits import Split
from lartpc_ray.reconstruct.grid import (
    Choice,
    ChoiceSettings,
    Rule,
    ThresholdGrid,
    choose,
    goal_scores,
)
from lartpc_ray.reconstruct.reconstructions import Cut, SeedCut
from lartpc_ray.reconstruct.sweep import sweep_exactly
from lartpc_ray.tasks.task import CutTask
from lartpc_ray.thresholds.record import keep
from lartpc_ray.thresholds.scan import Part, parts, surfaces
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint


def class_goals(
    given: Sequence[str], metrics: Sequence[str], names: Sequence[str] = CLASS_NAMES
) -> dict[str, str]:
    """The goal of each class from `GOAL` for all and `CLASS=GOAL` for one; by default the first.

    Raises:
        ValueError: for an unknown class or metric.
    """
    goals = dict.fromkeys(names, metrics[0])
    for text in sorted(given, key=lambda text: "=" in text):
        name, _, goal = text.rpartition("=")
        for metric in goal.split("*"):
            if metric not in metrics or metric == "n_clusters":
                known = ", ".join(other for other in metrics if other != "n_clusters")
                raise ValueError(f"--goal {text}: {metric!r} is unknown; give {known}, or A*B")
        if name and name not in names:
            known = ", ".join(names)
            raise ValueError(f"--goal {text}: {name!r} is no class; give one of {known}")
        goals |= dict.fromkeys([name] if name else names, goal)
    return goals


def tuned(
    found: Sequence[Part], cut: Cut, goals: dict[str, str], settings: ChoiceSettings
) -> tuple[dict[str, dict[str, np.ndarray]], ThresholdGrid, dict[str, Choice]]:
    """All scores at every point, the goals' grid, and the point chosen for each class."""
    scores = surfaces(found, cut)
    values = {name: goal_scores(metrics, goals[name]) for name, metrics in scores.items()}
    grid = ThresholdGrid(cut.axes(), values)
    return scores, grid, {name: choose(grid, name, settings) for name in grid.scores}


def exact_s0(
    found: Sequence[Part], name: str, cut: SeedCut, p0: float, goal: str
) -> tuple[float, float, float]:
    """The best s0 of a class at one p0, between the points of the mesh, too.

    Returns:
        low, high and the mean score: every s0 above `low` and up to `high` gives it.
    """
    curves = []
    for part in found:
        if part.name == name:
            steps, scores = sweep_exactly(
                part.voxels["position"],
                part.voxels["margin"],
                part.voxels["seediness"],
                part.voxels["truth"],
                p0,
                min_voxels=cut.min_voxels,
                metrics=goal.split("*"),
            )
            curves.append((steps, goal_scores(scores, goal)))
    every = np.unique(np.concatenate([steps for steps, _ in curves]))
    mean = np.mean([values[np.searchsorted(steps, every)] for steps, values in curves], axis=0)
    best = int(mean.argmax())
    low = float(every[best - 1]) if best else 0.0
    return low, float(every[best]), float(mean[best])


def record(
    choices: dict[str, Choice], goals: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    """What thresholds.yaml holds: plain values only."""
    classes = {
        name: {
            **{axis: float(f"{value:.12g}") for axis, value in choice.at.items()},
            "goal": goals[name],
            "interval": {axis: list(ends) for axis, ends in choice.interval.items()},
            "score": round(choice.score, 6),
            "error": round(choice.error, 6),
            "held_out": choice.held_out and round(choice.held_out, 6),
            "events": choice.events,
        }
        for name in goals
        if (choice := choices.get(name))
    }
    return {
        **about,
        "classes": classes,
        "untuned": [name for name in goals if name not in choices],
    }


def tune_run(
    tracking: Tracking,
    run: str,
    state: Checkpoint,
    cut: Cut,
    goals: dict[str, str],
    *,
    split: Split = "tune",
    rule: Rule = "robust",
    refine: int = 0,
    data: str | None = None,
) -> tuple[dict[str, Any], dict[str, Choice]]:
    """Tune a cut for the network of a run by Ray tasks, and keep the result in the run.

    Args:
        tracking: where the run is.
        run: of the network.
        state: its checkpoint, of a task with thresholds.
        cut: what is tuned.
        goals: class to its goal.
        split: of the events.
        rule: which point is chosen.
        refine: so many more p0 beside each class's best.
        data: other events than the run's own, a folder or a file.

    Returns:
        what thresholds.yaml holds, and the choice of each class.

    Raises:
        ValueError: for a split without clusters.
    """
    trial = state.trial.with_events(data) if data else state.trial
    task, splits = trial.task, trial.data.splits
    assert isinstance(task, CutTask)
    events = splits.events(split)
    found = parts(state.restored(), task, events)
    if not found:
        raise ValueError(f"{splits.path}: no event of the {split} split has a cluster")
    settings = ChoiceSettings(rule=rule)
    scores, grid, choices = tuned(found, cut, goals, settings)
    if refine and isinstance(cut, SeedCut):
        cut = cut.refined((one.at["p0"] for one in choices.values()), refine)
        scores, grid, choices = tuned(found, cut, goals, settings)
    about = {"cut": cut.name, "rule": rule, "run": run, "split": split, "events": len(events)}
    about |= {"data": str(Path(data).resolve())} if data else {}
    content = record(choices, goals, about)
    if isinstance(cut, SeedCut):
        for name, row in content["classes"].items():
            low, high, score = exact_s0(found, name, cut, row["p0"], row["goal"])
            row["exact_s0"] = {"above": low, "up_to": high, "score": round(score, 6)}
    with tempfile.TemporaryDirectory() as scratch:
        keep(tracking, run, Path(scratch), content, grid, scores, choices)
    return content, choices
