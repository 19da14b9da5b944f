"""The end of a search: the best trial, its test result, its registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from lartpc_ray.metrics.costs import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test
from lartpc_ray.predict.registry import OUTPUT_COLUMN, promote_champion
from lartpc_ray.report.displays import log_displays
from lartpc_ray.report.record import access_hint, log_report_page, log_result
from lartpc_ray.report.tables import markdown, table
from lartpc_ray.tasks.task import Thresholds, ThresholdTask
from lartpc_ray.terminal.text import align_columns, format_value
from lartpc_ray.thresholds.tuning import class_objectives, tune_run
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import flatten_settings, key_settings
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.progress import Progress, split_trial_index
from lartpc_ray.tune.study import Study

PICK = f"picked: of those within {TOLERANCE} of the best objective the one of least first cost"


def side_by_side(space: Space, ended: list[Any]) -> list[str]:
    """Trials with their settings, their objective and what it cost, or why they failed."""
    heads = [*(key.rsplit(".", 1)[-1] for key in space.search), "objective", *COSTS.values()]
    rows = [heads]
    for result in ended:
        metrics = result.metrics or {}
        settings = [format_value(result.config[key]) for key in space.search]
        found = [format_value(metrics.get(key)) for key in ("objective", *COSTS)]
        if result.error:
            found = [" ", str(result.error).strip().splitlines()[-1]]
        rows.append([*settings, *found])
    return align_columns(rows)


def register_models(
    study: Study, runs: Mapping[int, str], number: int, state: Checkpoint, result: EvaluationResult
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
    if state.trial.task.name not in OUTPUT_COLUMN:
        return []
    versions = {
        number: study.register_trial(number, runs, state, result.thresholds, markdown(result))
    }
    if number and 0 in runs:
        first = study.best(0)
        note = f"Trial 0 of {study.folder.name}."
        versions[0] = study.register_trial(0, runs, first, thresholds_of(first), note)
    if 0 in versions:
        tracking.client.set_registered_model_alias(name, "paper", versions[0])
    if promote_champion(tracking, name, versions[number]):
        return [f"model:           models:/{name}@champion (version {versions[number]})"]
    return [f"model:           models:/{name}/{versions[number]}; the champion stays: it is better"]


def thresholds_of(state: Checkpoint) -> Thresholds:
    """The best thresholds of a trial's last validation, class by class."""
    task = state.trial.task
    if not isinstance(task, ThresholdTask):
        return {}
    last, axes = state.history[-1], task.active_method.axes()
    return {
        name: {axis: last[f"{name}/{axis}"] for axis in axes}
        for name in task.scored_classes
        if all(f"{name}/{axis}" in last for axis in axes)
    }


def tune_best(study: Study, run: str, state: Checkpoint) -> None:
    """The thresholds of the best trial with their errors, as runs under its own."""
    task = state.trial.task
    if isinstance(task, ThresholdTask):
        objectives = class_objectives(
            [task.metric], task.active_method.metrics, task.scored_classes
        )
        tune_run(study.tracking, run, state, task.active_method, objectives)


def finish(
    study: Study, results: tune.ResultGrid, progress: Progress, runs: Path
) -> tuple[str, dict[str, Any]]:
    """Judge the best trial on the test split and keep it; what to print, and the same for JSON."""
    found = (results[place] for place in range(len(results)))
    ended = sorted(found, key=lambda one: split_trial_index(one.config or {})[0])
    good = [one for one in ended if not one.error and one.metrics and "objective" in one.metrics]
    if not good:
        first = str(ended[0].error).strip().splitlines()
        raise RuntimeError(f"all {len(ended)} trials failed; the first: {first[-1]}")
    metrics = [one.metrics or {} for one in good]
    objective = np.array([float(one["objective"]) for one in metrics])
    costs = np.array([[float(one[name]) for name in study.space.costs] for one in metrics])
    best = good[pick(objective, costs) if study.space.costs else objective.argmax()]
    number, _ = split_trial_index(best.config or {})
    ranked = [good[place] for place in np.argsort(-objective, kind="stable")]
    sound = {
        at: progress.runs[at] for one in ranked for at in [split_trial_index(one.config or {})[0]]
    }
    run, state = sound[number], study.best(number)
    result = evaluate_on_test(state)
    log_result(study.tracking, run, state, result)
    log_displays(study.tracking, run, state, result)
    tune_best(study, run, state)
    study.tracking.set_tags(run, {"best": "true"})
    study.tracking.describe(run, markdown(result))
    models = register_models(study, sound, number, state, result)
    reached = state.history[-1]["objective"]
    note = study.note(len(ended), number, run, state, markdown(result))
    search = study.finish(result, {"objective": reached, "trials": float(len(ended))}, note)
    log_report_page(study.tracking, study.space.name, search, run, result)
    steps = f"{state.step} steps, objective {reached:.4f} on the tune split"
    chosen = flatten_settings(state.trial)
    head = [f"best of {len(ended)} trials: trial {number}, {steps}"]
    head += [f"  {key} = {format_value(chosen[key])}" for key in study.space.search]
    failed = [one for one in ended if one.error]
    if study.space.points:
        head += ["", *side_by_side(study.space, ended)]
    elif study.space.costs:
        front = [good[place] for place in np.flatnonzero(pareto(objective, costs))]
        head += ["", f"trials that no other beats ({PICK}):"]
        head += side_by_side(study.space, front)
    if failed and not study.space.points:
        head += ["", f"{len(failed)} of {len(ended)} trials failed:"]
        head += side_by_side(study.space, failed)
    rival = next((other for other in sound.values() if other != run), None)
    place = access_hint(study.tracking, runs, run, rival)
    content = {
        "study": study.folder.name,
        "trials": len(ended),
        "failed": len(failed),
        "best": {"trial": number, "run": run, "objective": reached, "steps": state.step},
        "settings": key_settings(state.trial, study.space.search),
        **asdict(result),
    }
    return "\n".join([*head, "", table(result), place, *models]), content
