"""Tune the thresholds of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.splits import Split
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.reconstruct.grid import (
    Choice,
    ChoiceSettings,
    ThresholdGrid,
    choose,
    objective_scores,
)
from lartpc_ray.reconstruct.names import Rule
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.reconstruct.sweep import sweep_exactly
from lartpc_ray.tasks.task import Task
from lartpc_ray.thresholds.record import TunedThresholds, log_thresholds
from lartpc_ray.thresholds.scan import ClassVoxels, collect, score_grid
from lartpc_ray.tracking.runs import Tracking


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
    parts: Sequence[ClassVoxels], task: Task, objectives: dict[str, str], settings: ChoiceSettings
) -> TunedThresholds:
    """Score all parts at every point, and choose the point of each class."""
    scores = score_grid(parts, task)
    values = {name: objective_scores(metrics, objectives[name]) for name, metrics in scores.items()}
    grid = ThresholdGrid(task.active_method.axes(), values)
    choices = {name: choose(grid, name, settings) for name in grid.scores}
    return TunedThresholds(scores, grid, choices, objectives)


def _refined(task: Task, tuned: TunedThresholds, count: int) -> Task | None:
    """Return the task with `count` more p0 on both sides of each chosen one; None without p0."""
    if not count or not isinstance(seeds := task.active_method, SeedClustering):
        return None
    best = (choice.thresholds["p0"] for choice in tuned.choices.values())
    return task.model_copy(update={"seeds": seeds.refined(best, count)})


def exact_s0(
    parts: Sequence[ClassVoxels], name: str, min_voxels: int, p0: float, objective: str
) -> tuple[float, float, float]:
    """Return the best s0 of a class at one p0, also between the points of the grid.

    Returns:
        low, high and the mean score: every s0 above `low` and up to `high` gives it.
    """
    curves = []
    for part in parts:
        if part.name == name:
            steps, scores = sweep_exactly(
                part.voxels["position"],
                part.voxels["margin"],
                part.voxels["seediness"],
                part.voxels["truth"],
                p0,
                min_voxels=min_voxels,
                metrics=objective.split("*"),
            )
            curves.append((steps, objective_scores(scores, objective)))
    every = np.unique(np.concatenate([steps for steps, _ in curves]))
    mean = np.mean([values[np.searchsorted(steps, every)] for steps, values in curves], axis=0)
    best = int(mean.argmax())
    low = float(every[best - 1]) if best else 0.0
    return low, float(every[best]), float(mean[best])


def tune(
    evaluation: Evaluation,
    task: Task,
    objectives: dict[str, str],
    *,
    split: Split = "tune",
    rule: Rule = "robust",
    refine: int = 0,
) -> tuple[dict[str, Any], TunedThresholds]:
    """Tune the thresholds of a network by Ray tasks.

    Args:
        evaluation: of the network.
        task: the evaluation's task, with the reconstruction to tune.
        objectives: class to its objective.
        split: of the events.
        rule: how the point is chosen.
        refine: further values of p0 on both sides of each class's best one.

    Returns:
        the content of the thresholds file, and the scores and choices behind it.

    Raises:
        ValueError: for a split without clusters.
    """
    predictions = evaluation.predictions(split)
    parts, settings = collect(task, predictions), ChoiceSettings(rule=rule)
    if not parts:
        raise ValueError(f"{evaluation.splits.path}: no event of the {split} split has a cluster")
    tuned = choose_thresholds(parts, task, objectives, settings)
    if finer := _refined(task, tuned, refine):
        tuned = choose_thresholds(parts, finer, objectives, settings)
    content: dict[str, Any] = {"method": task.active_method.name, "rule": rule}
    content |= {"split": split, "events": len(predictions)}
    content |= {"data": str(Path(evaluation.data).resolve())} if evaluation.data else {}
    content |= tuned.content()
    _add_exact_s0(content["classes"], parts, task)
    return content, tuned


def tune_run(
    tracking: Tracking, run: str, evaluation: Evaluation, task: Task, objectives: dict[str, str],
    **options: Any,
) -> tuple[dict[str, Any], dict[str, Choice]]:  # fmt: skip
    """Tune the thresholds of a run's network, and log them to the run.

    Args:
        tracking, run: of the network.
        evaluation, task, objectives, options: as for `tune`.

    Returns:
        the content of the thresholds file, and the choice of each class.
    """
    content, tuned = tune(evaluation, task, objectives, **options)
    content = {"method": content["method"], "rule": content["rule"], "run": run} | content
    log_thresholds(tracking, run, content, tuned)
    return content, tuned.choices


def _add_exact_s0(rows: dict[str, Any], parts: Sequence[ClassVoxels], task: Task) -> None:
    """Add the exact interval of s0 to the rows of a seed clustering."""
    seeds = task.active_method
    if not isinstance(seeds, SeedClustering) or seeds.rule != "argmax":
        return
    for name, row in rows.items():
        low, high, score = exact_s0(parts, name, task.smallest_cluster, row["p0"], row["objective"])
        row["exact_s0"] = {"above": low, "up_to": high, "score": round(score, 6)}
