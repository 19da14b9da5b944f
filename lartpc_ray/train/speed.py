"""Measure the speed of a training on this machine with a network that is not kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.evaluate import validate
from lartpc_ray.train.loop import StepStats, Worker, train
from lartpc_ray.train.validation import recalibrate_batchnorm
from lartpc_ray.trials.trial import Trial

STEPS = 4
"""Steps that are measured, after a first one that is not."""
PATIENCE = 20.0
"""Seconds after which no further step is measured."""
VALIDATED = 1.0
"""Seconds of a validation of some tune events, from which that of all follows."""
FIT_EVENT = 0.1
"""Seconds of an event from which joined pieces are learned: 66 s for 700, 16 s for 150."""
BATCHES = 3
"""Training batches of the measured validation."""


@dataclass(frozen=True)
class Speed:
    """The speed of a trial on this machine.

    Attributes:
        steps: number of steps measured.
        seconds_per_step: mean; of data-parallel workers, if they share a step evenly.
        voxels_per_second: mean.
        seconds_per_validation: of some tune events, times the events of the split.
        seconds_to_fit: of the task's `fit` at the last step; by `FIT_EVENT`, not measured here.
    """

    steps: int
    seconds_per_step: float
    voxels_per_second: float
    seconds_per_validation: float
    seconds_to_fit: float


class _Enough(Exception):  # noqa: N818 (no error: the measured steps are done)
    """The end of the measured steps."""


def measured_speed(trial: Trial, steps: int = STEPS, patience: float = PATIENCE) -> Speed | None:
    """Measure some steps and a validation of a trial; None if its GPUs are absent.

    Args:
        trial: that is measured.
        steps: number of steps.
        patience: seconds after which no further step is measured.
    """
    if trial.resources.gpus and not torch.cuda.is_available():
        return None
    device = "cuda" if trial.resources.gpus else "cpu"
    threads = torch.get_num_threads()
    try:
        done = measure_steps(trial, device, steps, patience)
        checked = validation_seconds(trial, device)
    finally:
        torch.set_num_threads(threads)
    workers = trial.resources.workers
    seconds, voxels = step_means(done)
    fitted = min(trial.task.fitted_events, len(trial.data.splits.events("train")))
    return Speed(
        len(done),
        seconds / workers,
        workers * voxels / seconds,
        checked / workers,
        FIT_EVENT * fitted,
    )


def step_means(steps: Sequence[StepStats]) -> tuple[float, float]:
    """Return the mean seconds and the mean voxels of steps."""
    seconds = float(np.mean([step.data + step.compute for step in steps]))
    return seconds, float(np.mean([step.voxels for step in steps]))


def measure_steps(
    trial: Trial, device: str, count: int = STEPS, patience: float = PATIENCE
) -> list[StepStats]:
    """Train a new network for a few steps and drop it; the first step warms up."""
    steps = list[StepStats]()
    began = 0.0

    def watch(step: StepStats) -> None:
        nonlocal began
        began = began or time.monotonic()
        steps.append(step)
        if len(steps) > count or (len(steps) > 1 and time.monotonic() - began > patience):
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        settings = {"steps": count + 2, "evaluate_every": count + 2}
        optimizer = trial.optimizer.model_copy(update=settings)
        short = trial.model_copy(update={"optimizer": optimizer})
        worker = Worker(device=device)
        with suppress(_Enough):
            train(short, Path(folder), lambda numbers: None, worker=worker, watch=watch)
    return steps[1:]


def validation_seconds(trial: Trial, device: str) -> float:
    """Return the seconds of a validation, from some tune events and training batches.

    The network is untrained. The first event warms up and is not measured. Then the number of
    events, spread over the split, grows until they take `VALIDATED` seconds. The time is taken as
    proportional to the number of events.
    """
    events = trial.data.splits.events("tune")
    network = trial.make_network().to(device)
    validate(network, trial.task, [events[0]], device)
    count, seconds = 0, 0.0
    while seconds < VALIDATED and count < len(events):
        count = min(max(2, 4 * count), len(events))
        places = np.linspace(0, len(events) - 1, count).astype(int)
        some = [events[int(place)] for place in places]
        began = time.monotonic()
        validate(network, trial.task, some, device)
        seconds = time.monotonic() - began
    return seconds * len(events) / count + _recalibration_seconds(network, trial, device)


def _recalibration_seconds(network: UResNet, trial: Trial, device: str) -> float:
    """Return the seconds in which BatchNorm's averages are taken anew, from some batches."""
    batches = trial.optimizer.batchnorm_batches
    few = min(batches, BATCHES)
    optimizer = trial.optimizer.model_copy(update={"batchnorm_batches": few})
    short = trial.model_copy(update={"optimizer": optimizer})
    events = trial.data.splits.events("train")
    began = time.monotonic()
    recalibrate_batchnorm(network, short, events, 0, device)
    return (time.monotonic() - began) * batches / max(few, 1)
