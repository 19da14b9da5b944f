"""What each worker of a Ray Train job runs, and how it reports."""

from __future__ import annotations

import time
from collections.abc import Mapping
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
from lartpc_ray.trials.trial import Trial


def steps(labels: Mapping[str, str], worker: Worker) -> StepCallback:
    """Tells of each step of a worker.

    Args:
        labels: `study` and `trial`.
        rank: of the worker.
    """
    tags = {**labels, "rank": str(worker.rank)}

    def watch(step: StepStats) -> None:
        live.record("lartpc_steps_total", 1, **tags)
        live.record("lartpc_events_total", step.events, **tags)
        live.record("lartpc_voxels_total", step.voxels, **tags)
        for part in ("data", "compute", "communication"):
            live.record("lartpc_step_seconds_total", getattr(step, part), **tags, part=part)
        live.record("lartpc_loss", step.loss, **tags)
        live.record("lartpc_memory_bytes", memory(worker.device), **tags)

    return watch


FAILED = "failed.txt"
"""In a run's folder: why it cannot be trained. It is not tried again."""


def run_training_worker(
    trial: Trial, folder: Path, report: Report, worker: Worker, note: Path, labels: dict[str, str]
) -> None:
    """Learn, watched; where the trial itself is at fault leave the reason in its folder.

    A full disk is not the trial's fault, nor is what a lost worker does to the others: whoever
    called tries again. Collective operations raise RuntimeError then, or anything at all once Ray
    Train has ended their group.
    """

    def record(text: str) -> None:
        if not worker.rank:
            with note.open("a") as file:
                file.write(f"{text}\n")

    def validated(numbers: dict[str, float]) -> None:
        if "objective" in numbers:
            live.record("lartpc_objective", numbers["objective"], **labels)
        report(numbers)

    watch = steps(labels, worker)
    try:
        train(trial, folder, validated, worker=worker, notify=record, watch=watch)
    except Exception as error:
        if _at_fault(error, worker):
            try:
                with (folder / FAILED).open("x") as file:
                    file.write(f"{type(error).__name__}: {error_text(error)}")
            except FileExistsError:  # another rank was first
                pass
        raise


def _at_fault(error: Exception, worker: Worker) -> bool:
    """Is it the trial's own fault?"""
    if isinstance(error, OSError):
        return False
    if worker.world_size == 1 or isinstance(error, FloatingPointError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError):
        return False
    return distributed.is_initialized()  # not where Ray Train took the group from under it


def refuse_failed(folder: Path) -> None:
    """Raises:
    RuntimeError: with the reason, where the run of a folder has failed.
    """
    if (folder / FAILED).is_file():
        raise RuntimeError((folder / FAILED).read_text())


class _Job(TorchTrainer):
    """A job that leaves Ctrl-C to `Stopping`.

    It runs in the main thread: one that waits in Ray while another ends it ends the process.
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
    """The trial as a Ray Train job of `resources.workers` processes (gloo on CPU, nccl on GPU).

    A job that loses a worker goes on from the newest checkpoint: with all workers again, or with
    those that are left where `resources.min_workers` allows it.

    Args:
        trial: what to train.
        folder: of its checkpoints, shared by all nodes.
        scratch: folder, shared by all nodes, for what Ray Train keeps.
        note: file for what the user should see.
        callbacks: of Ray Train.
        labels: `study` and `trial`, by which it is known to who looks on.
    """
    resources = trial.resources
    use_gpu = resources.gpus > 0
    worker = {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if use_gpu else {})
    fewest = resources.min_workers
    workers = (fewest, resources.workers) if fewest else resources.workers
    return _Job(
        _worker,
        train_loop_config={
            "trial": trial.model_dump_json(),
            "folder": str(folder),
            "note": str(note),
            "labels": labels,
        },
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray_train.ScalingConfig(
            num_workers=workers,  # type: ignore[arg-type]
            use_gpu=use_gpu,
            resources_per_worker=worker,
        ),
        run_config=ray_train.RunConfig(  # type: ignore[call-arg]
            name=f"train-{time.time_ns()}",  # a name of its own: Ray would go on where it was
            storage_path=str(scratch),
            callbacks=callbacks,
            failure_config=ray_train.FailureConfig(max_failures=3),
            logging_config=ray_train.LoggingConfig(log_level="WARNING"),
        ),
    )


def _worker(config: dict[str, Any]) -> None:
    """What each worker of a Ray Train job runs."""
    context = ray_train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), str(get_device()))
    folder = Path(config["folder"])
    if (folder / FAILED).is_file():  # Ray Train tries again; who started the job reads the reason
        return
    trial = Trial.model_validate_json(config["trial"])
    run_training_worker(
        trial, folder, ray_train.report, worker, Path(config["note"]), config["labels"]
    )


class Lines(ray_train.UserCallback):
    """One line in a file for each report of a job: it runs in a process of Ray's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        with self._path.open("a") as file:
            file.write(line(metrics[0]) + "\n")


def line(numbers: dict[str, float]) -> str:
    """One report in one line."""
    step, loss, objective = (numbers[name] for name in ("step", "loss", "objective"))
    return f"step {step:>6.0f}   loss {loss:.4f}   objective {objective:.4f}"


def device(trial: Trial) -> str:
    """Where a trial of one worker trains.

    Raises:
        ValueError: for GPUs where torch sees none.
    """
    if not trial.resources.gpus:
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError(f"resources.gpus: {trial.resources.gpus:g}: torch sees no GPU here")
    return "cuda"
