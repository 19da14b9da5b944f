"""Tune the thresholds of a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.splits import Split
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.reconstruct.grid import ThresholdGrid, choose, objective_scores
from lartpc_ray.reconstruct.names import Rule
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.reconstruct.sweep import sweep_exactly
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.phases import phase
from lartpc_ray.thresholds.record import ThresholdsRecord, TunedThresholds, log_thresholds
from lartpc_ray.thresholds.scan import score_grid, sum_grid
from lartpc_ray.thresholds.source import ClassVoxels, NetworkVoxels, VoxelSource
from lartpc_ray.tracking.runs import Tracking

EXACT_EVENTS = 2000
"""Events whose scores are all kept and logged: 200 MB of five classes and five metrics."""


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
    source: VoxelSource, task: Task, objectives: dict[str, str], settings: ChoiceSettings
) -> TunedThresholds:
    """Score all events at every point, and choose the point of each class.

    With more than `EXACT_EVENTS` events the scores are summed where they are computed.
    """
    method, events = task.active_method, source.events
    metrics = _needed(method.metrics, objectives)
    if events > EXACT_EVENTS:
        sums, means = sum_grid(source, task, objectives, metrics, settings, events=events)
        grid, scores = ThresholdGrid(method.axes(), {}, sums), {}
    else:
        scores = score_grid(source, task, metrics, events=events)
        values = {name: objective_scores(scores[name], objectives[name]) for name in scores}
        grid = ThresholdGrid(method.axes(), values)
        means = {
            name: {metric: np.nan_to_num(rows).mean(axis=0) for metric, rows in of_class.items()}
            for name, of_class in scores.items()
        }
    if not grid.names:
        least, place = task.smallest_cluster, source.about.get("data", "the split")
        raise ValueError(
            f"{place}: no event has a cluster of {least} voxels or more in a class; give events "
            "with true clusters"
        )
    choices = {name: choose(grid, name, settings) for name in objectives if name in grid.names}
    return TunedThresholds(scores, means, grid, choices, objectives)


def _needed(metrics: Sequence[str], objectives: Mapping[str, str]) -> list[str]:
    """Return the metrics to compute: all but AMI, unless an objective needs it."""
    asked = {metric for objective in objectives.values() for metric in objective.split("*")}
    return [metric for metric in metrics if metric != "ami" or metric in asked]


def _refined(task: Task, tuned: TunedThresholds, count: int) -> Task | None:
    """Return the task with `count` more p0 on both sides of each chosen one; None without p0."""
    if not count or not isinstance(seeds := task.active_method, SeedClustering):
        return None
    best = (choice.thresholds["p0"] for choice in tuned.choices.values())
    return task.model_copy(update={"seeds": seeds.refined(best, count)})


def exact_s0(
    parts: Iterable[ClassVoxels], name: str, min_voxels: int, p0: float, objective: str
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
    source: VoxelSource,
    task: Task,
    objectives: dict[str, str],
    *,
    rule: Rule = "robust",
    refine: int = 0,
) -> tuple[dict[str, Any], TunedThresholds]:
    """Tune thresholds by Ray tasks.

    Args:
        source: the voxels of the events.
        task: with the reconstruction to tune.
        objectives: class to its objective.
        rule: how the point is chosen.
        refine: further values of p0 on both sides of each class's best one.

    Returns:
        the content of the thresholds file, and the scores and choices behind it.

    Raises:
        ValueError: for events without clusters.
    """
    settings = ChoiceSettings(rule=rule)
    tuned = choose_thresholds(source, task, objectives, settings)
    if finer := _refined(task, tuned, refine):
        tuned = choose_thresholds(source, finer, objectives, settings)
    content: dict[str, Any] = {
        "method": task.active_method.name,
        **cluster_rule(task),
        "rule": rule,
    }
    content |= source.about | ({"bootstrap": "poisson"} if tuned.grid.sums else {})
    content |= tuned.content()
    if not tuned.grid.sums:
        _add_exact_s0(content["classes"], source, task)
    return content, tuned


def cluster_rule(task: Task) -> dict[str, str]:
    """Return the entry of a thresholds file that names the rule of seed clustering, if any."""
    method = task.active_method
    return {"cluster_rule": method.rule} if isinstance(method, SeedClustering) else {}


def is_usable(evaluation: Evaluation, task: Task) -> bool:
    """Return whether `predict` clusters the network's run by the rule of a task."""
    own = evaluation.task.with_method(task.active_method.name)
    return cluster_rule(own) == cluster_rule(task)


def tune_run(
    tracking: Tracking, run: str, evaluation: Evaluation, task: Task, objectives: dict[str, str],
    *, split: Split = "tune", keep: bool = False, **options: Any,
) -> ThresholdsRecord:  # fmt: skip
    """Tune the thresholds of a run's network, and log them to the run.

    Args:
        tracking, run: of the network.
        evaluation: of the network.
        task: the evaluation's task, with the reconstruction to tune.
        objectives, options: as for `tune`.
        split: of the events.
        keep: use them from now on, although the run has others.
    """
    with phase("tuning the thresholds"):
        content, tuned = tune(NetworkVoxels(evaluation, task, split), task, objectives, **options)
    content = {"method": content["method"], "rule": content["rule"], "run": run} | content
    with phase("logging the thresholds"):
        usable = is_usable(evaluation, task)
        return log_thresholds(tracking, run, content, tuned, keep=keep, usable=usable)


def _add_exact_s0(rows: dict[str, Any], parts: Iterable[ClassVoxels], task: Task) -> None:
    """Add the exact interval of s0 to the rows of a seed clustering."""
    seeds = task.active_method
    if not isinstance(seeds, SeedClustering) or seeds.rule != "argmax":
        return
    for name, row in rows.items():
        low, high, score = exact_s0(parts, name, task.smallest_cluster, row["p0"], row["objective"])
        row["exact_s0"] = {"above": low, "up_to": high, "score": round(score, 6)}
