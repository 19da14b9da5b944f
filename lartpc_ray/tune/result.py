"""The end of a search: the best trial, its test result, its registered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune

from lartpc_ray.metrics.costs import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.registry import promote_champion
from lartpc_ray.report.compare import log_comparison
from lartpc_ray.report.effects import log_effects
from lartpc_ray.report.record import access_hint, described, log_report_page, record_result
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.verdict import result_content, result_text
from lartpc_ray.terminal.text import align_columns, bold, counted, format_value
from lartpc_ray.thresholds.tuning import class_objectives, tune_run
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import StoreError
from lartpc_ray.trials.checkpoint import Checkpoint, last_thresholds
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.history import DEFAULT, Measurement
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.ray_search import split_trial_index
from lartpc_ray.tune.samplers.additive import coded
from lartpc_ray.tune.search_verdict import SearchVerdict, difference_on_test, judge
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.trial_scores import trial_scores
from lartpc_ray.tune.winner import Winner, choose_winner

PICK = f"picked: of those within {TOLERANCE} of the best objective the one of least first cost"
MARK = " · best"
"""End of the name of the best trial's run."""


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

    def winner(self, study: Study) -> Winner:
        """Return the winner; with costs see `pick`, of a grid the trial of highest objective."""
        compared = len(self.successful)
        if study.space.costs:
            best = self.successful[pick(self.objectives, self.costs)]
            return Winner(_index(best), trials=compared)
        if study.space.points:
            return Winner(self.ranked[0], trials=compared)
        steps = [int((trial.metrics or {}).get("step", 0)) for trial in self.successful]
        last = max(steps)
        finalists = {
            _index(trial): Measurement(
                float(objective), trial_scores(study.folder, _index(trial), step)
            )
            for trial, objective, step in zip(self.successful, self.objectives, steps, strict=True)
            if step == last
        }
        rungs = {step for trial in study.history.trials for step in trial.results if step < last}
        results = {step: study.history.at(step) for step in rungs} | {last: finalists}
        settings = {number: one.settings for number, one in enumerate(study.history.trials)}
        return choose_winner(results, coded(study.space, settings))

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
        rows.append([*(format_value(config.get(key)) for key in space.search), *values])
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
    note = described(result)
    versions = {number: study.register_trial(number, runs, state, result.thresholds, note)}
    if number and 0 in runs:
        first = study.best(0)
        note = f"Trial 0 of {study.folder.name}."
        versions[0] = study.register_trial(0, runs, first, last_thresholds(first), note)
    if 0 in versions:
        tracking.client.set_registered_model_alias(name, "paper", versions[0])
    if promote_champion(tracking, name, versions[number]):
        return [f"model:           models:/{name}@champion (version {versions[number]})"]
    model = f"models:/{name}/{versions[number]}"
    return [f"model:           {model}; not promoted: the champion has a higher objective"]


def tune_best(tracking: Tracking, run: str, evaluation: Evaluation) -> None:
    """Tune the thresholds of the best trial with their errors, as runs under its own."""
    task = evaluation.task
    if task.methods:
        metrics = task.active_method.metrics
        objectives = class_objectives([task.metric], metrics, task.scored_classes)
        tune_run(tracking, run, evaluation, evaluation.task, objectives, keep=True)


def compare_trials(
    study: Study, ranked: Sequence[int], best: int, search: str, evaluation: Evaluation
) -> None:
    """Log the comparison of the best trial with trial 0, or of trial 0 with the next best.

    Args:
        study: that has ended.
        ranked: the successful trials, highest objective first.
        best: number of the best trial.
        search: run of the search.
        evaluation: of the best trial.
    """
    first = [0] if 0 in ranked else []
    others = [number for number in [*first, *ranked] if number != best]
    if others:
        log_comparison(study.tracking, search, evaluation, study.best, (best, others[0]))


def finish(
    study: Study, results: tune.ResultGrid, progress: Progress
) -> tuple[str, dict[str, Any]]:
    """Evaluate the best trial on the test split and log it.

    Returns:
        the text to print, and the same for JSON.
    """
    finished = FinishedTrials.of(results, study.space)
    winner, count, tracking = finished.winner(study), len(finished.trials), study.tracking
    number = winner.number
    trial_runs = {index: progress.runs[index] for index in finished.ranked}
    run, state = trial_runs[number], study.best(number)
    evaluation = Evaluation(state)
    fixed = "task.method" in study.space.fixed
    result = record_result(tracking, run, evaluation, choose_method=not fixed)
    state = evaluation.state
    tune_best(tracking, run, evaluation)
    verdict = judged(study, winner, evaluation, result)
    models, unregistered = [], ""
    try:
        models = register_models(study, trial_runs, number, state, result)
    except StoreError as error:  # the table of hours of work is printed first
        unregistered = str(error)
    reached = state.history[-1]["objective"]
    note = study.note(count, number, state, result, verdict)
    search = study.finish(result, {"objective": reached, "trials": float(count)}, note)
    mark_best(tracking, search, run)
    log_effects(tracking, search, verdict.measured())
    subject = Subject(study.space.name, tracking, run, [], result, evaluation=evaluation)
    log_report_page(tracking, search, subject)
    compare_trials(study, finished.ranked, number, search, evaluation)
    text = [result_text(result, bold()), *best_lines(study.space, number, count, state)]
    text += [*verdict.lines(), *finished.tables(study.space)]
    text += [access_hint(tracking, run, study.folder.name), *models]
    return "\n".join(text), {
        "study": study.folder.name,
        "trials": count,
        "unregistered": unregistered,
        "failed": sum(bool(trial.error) for trial in finished.trials),
        "best": {"trial": number, "run": run, "objective": reached, "steps": state.step},
        "search": verdict.content(),
        "settings": study.space.key_settings(state.trial),
        **result_content(result),
    }


def mark_best(tracking: Tracking, search: str, run: str) -> None:
    """Mark the run of the best trial by a tag and in its name, and no other run of the search."""
    for earlier in tracking.children(search, best="true"):
        if earlier != run:
            tracking.client.delete_tag(earlier, "best")
            tracking.rename(earlier, tracking.run_info(earlier)["name"].removesuffix(MARK))
    tracking.set_tags(run, {"best": "true"})
    tracking.rename(run, tracking.run_info(run)["name"].removesuffix(MARK) + MARK)


def best_lines(space: Space, number: int, count: int, state: Checkpoint) -> list[str]:
    """Return the best trial with its searched settings, as lines of text."""
    chosen = space.key_settings(state.trial)
    reached = state.history[-1]["objective"]
    steps = f"{state.step} steps, objective {reached:.4f} on the tune split"
    acting = [key for key in space.search if key in chosen]
    settings = [f"  {key} = {format_value(chosen[key])}" for key in acting]
    return ["", f"best of {counted(count, 'trial')}: trial {number}, {steps}", *settings]


def judged(
    study: Study, winner: Winner, evaluation: Evaluation, result: EvaluationResult
) -> SearchVerdict:
    """Return the verdict on a search; a winner beside the default is compared on the test split."""
    test = None
    if winner.gain and winner.number != DEFAULT:
        default = Evaluation(study.best(DEFAULT))
        test = difference_on_test(evaluation, result.thresholds, default)
    return judge(winner, study.space, study.history, test)
