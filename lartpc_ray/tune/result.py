"""The end of a search: the best trial, its test result, its registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from lartpc_ray.metrics.costs import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.predict.evaluate import Verdict, judge
from lartpc_ray.predict.registry import GIVES, crown
from lartpc_ray.report.displays import keep_pictures
from lartpc_ray.report.record import keep, keep_page, where
from lartpc_ray.report.tables import markdown, table
from lartpc_ray.tasks.task import CutTask, Thresholds
from lartpc_ray.terminal.text import aligned, cell
from lartpc_ray.thresholds.tuning import class_goals, tune_run
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import flat, headline
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.progress import Progress, numbered
from lartpc_ray.tune.study import Study

PICK = f"picked: of those within {TOLERANCE} of the best goal the one of least first cost"


def side_by_side(space: Space, ended: list[Any]) -> list[str]:
    """Trials with their settings, their goal and what it cost, or why they failed."""
    heads = [*(key.rsplit(".", 1)[-1] for key in space.search), "goal", *COSTS.values()]
    rows = [heads]
    for result in ended:
        metrics = result.metrics or {}
        settings = [cell(result.config[key]) for key in space.search]
        found = [cell(metrics.get(key)) for key in ("goal", *COSTS)]
        if result.error:
            found = [" ", str(result.error).strip().splitlines()[-1]]
        rows.append([*settings, *found])
    return aligned(rows)


def enrol(
    study: Study, runs: Mapping[int, str], number: int, state: Checkpoint, verdict: Verdict
) -> list[str]:
    """Register the best trial's model, and trial 0's as `paper`.

    Args:
        study: that has ended.
        runs: of the trials that did not fail, by their numbers.
        number: of the best.
        state: of the best.
        verdict: on the best.

    Returns:
        what to tell of it.
    """
    name, tracking = study.space.name, study.tracking
    if state.trial.task.name not in GIVES:
        return []
    versions = {number: study.enrol(number, runs, state, verdict.thresholds, markdown(verdict))}
    if number and 0 in runs:
        first = study.best(0)
        note = f"Trial 0 of {study.folder.name}."
        versions[0] = study.enrol(0, runs, first, thresholds_of(first), note)
    if 0 in versions:
        tracking.client.set_registered_model_alias(name, "paper", versions[0])
    if crown(tracking, name, versions[number]):
        return [f"model:           models:/{name}@champion (version {versions[number]})"]
    return [f"model:           models:/{name}/{versions[number]}; the champion stays: it is better"]


def thresholds_of(state: Checkpoint) -> Thresholds:
    """The best thresholds of a trial's last validation, class by class."""
    task = state.trial.task
    if not isinstance(task, CutTask):
        return {}
    last, axes = state.history[-1], task.cut.axes()
    return {
        name: {axis: last[f"{name}/{axis}"] for axis in axes}
        for name in task.names
        if all(f"{name}/{axis}" in last for axis in axes)
    }


def tune_best(study: Study, run: str, state: Checkpoint) -> None:
    """The thresholds of the best trial with their errors, as runs under its own."""
    task = state.trial.task
    if isinstance(task, CutTask):
        goals = class_goals([task.metric], task.cut.metrics, task.names)
        tune_run(study.tracking, run, state, task.cut, goals)


def finish(
    study: Study, results: tune.ResultGrid, progress: Progress, runs: Path
) -> tuple[str, dict[str, Any]]:
    """Judge the best trial on the test split and keep it; what to print, and the same for JSON."""
    found = (results[place] for place in range(len(results)))
    ended = sorted(found, key=lambda one: numbered(one.config or {})[0])
    good = [one for one in ended if not one.error and one.metrics and "goal" in one.metrics]
    if not good:
        first = str(ended[0].error).strip().splitlines()
        raise RuntimeError(f"all {len(ended)} trials failed; the first: {first[-1]}")
    metrics = [one.metrics or {} for one in good]
    goal = np.array([float(one["goal"]) for one in metrics])
    costs = np.array([[float(one[name]) for name in study.space.costs] for one in metrics])
    best = good[pick(goal, costs) if study.space.costs else goal.argmax()]
    number, _ = numbered(best.config or {})
    ranked = [good[place] for place in np.argsort(-goal, kind="stable")]
    sound = {at: progress.runs[at] for one in ranked for at in [numbered(one.config or {})[0]]}
    run, state = sound[number], study.best(number)
    verdict = judge(state)
    keep(study.tracking, run, state, verdict)
    keep_pictures(study.tracking, run, state, verdict)
    tune_best(study, run, state)
    study.tracking.tags(run, {"best": "true"})
    study.tracking.describe(run, markdown(verdict))
    models = enrol(study, sound, number, state, verdict)
    reached = state.history[-1]["goal"]
    note = study.note(len(ended), number, run, state, markdown(verdict))
    search = study.close(verdict, {"goal": reached, "trials": float(len(ended))}, note)
    keep_page(study.tracking, study.space.name, search, run, verdict)
    steps = f"{state.step} steps, goal {reached:.4f} on the tune split"
    chosen = flat(state.trial)
    head = [f"best of {len(ended)} trials: trial {number}, {steps}"]
    head += [f"  {key} = {cell(chosen[key])}" for key in study.space.search]
    failed = [one for one in ended if one.error]
    if study.space.points:
        head += ["", *side_by_side(study.space, ended)]
    elif study.space.costs:
        front = [good[place] for place in np.flatnonzero(pareto(goal, costs))]
        head += ["", f"trials that no other beats ({PICK}):"]
        head += side_by_side(study.space, front)
    if failed and not study.space.points:
        head += ["", f"{len(failed)} of {len(ended)} trials failed:"]
        head += side_by_side(study.space, failed)
    rival = next((other for other in sound.values() if other != run), None)
    place = where(study.tracking, runs, run, rival)
    content = {
        "study": study.folder.name,
        "trials": len(ended),
        "failed": len(failed),
        "best": {"trial": number, "run": run, "goal": reached, "steps": state.step},
        "settings": headline(state.trial, study.space.search),
        **asdict(verdict),
    }
    return "\n".join([*head, "", table(verdict), place, *models]), content
