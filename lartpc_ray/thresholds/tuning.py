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
    objective_scores,
)
from lartpc_ray.reconstruct.reconstructions import Reconstruction, SeedClustering
from lartpc_ray.reconstruct.sweep import sweep_exactly
from lartpc_ray.tasks.task import ThresholdTask
from lartpc_ray.thresholds.record import log_thresholds
from lartpc_ray.thresholds.scan import ClassVoxels, collect, score_grid
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint


def class_objectives(
    given: Sequence[str], metrics: Sequence[str], names: Sequence[str] = CLASS_NAMES
) -> dict[str, str]:
    """Return the objective of each class from `OBJECTIVE` and `CLASS=OBJECTIVE`; default the first.

    Raises:
        ValueError: for an unknown class or metric.
    """
    objectives = dict.fromkeys(names, metrics[0])
    for text in sorted(given, key=lambda text: "=" in text):
        name, _, objective = text.rpartition("=")
        for metric in objective.split("*"):
            if metric not in metrics or metric == "n_clusters":
                known = ", ".join(other for other in metrics if other != "n_clusters")
                raise ValueError(f"--objective {text}: {metric!r} is unknown; give {known}, or A*B")
        if name and name not in names:
            known = ", ".join(names)
            raise ValueError(f"--objective {text}: {name!r} is no class; give one of {known}")
        objectives |= dict.fromkeys([name] if name else names, objective)
    return objectives


def choose_thresholds(
    found: Sequence[ClassVoxels],
    method: Reconstruction,
    objectives: dict[str, str],
    settings: ChoiceSettings,
) -> tuple[dict[str, dict[str, np.ndarray]], ThresholdGrid, dict[str, Choice]]:
    """All scores at every point, the objectives' grid, and the point chosen for each class."""
    scores = score_grid(found, method)
    values = {name: objective_scores(metrics, objectives[name]) for name, metrics in scores.items()}
    grid = ThresholdGrid(method.axes(), values)
    return scores, grid, {name: choose(grid, name, settings) for name in grid.scores}


def exact_s0(
    found: Sequence[ClassVoxels], name: str, method: SeedClustering, p0: float, objective: str
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
                min_voxels=method.min_voxels,
                metrics=objective.split("*"),
            )
            curves.append((steps, objective_scores(scores, objective)))
    every = np.unique(np.concatenate([steps for steps, _ in curves]))
    mean = np.mean([values[np.searchsorted(steps, every)] for steps, values in curves], axis=0)
    best = int(mean.argmax())
    low = float(every[best - 1]) if best else 0.0
    return low, float(every[best]), float(mean[best])


def record(
    choices: dict[str, Choice], objectives: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    """What thresholds.yaml holds: plain values only."""
    classes = {
        name: {
            **{axis: float(f"{value:.12g}") for axis, value in choice.thresholds.items()},
            "objective": objectives[name],
            "interval": {axis: list(ends) for axis, ends in choice.interval.items()},
            "score": round(choice.score, 6),
            "error": round(choice.error, 6),
            "held_out": choice.held_out and round(choice.held_out, 6),
            "events": choice.events,
        }
        for name in objectives
        if (choice := choices.get(name))
    }
    return {
        **about,
        "classes": classes,
        "untuned": [name for name in objectives if name not in choices],
    }


def tune_run(
    tracking: Tracking,
    run: str,
    state: Checkpoint,
    method: Reconstruction,
    objectives: dict[str, str],
    *,
    split: Split = "tune",
    rule: Rule = "robust",
    refine: int = 0,
    data: str | None = None,
) -> tuple[dict[str, Any], dict[str, Choice]]:
    """Tune a method for the network of a run by Ray tasks, and keep the result in the run.

    Args:
        tracking: where the run is.
        run: of the network.
        state: its checkpoint, of a task with thresholds.
        method: what is tuned.
        objectives: class to its objective.
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
    assert isinstance(task, ThresholdTask)
    events = splits.events(split)
    found = collect(state.restored(), task, events)
    if not found:
        raise ValueError(f"{splits.path}: no event of the {split} split has a cluster")
    settings = ChoiceSettings(rule=rule)
    scores, grid, choices = choose_thresholds(found, method, objectives, settings)
    if refine and isinstance(method, SeedClustering):
        method = method.refined((one.thresholds["p0"] for one in choices.values()), refine)
        scores, grid, choices = choose_thresholds(found, method, objectives, settings)
    about = {"method": method.name, "rule": rule, "run": run, "split": split, "events": len(events)}
    about |= {"data": str(Path(data).resolve())} if data else {}
    content = record(choices, objectives, about)
    if isinstance(method, SeedClustering):
        for name, row in content["classes"].items():
            low, high, score = exact_s0(found, name, method, row["p0"], row["objective"])
            row["exact_s0"] = {"above": low, "up_to": high, "score": round(score, 6)}
    with tempfile.TemporaryDirectory() as scratch:
        log_thresholds(tracking, run, Path(scratch), content, grid, scores, choices)
    return content, choices
