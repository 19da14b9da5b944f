"""Train one trial through Ray Train, and log it: for the command and for Python."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from lartpc_ray.atomic import write_json
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.trained_model import TrainedModel
from lartpc_ray.report.record import access_hint, record_result
from lartpc_ray.report.tables import table
from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import (
    load_plan,
    locked,
    new_folder,
    resume_folder,
)
from lartpc_ray.runtime.signals import CheckpointOnSignal, restore_interrupts
from lartpc_ray.settings import Settings
from lartpc_ray.terminal.command import INTERRUPTED, log
from lartpc_ray.terminal.screen import follow_file
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.describe import describe_trial
from lartpc_ray.tracking.provenance import sources
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.workers import Lines, refuse_failed, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import key_settings
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.trial import Trial

PLAN = "job.json"
"""The file in a run's folder that holds its `TrainPlan`."""


CHECKPOINTS = "checkpoints"


class TrainPlan(Settings):
    """The plan of one training: what `--resume` needs.

    The file holds the trial as a JSON string, as earlier versions wrote it.
    """

    study: str
    uri: str | None
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
        folder = resume_folder(options, PLAN)
        plan = load_plan(folder / PLAN, TrainPlan)
    else:
        trial = space.first_trial()
        plan = TrainPlan(study=space.name, uri=options.tracking_uri, trial=trial)
        folder = new_folder(options.runs, space.name)
    trial = plan.trial
    read_splits(trial)
    if options.dry_run:
        print(trial.model_dump_json(indent=2))
        return 0
    try:
        run, result, tracking = _train_and_record(folder, plan, dashboard=options.dashboard)
    except KeyboardInterrupt:
        again = f"python -m lartpc_ray.train {options.study} --resume {folder}"
        log.info(f"interrupted; the last step is saved. To continue, run:\n  {again}")
        return INTERRUPTED
    if options.json:
        print(json.dumps({"run": run, "steps": trial.optimizer.steps, **asdict(result)}, indent=1))
    else:
        print(f"{table(result)}\n{access_hint(tracking, options.runs, run)}")
    return 0


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
        ValueError: for events that cannot be read.
        RuntimeError: if Ray does not start or the training fails.
        KeyboardInterrupt: after Ctrl-C; `lartpc-ray train NAME --resume FOLDER` continues.

    Example:
        model = train_trial(Trial().with_events("my_events"))
        events = list(model.predict(read_events("events.h5")))
    """
    read_splits(trial)
    plan = TrainPlan(study=name, uri=tracking_uri, trial=trial)
    run, result, tracking = _train_and_record(new_folder(Path(runs), name), plan, dashboard=False)
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(run, checkpoints.FILE, Path(scratch)))
    return TrainedModel(state, result.thresholds, trial.data.splits.shape)


def _train_and_record(
    folder: Path, plan: TrainPlan, *, dashboard: bool
) -> tuple[str, EvaluationResult, Tracking]:
    """Train the trial of a plan in its folder; return the run, the result and the store."""
    trial = plan.trial
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_json(folder / PLAN, plan.model_dump())
        log.info(
            f"training {plan.study}: {trial.optimizer.steps} steps, "
            f"{trial.resources.workers} workers"
        )
        cpus = trial.resources.workers * trial.resources.cpus
        with ray_session(cpus, dashboard=dashboard):
            _train(trial, folder)
            return _record(trial, folder, plan)


def _record(trial: Trial, folder: Path, plan: TrainPlan) -> tuple[str, EvaluationResult, Tracking]:
    """Evaluate the trained network and log it; return the run, the result and the store."""
    state = checkpoints.newest(folder / CHECKPOINTS, trial)
    if state is None:
        raise RuntimeError(f"{folder}: the training ended without a checkpoint")
    tracking = Tracking(folder.parent, plan.study, plan.uri)
    run = tracking.start(folder.name, {"study": folder.name, "trial": "0"})
    files = sources(trial.data.splits, folder.parent)
    describe_trial(tracking, run, trial, files, key_settings(trial, ()))
    for metrics in state.history:
        tracking.log_metrics(run, metrics, int(metrics["step"]))
    result = record_result(tracking, run, Evaluation(state))
    tracking.finish(run)
    return run, result, tracking


def _train(trial: Trial, folder: Path) -> None:
    """Train to the last step.

    Raises:
        KeyboardInterrupt: if a signal stopped the training.
    """
    refuse_failed(folder / CHECKPOINTS)
    progress = folder / "progress.txt"
    CheckpointOnSignal(lambda: [folder / CHECKPOINTS], signal.default_int_handler).install()
    with follow_file(progress):
        labels = {"study": folder.name, "trial": "0"}
        lines = [Lines(progress)]
        job = trainer(trial, folder / CHECKPOINTS, folder / "ray", progress, lines, labels)
        try:
            job.fit()
        except Exception as error:
            raise RuntimeError(error_text(error)) from error
    restore_interrupts()
    refuse_failed(folder / CHECKPOINTS)
