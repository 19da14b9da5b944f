"""The end of a search: the best trial, its test result, its registered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from lartpc_ray.metrics.costs import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.registry import promote_champion
from lartpc_ray.report.record import access_hint, log_report_page, record_result
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import markdown, table
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.text import align_columns, format_value
from lartpc_ray.thresholds.tuning import class_objectives, tune_run
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import flatten_settings, key_settings
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.progress import Progress, split_trial_index
from lartpc_ray.tune.study import Study

PICK = f"picked: of those within {TOLERANCE} of the best objective the one of least first cost"


@dataclass(frozen=True, eq=False)
class FinishedTrials:
    """The trials of a search after its end.

    Attributes:
        trials: all of them, by their index.
        successful: those that reported an objective.
        objectives: (successful,) the last objective of each.
        costs: (successful, cost) the searched costs of each.
    """

    trials: list[tune.Result]
    successful: list[tune.Result]
    objectives: np.ndarray
    costs: np.ndarray

    @staticmethod
    def of(results: tune.ResultGrid, space: Space) -> FinishedTrials:
        """Sort the results of a search.

        Raises:
            RuntimeError: if all trials failed.
        """
        trials = sorted((results[number] for number in range(len(results))), key=_index)
        successful = [
            trial for trial in trials if not trial.error and "objective" in (trial.metrics or {})
        ]
        if not successful:
            first = str(trials[0].error).strip().splitlines()
            raise RuntimeError(f"all {len(trials)} trials failed; the first: {first[-1]}")
        metrics = [trial.metrics or {} for trial in successful]
        objectives = np.array([float(of_trial["objective"]) for of_trial in metrics])
        costs = [[float(of_trial[name]) for name in space.costs] for of_trial in metrics]
        return FinishedTrials(trials, successful, objectives, np.array(costs))

    @property
    def best(self) -> int:
        """Return the index of the trial of highest objective; with costs see `pick`."""
        searched = self.costs.size > 0
        chosen = pick(self.objectives, self.costs) if searched else self.objectives.argmax()
        return _index(self.successful[int(chosen)])

    @property
    def ranked(self) -> list[int]:
        """Return the indices of the successful trials, highest objective first."""
        return [_index(self.successful[n]) for n in np.argsort(-self.objectives, kind="stable")]

    def tables(self, space: Space) -> list[str]:
        """Return the tables of all trials, of the Pareto front and of failed trials, if any."""
        lines: list[str] = []
        failed = [trial for trial in self.trials if trial.error]
        if space.points:
            return ["", *side_by_side(space, self.trials)]
        if space.costs:
            front = [
                self.successful[n] for n in np.flatnonzero(pareto(self.objectives, self.costs))
            ]
            lines += ["", f"trials that no other beats ({PICK}):", *side_by_side(space, front)]
        if failed:
            lines += ["", f"{len(failed)} of {len(self.trials)} trials failed:"]
            lines += side_by_side(space, failed)
        return lines


def _index(trial: tune.Result) -> int:
    return split_trial_index(trial.config or {})[0]


def side_by_side(space: Space, trials: list[tune.Result]) -> list[str]:
    """Return a table of trials with settings, objective and costs, or the reason of a failure."""
    heads = [*(key.rsplit(".", 1)[-1] for key in space.search), "objective", *COSTS.values()]
    rows = [heads]
    for trial in trials:
        metrics, config = trial.metrics or {}, trial.config or {}
        values = [format_value(metrics.get(key)) for key in ("objective", *COSTS)]
        if trial.error:
            values = [" ", str(trial.error).strip().splitlines()[-1]]
        rows.append([*(format_value(config[key]) for key in space.search), *values])
    return align_columns(rows)


def register_models(
    study: Study, runs: Mapping[int, str], number: int, state: Checkpoint, result: EvaluationResult
) -> list[str]:
    """Register the best trial's model, and trial 0's as `paper`.

    Args:
        study: that has ended.
        runs: of the successful trials, by their index.
        number: of the best trial.
        state: of the best trial.
        result: of the best trial.

    Returns:
        the lines to print.
    """
    name, tracking = study.space.name, study.tracking
    if not state.trial.task.output_column:
        return []
    note = markdown(result)
    versions = {number: study.register_trial(number, runs, state, result.thresholds, note)}
    if number and 0 in runs:
        first = study.best(0)
        note = f"Trial 0 of {study.folder.name}."
        versions[0] = study.register_trial(0, runs, first, thresholds_of(first), note)
    if 0 in versions:
        tracking.client.set_registered_model_alias(name, "paper", versions[0])
    if promote_champion(tracking, name, versions[number]):
        return [f"model:           models:/{name}@champion (version {versions[number]})"]
    model = f"models:/{name}/{versions[number]}"
    return [f"model:           {model}; not promoted: the champion has a higher objective"]


def thresholds_of(state: Checkpoint) -> Thresholds:
    """Return the best thresholds of a trial's last validation, class by class."""
    task = state.trial.task
    if not task.methods:
        return {}
    last, axes = state.history[-1], task.active_method.axes()
    return {
        name: {axis: last[f"{name}/{axis}"] for axis in axes}
        for name in task.scored_classes
        if all(f"{name}/{axis}" in last for axis in axes)
    }


def tune_best(tracking: Tracking, run: str, evaluation: Evaluation) -> None:
    """Tune the thresholds of the best trial with their errors, as runs under its own."""
    task = evaluation.task
    if task.methods:
        metrics = task.active_method.metrics
        objectives = class_objectives([task.metric], metrics, task.scored_classes)
        tune_run(tracking, run, evaluation, evaluation.task, objectives)


def finish(
    study: Study, results: tune.ResultGrid, progress: Progress, runs: Path
) -> tuple[str, dict[str, Any]]:
    """Evaluate the best trial on the test split and log it.

    Returns:
        the text to print, and the same for JSON.
    """
    finished = FinishedTrials.of(results, study.space)
    number, count, tracking = finished.best, len(finished.trials), study.tracking
    trial_runs = {index: progress.runs[index] for index in finished.ranked}
    run, state = trial_runs[number], study.best(number)
    evaluation = Evaluation(state)
    result = record_result(tracking, run, evaluation)
    tune_best(tracking, run, evaluation)
    tracking.set_tags(run, {"best": "true"})
    models = register_models(study, trial_runs, number, state, result)
    reached = state.history[-1]["objective"]
    note = study.note(count, number, run, state, markdown(result))
    search = study.finish(result, {"objective": reached, "trials": float(count)}, note)
    subject = Subject(study.space.name, tracking, run, [], result, evaluation=evaluation)
    log_report_page(tracking, search, subject)
    other = next((other for other in trial_runs.values() if other != run), None)
    steps = f"{state.step} steps, objective {reached:.4f} on the tune split"
    chosen = flatten_settings(state.trial)
    text = [f"best of {count} trials: trial {number}, {steps}"]
    text += [f"  {key} = {format_value(chosen[key])}" for key in study.space.search]
    text += [*finished.tables(study.space), "", table(result)]
    text += [access_hint(tracking, runs, run, other), *models]
    best = {"trial": number, "run": run, "objective": reached, "steps": state.step}
    return "\n".join(text), {
        "study": study.folder.name,
        "trials": count,
        "failed": sum(bool(trial.error) for trial in finished.trials),
        "best": best,
        "settings": key_settings(state.trial, study.space.search),
        **asdict(result),
    }
