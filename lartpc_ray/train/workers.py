"""The work of each worker of a Ray Train job, and its reports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import distributed

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.resources import memory
from lartpc_ray.terminal.text import error_text
from lartpc_ray.train.loop import Report, StepCallback, StepStats, Worker, train
from lartpc_ray.trials.trial import Resources, Trial

FAILED = "failed.txt"
"""The file in a run's folder that holds the reason why its training failed for good."""


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


def run_training_worker(
    trial: Trial, folder: Path, report: Report, worker: Worker, note: Path, labels: dict[str, str]
) -> None:
    """Train on this worker and report metrics; record the reason if the trial caused a failure.

    A full disk and the loss of another worker are no failures of the trial: the caller tries
    again. After the loss of a worker, collective operations raise RuntimeError, or any exception
    once Ray Train has ended their group.
    """

    def notify(text: str) -> None:
        if not worker.rank:
            with note.open("a") as file:
                file.write(f"{text}\n")

    def report_validation(numbers: dict[str, float]) -> None:
        if "objective" in numbers:
            live.record("lartpc_objective", numbers["objective"], **labels)
        report(numbers)

    folder.mkdir(parents=True, exist_ok=True)
    watch = record_steps(labels, worker)
    try:
        train(trial, folder, report_validation, worker=worker, notify=notify, watch=watch)
    except Exception as error:
        if _at_fault(error, worker):
            with suppress(FileExistsError), (folder / FAILED).open("x") as file:  # another rank's
                file.write(f"{type(error).__name__}: {error_text(error)}")
        raise


def _at_fault(error: Exception, worker: Worker) -> bool:
    """Return whether the trial itself caused an error."""
    if isinstance(error, OSError):
        return False
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
    """
    config = {"trial": trial.model_dump_json(), "folder": str(folder), "note": str(note)}
    return _Job(
        _worker,
        train_loop_config={**config, "labels": labels},
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
    run_training_worker(
        trial, folder, ray_train.report, worker, Path(config["note"]), config["labels"]
    )


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
