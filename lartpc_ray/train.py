"""One training loop, and `python -m lartpc_ray.train`: one Trial, data-parallel through Ray Train.

The loop takes `report` as an argument and knows nothing of who listens: Tune for a trial of one
worker, Ray Train for several, a list in a test.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray.checkpoint import Checkpoint
from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.data.loader import batches
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict import predict
from lartpc_ray.reconstruct.grid import ThresholdGrid
from lartpc_ray.tasks import AnyTask
from lartpc_ray.trial import OptimizerSettings, Trial

Report = Callable[[dict[str, float], Path | None], None]
"""Takes the numbers of a validation, and the folder of the checkpoint on rank 0."""


@dataclass(frozen=True)
class Rank:
    """Which of the data-parallel workers this is, and where its network lives."""

    index: int = 0
    count: int = 1
    device: str = "cpu"


def learn(
    trial: Trial, report: Report, *, rank: Rank | None = None, resume: Path | None = None
) -> None:
    """Train a trial from its start, or from a checkpoint, to its last step.

    Every `evaluate_every` steps, and after the last, rank 0 validates on the tune split and all
    ranks report. The same trial gives the same weights, whoever runs it.

    Raises:
        FloatingPointError: when the loss is no number any more.
    """
    rank = rank or Rank()
    _seed(trial)
    start = checkpoints.load(resume) if resume else None
    network = trial.make_network()
    if start:
        network.load_state_dict(start.network)
    network.to(rank.device)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=1.0, weight_decay=trial.optimizer.weight_decay
    )
    if start:
        optimizer.load_state_dict(start.optimizer)
    step = start.step if start else 0
    history = list(start.history) if start else []
    model = _parallel(network, trial, rank)
    events = trial.data.splits.events("train")
    tune_events = trial.data.splits.events("tune")
    stream = batches(
        events, trial.data, trial.task.prepare, start=step, rank=rank.index, ranks=rank.count
    )
    sums: dict[str, float] = {}
    since, began = step, time.monotonic()
    while step < trial.optimizer.steps:
        numbers = _step(model, optimizer, trial, next(stream).to(rank.device), step)
        sums = {name: sums.get(name, 0.0) + value for name, value in numbers.items()}
        step += 1
        if step % trial.optimizer.evaluate_every and step < trial.optimizer.steps:
            continue
        means = {name: value / (step - since) for name, value in sums.items()}
        means |= {"step": step, "seconds_a_step": (time.monotonic() - began) / (step - since)}
        means |= _validated(network, trial, tune_events, rank)
        history.append(means)
        state = Checkpoint(
            trial, step, network.state_dict(), optimizer.state_dict(), history
        )
        _send(report, means, state, rank)
        sums, since, began = {}, step, time.monotonic()


def validate(
    network: UResNet, task: AnyTask, events: Sequence[Event], device: str = "cpu"
) -> ThresholdGrid:
    """The task's goal over its threshold grid, on events that the network has not seen."""
    return task.grid(
        task.score(event, outputs)
        for event, outputs in predict(network, task, events, device=device)
    )


def _seed(trial: Trial) -> None:
    random.seed(trial.seed)
    np.random.seed(trial.seed)
    torch.manual_seed(trial.seed)
    torch.set_num_threads(trial.resources.cpus)


def _parallel(network: UResNet, trial: Trial, rank: Rank) -> nn.Module:
    """The network as its data-parallel self; in phase one some parameters get no gradient."""
    if rank.count == 1:
        return network
    unused = bool(trial.task.frozen(0))
    return DistributedDataParallel(network, find_unused_parameters=unused)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    trial: Trial,
    batch: VoxelBatch,
    step: int,
) -> dict[str, float]:
    """One step down the gradient; the loss and its terms."""
    settings = trial.optimizer
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * settings.factor(step)
    without = trial.task.frozen(step)
    features = trial.task.features(batch)
    outputs = model(batch.coords, features, batch.shape, batch.event, without)
    loss = trial.task.criterion(outputs, batch, step)
    numbers = loss.numbers()
    if not np.isfinite(numbers["loss"]):
        raise FloatingPointError(
            f"step {step}: the loss is {numbers['loss']}; lower optimizer.learning_rate "
            f"({settings.learning_rate}) or set optimizer.clip"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    if settings.clip:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return numbers
