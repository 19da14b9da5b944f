"""The work of each worker of a Ray Train job, and its reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import distributed

from lartpc_ray.atomic import replace_file
from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.failures import cause_of, retry
from lartpc_ray.runtime.resources import memory
from lartpc_ray.terminal.pulse import FILE, PulseWriter
from lartpc_ray.terminal.text import error_text
from lartpc_ray.train.loop import Report, StepCallback, StepStats, Worker, train
from lartpc_ray.train.part import WHOLE, TrainingPart
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.trial import Resources, Trial

FAILED = "failed.txt"
"""The file in a run's folder that holds the reason why its training failed for good."""
PAUSE = 10.0
"""Seconds before several workers start again after an error of the machine."""


def record_steps(labels: Mapping[str, str], worker: Worker) -> StepCallback:
    """Return a callback that records each step of a worker in Ray's metrics.

    Args:
        labels: `study` and `trial`.
        worker: that trains.
    """
    tags = {**labels, "rank": str(worker.rank)}

    def record(step: StepStats) -> None:
        live.record("lartpc_steps_total", 1, **tags)
        live.record("lartpc_events_total", step.events, **tags)
        live.record("lartpc_voxels_total", step.voxels, **tags)
        for part in ("data", "compute", "communication"):
            live.record("lartpc_step_seconds_total", getattr(step, part), **tags, part=part)
        live.record("lartpc_loss", step.loss, **tags)
        live.record("lartpc_memory_bytes", memory(worker.device), **tags)

    return record


def write_speed(folder: Path, trial: Trial, worker: Worker) -> StepCallback:
    """Return a callback that writes the step and the speed of rank 0 for the driver's table."""
    if worker.rank:
        return lambda step: None
    pulse, settings = PulseWriter(folder / FILE, worker.world_size), trial.optimizer

    def write(step: StepStats) -> None:
        last = step.step == settings.steps or not step.step % settings.evaluate_every
        seconds = step.data + step.compute + step.communication
        pulse.add(step.step, seconds, step.voxels, last)

    return write


def all_of(*callbacks: StepCallback) -> StepCallback:
    """Return a callback that gives each step to several."""

    def call(step: StepStats) -> None:
        for callback in callbacks:
            callback(step)

    return call


def run_training_worker(
    trial: Trial,
    folder: Path,
    report: Report,
    worker: Worker,
    note: Path,
    labels: dict[str, str],
    part: TrainingPart = WHOLE,
) -> None:
    """Train on this worker and report metrics; record the reason if the trial caused a failure.

    Errors of the machine and the loss of another worker are no failures of the trial. A single
    worker tries again after an error of the machine; several workers leave that to Ray Train, which
    starts all of them again. After the loss of a worker, collective operations raise RuntimeError,
    or any exception once Ray Train has ended their group.
    """
    reported: set[float] = set()
    notify = _notifier(note, labels["trial"], worker)

    def report_validation(numbers: dict[str, float]) -> None:
        if worker.world_size == 1 and numbers["step"] in reported:  # before an error of the machine
            return
        if "objective" in numbers:
            live.record("lartpc_objective", numbers["objective"], **labels)
        report(numbers)
        reported.add(numbers["step"])

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        watch = all_of(record_steps(labels, worker), write_speed(folder, trial, worker))
        take = report_validation
        train(trial, folder, take, part=part, worker=worker, notify=notify, watch=watch)

    try:
        if worker.world_size == 1:
            retry(work, notify, lambda: checkpoints.files(folder)[-1:])
        else:
            work()
    except Exception as error:
        if _at_fault(error, worker):
            with replace_file(folder / FAILED, keep_existing=True) as file:  # another rank's
                file.write_text(f"{type(error).__name__}: {error_text(error)}")
        elif worker.world_size > 1 and cause_of(error) == "machine":
            notify(f"{error_text(error)}; Ray Train starts the workers again in {PAUSE:.0f} s")
            time.sleep(PAUSE)
        raise


def _notifier(note: Path, trial: str, worker: Worker) -> Callable[[str], None]:
    """Return a function that writes a line of rank 0 into a file for the user."""

    def notify(text: str) -> None:
        if not worker.rank:
            with suppress(OSError), note.open("a") as file:
                file.write(f"trial {trial}: {text}\n")

    return notify


def _at_fault(error: Exception, worker: Worker) -> bool:
    """Return whether the trial itself, or its data, caused an error."""
    cause = cause_of(error)
    if cause != "trial":
        return cause == "user"
    if worker.world_size == 1 or isinstance(error, FloatingPointError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError):
        return False
    return distributed.is_initialized()  # not where Ray Train has ended the group


def refuse_failed(folder: Path) -> None:
    """Refuse a folder whose training has failed for good.

    Raises:
        RuntimeError: with the reason.
    """
    if (folder / FAILED).is_file():
        raise RuntimeError((folder / FAILED).read_text())


def forget_failures(trials: Path) -> list[str]:
    """Take back that trainings have failed for good; return the names of their folders."""
    failed = sorted(trials.glob(f"*/{FAILED}"))
    for file in failed:
        file.unlink()
    return [file.parent.name for file in failed]


class _Job(TorchTrainer):
    """A job that leaves Ctrl-C to `CheckpointOnSignal`.

    Ray Train's own handler would end the process while the main thread waits in Ray.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def trainer(
    trial: Trial,
    folder: Path,
    scratch: Path,
    note: Path,
    callbacks: list[Any],
    labels: dict[str, str],
    part: TrainingPart = WHOLE,
) -> TorchTrainer:
    """Return the trial as a Ray Train job of `resources.workers` processes.

    A job that loses a worker continues from the newest checkpoint: with all workers again, or with
    the remaining ones if `resources.min_workers` allows that.

    Args:
        trial: what to train.
        folder: of its checkpoints, shared by all nodes.
        scratch: folder, shared by all nodes, for the files of Ray Train.
        note: file for messages to the user.
        callbacks: of Ray Train.
        labels: `study` and `trial`, for the metrics.
        part: of the training to do.
    """
    config: dict[str, Any] = {
        "trial": trial.model_dump_json(),
        "folder": str(folder),
        "note": str(note),
    }
    config |= {"labels": labels, "part": asdict(part)}
    return _Job(
        _worker,
        train_loop_config={**config, "labels": labels, "part": asdict(part)},
        torch_config=TorchConfig(backend="nccl" if trial.resources.gpus else "gloo"),
        scaling_config=_scaling(trial.resources),
        run_config=ray_train.RunConfig(  # type: ignore[call-arg]
            name=f"train-{time.time_ns()}",  # with a name that exists, Ray would resume that job
            storage_path=str(scratch),
            callbacks=callbacks,
            failure_config=ray_train.FailureConfig(max_failures=3),
            logging_config=ray_train.LoggingConfig(log_level="WARNING"),
        ),
    )


def _scaling(resources: Resources) -> ray_train.ScalingConfig:
    gpu = {"GPU": resources.gpus} if resources.gpus else {}
    fewest, most = resources.min_workers, resources.workers
    return ray_train.ScalingConfig(
        num_workers=(fewest, most) if fewest else most,  # type: ignore[arg-type]
        use_gpu=bool(gpu),
        resources_per_worker={"CPU": float(resources.cpus)} | gpu,
    )


def _worker(config: dict[str, Any]) -> None:
    """Train as one worker of a Ray Train job."""
    context = ray_train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), str(get_device()))
    folder = Path(config["folder"])
    if (folder / FAILED).is_file():  # a repeated try; the driver reads the reason
        return
    trial = Trial.model_validate_json(config["trial"])
    note, labels, part = Path(config["note"]), config["labels"], TrainingPart(**config["part"])
    run_training_worker(trial, folder, ray_train.report, worker, note, labels, part)


class Lines(ray_train.UserCallback):
    """Write a line into a file for each report of a job, from a process of Ray."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Write the report of rank 0."""
        with self._path.open("a") as file:
            file.write(line(metrics[0]) + "\n")


def line(numbers: dict[str, float]) -> str:
    """Return a report as one line."""
    step, loss, objective = (numbers[name] for name in ("step", "loss", "objective"))
    return f"step {step:>6.0f}   loss {loss:.4f}   objective {objective:.4f}"


def device(trial: Trial) -> str:
    """Return the device on which a trial of one worker trains.

    Raises:
        ValueError: if the trial wants a GPU and torch sees none.
    """
    if not trial.resources.gpus:
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError(f"resources.gpus: {trial.resources.gpus:g}: torch sees no GPU here")
    return "cuda"
