"""Train one trial through Ray Train, and log it: for the command and for Python."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.trained_model import TrainedModel
from lartpc_ray.report.record import access_hint, record_result
from lartpc_ray.report.verdict import result_content, result_text
from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import (
    DamagedPlanError,
    load_plan,
    locked,
    new_folder,
    planned_options,
    resumable,
    resume_command,
    resume_folder,
    study_name,
    write_plan,
)
from lartpc_ray.runtime.signals import CheckpointOnSignal, restore_interrupts
from lartpc_ray.settings import Settings
from lartpc_ray.terminal.command import INTERRUPTED, log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.pulse import FILE
from lartpc_ray.terminal.screen import follow_file
from lartpc_ray.terminal.text import bold, error_text
from lartpc_ray.tracking.describe import describe_trial, metric_names
from lartpc_ray.tracking.provenance import sources
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import StoreError, kept_store, one_try, plan_store
from lartpc_ray.train.inputs import Digests, data_digests, refuse_changed
from lartpc_ray.train.owner import only_writer, owned
from lartpc_ray.train.resources import missing_now, refuse_absent
from lartpc_ray.train.timed import timed_trial
from lartpc_ray.train.workers import Lines, forget_failures, refuse_failed, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import key_settings
from lartpc_ray.trials.space import Space, check_name
from lartpc_ray.trials.trial import Trial

PLAN = "job.json"
"""The file in a run's folder that holds its `TrainPlan`."""


CHECKPOINTS = "checkpoints"


class TrainPlan(Settings):
    """The plan of one training: what `--resume` needs.

    The file holds the trial as a JSON string, as earlier versions wrote it; plans of those hold no
    `inputs`, the digests of the data, and no `choose_method`, see `evaluate_on_test`.
    """

    study: str
    uri: str | None
    inputs: Digests = Field(default={})
    options: dict[str, Any] = Field(default={})
    choose_method: bool = False
    trial: Annotated[
        Trial,
        BeforeValidator(
            lambda value: Trial.model_validate_json(value) if isinstance(value, str) else value
        ),
        PlainSerializer(Trial.model_dump_json),
    ]


def run_training(options: argparse.Namespace, space: Space | None) -> int:
    """Train trial 0 of `space`, or resume the training of the options; return the exit status."""
    if space is None:
        folder, plan = _reopen(options)
        read_splits(plan.trial)
    else:
        uri = plan_store(options.tracking_uri, options.runs)
        given = planned_options(options)
        read_splits(space.first_trial())
        plan = TrainPlan(
            study=space.name,
            uri=uri,
            options=given,
            choose_method="task.method" not in space.fixed,
            trial=timed_trial(space),
        )
        folder = new_folder(options.runs, space.name)
    trial = plan.trial
    if options.dry_run:
        print(trial.model_dump_json(indent=2))
        return 0
    refuse_absent(trial.resources, "GPU")
    again = resume_command("train", options.study, folder)
    tracking = _store(folder, plan)
    try:
        with resumable(again):
            run, result = _train_and_record(folder, plan, tracking, dashboard=options.dashboard)
    except KeyboardInterrupt:
        saved = checkpoints.files(folder / CHECKPOINTS)
        state = "; the last step is saved" if saved else " before the first checkpoint"
        log.info(f"interrupted{state}. To continue, run:\n  {again}")
        return INTERRUPTED
    if options.json:
        content = {"run": run, "steps": trial.optimizer.steps, **result_content(result)}
        print(json.dumps(content, indent=1))
    else:
        print(f"{result_text(result, bold())}\n{access_hint(tracking, run)}")
    return 0


def _reopen(options: argparse.Namespace) -> tuple[Path, TrainPlan]:
    """Return folder and plan of a training to resume, or with `--accept-data` of a new one.

    Raises:
        ValueError: if there is no training, or if its data has changed.
    """
    folder = resume_folder(options, PLAN)
    plan = _restored(folder, options)
    if study_name(options.study) != plan.study:
        raise ValueError(f"{folder}: a training of {plan.study}, not of {options.study}")
    if options.accept_data:
        return new_folder(folder.parent, plan.study), plan.model_copy(update={"inputs": {}})
    refuse_changed(folder, plan.inputs, data_digests(plan.trial, folder.parent))
    if options.retry and not options.dry_run:
        forget_failures(folder)
    return folder, plan


def _restored(folder: Path, options: argparse.Namespace) -> TrainPlan:
    """Return the plan of a training, if need be from its copy or its last sound checkpoint.

    Raises:
        ValueError: if the plan cannot be restored.
    """
    try:
        return load_plan(folder / PLAN, TrainPlan)
    except DamagedPlanError as error:
        for file in reversed(checkpoints.files(folder / CHECKPOINTS)):
            with suppress(ValueError):
                trial = checkpoints.load(file).trial
                name = study_name(options.study)
                uri = plan_store(options.tracking_uri, folder.parent)
                log.warning(f"{error}; restored from {file.name}")
                given = planned_options(options)
                said = any(text.startswith("task.method=") for text in given.get("set") or ())
                return TrainPlan(
                    study=name, uri=uri, options=given, choose_method=not said, trial=trial
                )
        raise ValueError(f"{error}; it has no checkpoint yet: start the training again") from None


def train_trial(
    trial: Trial,
    *,
    name: str = "trial",
    runs: str | Path = "runs",
    tracking_uri: str | None = None,
) -> TrainedModel:
    """Train one trial through Ray Train, as `lartpc-ray train` does, and log it to MLflow.

    Args:
        trial: the settings; `trial.data.splits.path` names the events.
        name: of the MLflow experiment.
        runs: folder for results and the MLflow store.
        tracking_uri: another MLflow store.

    Returns:
        the trained network with its thresholds.

    Raises:
        ValueError: for events that cannot be read, and for a GPU that is absent.
        RuntimeError: if Ray does not start or the training fails.
        KeyboardInterrupt: after Ctrl-C; `lartpc-ray train NAME --resume FOLDER` continues.

    Example:
        model = train_trial(Trial().with_events("my_events"))
        events = list(model.predict(read_events("events.h5")))
    """
    read_splits(trial)
    refuse_absent(trial.resources, "GPU")
    check_name(name)
    uri, said = plan_store(tracking_uri, Path(runs)), trial.task.model_fields_set
    plan = TrainPlan(study=name, uri=uri, choose_method="method" not in said, trial=trial)
    folder = new_folder(Path(runs), name)
    tracking = _store(folder, plan)
    run, result = _train_and_record(folder, plan, tracking, dashboard=False)
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(run, checkpoints.FILE, Path(scratch)))
    return TrainedModel(state, result.thresholds, trial.data.splits.shape)


def _store(folder: Path, plan: TrainPlan) -> Tracking:
    """Open the MLflow store of a training, before it trains.

    Raises:
        StoreError: if the store does not answer, is damaged or has another version.
    """
    return Tracking(folder.parent, plan.study, kept_store(plan.uri, folder.parent))


@contextmanager
def _only_training(folder: Path, tracking: Tracking) -> Iterator[None]:
    """Lock the folder, and be the only writer of the training's run in MLflow.

    Raises:
        ValueError: if another process holds the folder, or writes the same run.
    """
    with locked(folder), only_writer(tracking.uri, folder):
        if tracking.local:
            yield
            return
        with owned(tracking, lambda: _start(folder, tracking), folder, _tags(folder)) as run:
            try:
                yield
            except BaseException as error:
                status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                with suppress(StoreError), one_try():
                    tracking.finish(run, status)
                raise


def _start(folder: Path, tracking: Tracking) -> str:
    """Return the run of a training; make it if there is none."""
    return tracking.start(folder.name, _tags(folder))


def _tags(folder: Path) -> dict[str, str]:
    return {"study": folder.name, "trial": "0"}


def _train_and_record(
    folder: Path, plan: TrainPlan, tracking: Tracking, *, dashboard: bool
) -> tuple[str, EvaluationResult]:
    """Train the trial of a plan in its folder; return the run and the result."""
    trial = plan.trial
    folder.mkdir(parents=True, exist_ok=True)
    with _only_training(folder, tracking):
        plan = plan.model_copy(update={"inputs": plan.inputs or data_digests(trial, folder.parent)})
        write_plan(folder / PLAN, plan)
        workers = f"{trial.resources.workers} worker" + "s" * (trial.resources.workers != 1)
        log.info(f"training {plan.study}: {trial.optimizer.steps} steps, {workers}")
        cpus = trial.resources.workers * trial.resources.cpus
        with ray_session(cpus, dashboard=dashboard):
            _train(trial, folder)
            return _record(plan, folder, tracking)


def _record(plan: TrainPlan, folder: Path, tracking: Tracking) -> tuple[str, EvaluationResult]:
    """Evaluate the trained network and log it; return the run and the result."""
    trial = plan.trial
    state = checkpoints.newest(folder / CHECKPOINTS, trial)
    if state is None:
        raise RuntimeError(f"{folder}: the training ended without a checkpoint")
    run = _start(folder, tracking)
    files = sources(trial.data.splits, folder.parent)
    describe_trial(tracking, run, trial, files, key_settings(trial, ()))
    for metrics in state.history:
        named = metric_names(metrics, trial.task.metric)
        tracking.log_metrics(run, named, int(metrics["step"]))
    result = record_result(tracking, run, Evaluation(state), choose_method=plan.choose_method)
    tracking.finish(run)
    return run, result


def _train(trial: Trial, folder: Path) -> None:
    """Train to the last step.

    Raises:
        KeyboardInterrupt: if a signal stopped the training.
    """
    refuse_failed(folder / CHECKPOINTS)
    progress, pulse = folder / "progress.txt", folder / CHECKPOINTS / FILE
    pulse.unlink(missing_ok=True)
    CheckpointOnSignal(lambda: [folder / CHECKPOINTS], signal.default_int_handler).install()

    def waits() -> str:
        return "" if pulse.exists() else missing_now(trial.resources)

    with follow_file(progress), phase("training", waits):
        labels = {"study": folder.name, "trial": "0"}
        lines = [Lines(progress)]
        job = trainer(trial, folder / CHECKPOINTS, folder / "ray", progress, lines, labels)
        try:
            job.fit()
        except Exception as error:
            raise RuntimeError(error_text(error)) from error
    restore_interrupts()
    refuse_failed(folder / CHECKPOINTS)
