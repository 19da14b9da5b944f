"""The training loop: from a trial and its folder to weights, also after a kill.

The loop takes `report` as an argument: from Tune for a trial of one worker, from Ray Train for
several. A step depends only on the trial, the weights and the number of the step, so a run that
continues from a checkpoint gives the same weights as a run without interruption.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Events
from lartpc_ray.data.loader import batches
from lartpc_ray.networks.batchnorm import synchronise
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.terminal.command import log
from lartpc_ray.train.part import WHOLE, TrainingPart
from lartpc_ray.train.shared_validation import share, share_averages
from lartpc_ray.train.validation import fit_constants, recalibrate_batchnorm, validated
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST, Checkpoint
from lartpc_ray.trials.event_scores import write_scores
from lartpc_ray.trials.trial import Trial

Report = Callable[[dict[str, float]], None]
"""A function that takes the numbers of a validation."""
StepCallback = Callable[["StepStats"], None]
"""A function that takes the measurements of a step."""


@dataclass(frozen=True)
class Worker:
    """The rank of a data-parallel worker, and the device of its network."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"


SINGLE_WORKER = Worker()


@dataclass(frozen=True)
class StepStats:
    """The measurements of a step on one worker.

    Attributes:
        loss: of the worker's events.
        events: number of events of the worker.
        voxels: number of their voxels.
        data: seconds until the batches were on the device.
        compute: seconds of everything else.
        communication: seconds from the worker's last gradient to the arrival of the gradients of
            all workers. On GPUs the worker's thread does not wait for NCCL; there this time is part
            of `compute`.
        step: its number, from 1.
    """

    loss: float
    events: int
    voxels: int
    data: float
    compute: float
    communication: float
    step: int = 0


def train(
    trial: Trial,
    folder: Path,
    report: Report,
    *,
    part: TrainingPart = WHOLE,
    worker: Worker = SINGLE_WORKER,
    notify: Callable[[str], None] = log.warning,
    watch: StepCallback = lambda step: None,
) -> None:
    """Train a trial from the newest checkpoint in its folder, or its start, to its last step.

    Every `evaluate_every` steps, and after the last, the ranks validate on the tune split, each a
    share, rank 0 writes the scores of the events and a checkpoint, then all ranks report. On
    resume, report the metrics in the checkpoint again: the previous driver may have missed them.

    Args:
        trial: what is trained.
        folder: of its checkpoints; all ranks see the same one.
        report: takes the numbers of each validation, the first one first.
        part: of the training to do and to report; all of it by default.
        worker: this worker; a single one on the CPU by default.
        notify: takes the reason why a damaged checkpoint is not used.
        watch: takes each step.

    Raises:
        FloatingPointError: when the loss is no number any more.
        ValueError: for checkpoints of another trial in the folder.
        RuntimeError: if the ranks do not see the same checkpoint.
    """
    torch.set_num_threads(trial.resources.cpus)
    run = _Run.begin(trial, worker, checkpoints.newest(folder, trial, notify))
    run.fit_at_end(folder)
    for numbers in part.reports(run.history):
        report(numbers)
    if part.ends_with(run.history):
        return
    events, tune_events = (trial.data.splits.events(split) for split in ("train", "tune"))
    streams = run.streams(events)
    while run.step < trial.optimizer.steps and not part.ends_with(run.history):
        numbers = run.steps_to_validation(streams, folder, watch)
        numbers |= run.validate(events, tune_events, folder)
        run.history.append(numbers)
        run.save(folder)
        run.fit_at_end(folder)
        report(numbers)


@dataclass(eq=False)
class _AllReduceTimer:
    """Measure the time that a worker waits for the gradients of others.

    Attributes:
        sent: time at which the last bucket of gradients was sent; None after their arrival.
        waited: seconds of the last wait.
    """

    sent: float | None = None
    waited: float = 0.0

    def send(self, bucket: Any) -> Future[Tensor]:
        """Send a bucket as DDP does by default, and take the time."""
        self.sent = time.perf_counter()
        return allreduce_hook(distributed.group.WORLD, bucket)  # type: ignore[arg-type]

    def end(self) -> None:
        """Measure the wait at the end of a backward pass that exchanged gradients."""
        if self.sent is not None:
            self.waited, self.sent = time.perf_counter() - self.sent, None


@dataclass(eq=False)
class _Run:
    """The state that changes from step to step."""

    trial: Trial
    worker: Worker
    network: UResNet
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    window: list[dict[str, float]] = field(default_factory=list)
    exchange: _AllReduceTimer = field(default_factory=_AllReduceTimer)
    tune_share: list[int] | None = None

    @staticmethod
    def begin(trial: Trial, worker: Worker, start: Checkpoint | None) -> _Run:
        """Return the run of a checkpoint, or a new run."""
        if worker.world_size > 1:
            _same_everywhere(start.step if start else 0, worker)
        network = trial.make_network()
        if trial.optimizer.norm == "synchronised" and worker.world_size > 1:
            synchronise(network)
        first = start or checkpoints.start_weights(trial)
        if first:
            network.load_state_dict(first.network)
        network.to(worker.device)
        optimizer = torch.optim.Adam(
            network.parameters(), lr=1.0, weight_decay=trial.optimizer.weight_decay, fused=True
        )
        half = trial.optimizer.precision == "float16"
        scaler = torch.amp.GradScaler(torch.device(worker.device).type, enabled=half)
        run = _Run(trial, worker, network, _parallel(network, trial, worker), optimizer, scaler)
        if isinstance(run.model, DistributedDataParallel) and worker.device == "cpu":
            run.model.register_comm_hook(run.exchange, lambda own, bucket: own.send(bucket))
        if start:
            optimizer.load_state_dict(start.optimizer)
            scaler.load_state_dict(start.scaler)
            run.step, run.history, run.window = start.step, start.history, start.window
        return run

    def save(self, folder: Path) -> None:
        """Write a checkpoint on rank 0, which answers a request for one."""
        if self.worker.rank:
            return
        state = Checkpoint(
            self.trial,
            self.step,
            self.network.state_dict(),
            self.optimizer.state_dict(),
            self.history,
            self.scaler.state_dict(),
            self.window,
        )
        checkpoints.add(folder, state)
        (folder / CHECKPOINT_REQUEST).unlink(missing_ok=True)

    def streams(self, events: Events) -> list[Iterator[VoxelBatch]]:
        """Return the batches of each part of a step that this worker computes."""
        trial = self.trial
        return [
            batches(
                events,
                trial.data,
                trial.task.prepare,
                start=self.step,
                rank=part,
                ranks=trial.parts,
            )
            for part in range(self.worker.rank, trial.parts, self.worker.world_size)
        ]

    def steps_to_validation(
        self, streams: Sequence[Iterator[VoxelBatch]], folder: Path, watch: StepCallback
    ) -> dict[str, float]:
        """Train until the next validation; return the means of the loss's terms, time and memory.

        Write a checkpoint after a step if a file in the folder requests one.
        """
        settings, began = self.trial.optimizer, self.step
        until = began - began % settings.evaluate_every + settings.evaluate_every
        until = min(until, settings.steps)
        with Meter(self.worker.device) as meter:
            while self.step < until:
                watch(self.fetch_and_step(streams))
                requested = not self.worker.rank and (folder / CHECKPOINT_REQUEST).exists()
                if requested and self.step < until:
                    self.save(folder)
        means, self.window = _means(self.window), []
        return means | {
            "step": self.step,
            "seconds_a_step": meter.seconds / (self.step - began),
            "training_gib": meter.peak_gib,
        }

    def validate(self, events: Events, tune_events: Events, folder: Path) -> dict[str, float]:
        """Validate on all ranks, each a share; return the numbers on rank 0.

        Rank 0 recalibrates BatchNorm on training events before, and fits the task's constants
        where the objective depends on them. The scores of the events are written before the
        checkpoint that counts the validation.
        """
        rank, device = self.worker.rank, self.worker.device
        if not rank:
            recalibrate_batchnorm(self.network, self.trial, events, self.step, device)
            if self.trial.task.fits_always:
                fit_constants(self.network, self.trial, events, device)
        place = rank, self.worker.world_size
        if self.worker.world_size > 1:
            share_averages(self.network)
        if self.tune_share is None:
            self.tune_share = share(tune_events, *place, device)
        own = self.tune_share
        numbers, scores = validated(self.network, self.trial, tune_events, device, place, own)
        if not rank:
            write_scores(folder, self.step, scores)
        return numbers

    def fit_at_end(self, folder: Path) -> None:
        """Fit the task's constants after the last step, on rank 0, and save them.

        The checkpoint of the last step is written before: a run that stops here fits when it
        continues.
        """
        task = self.trial.task
        last = self.step == self.trial.optimizer.steps
        if self.worker.rank or not last or task.fits_always or not task.fitted_events:
            return
        if not any(values.any() for values in self.network.constants.values()):
            events = self.trial.data.splits.events("train")
            fit_constants(self.network, self.trial, events, self.worker.device)
            self.save(folder)

    def fetch_and_step(self, streams: Sequence[Iterator[VoxelBatch]]) -> StepStats:
        """Take the next step with the next batches."""
        began = time.perf_counter()
        parts = [next(stream).to(self.worker.device) for stream in streams]
        loaded = time.perf_counter()
        self.optimizer_step(parts)
        waited = self.exchange.waited
        return StepStats(
            loss=self.window[-1]["loss"],
            events=sum(part.events for part in parts),
            voxels=sum(len(part.coords) for part in parts),
            data=loaded - began,
            compute=time.perf_counter() - loaded - waited,
            communication=waited,
            step=self.step,
        )

    def optimizer_step(self, parts: list[VoxelBatch]) -> None:
        """Step along the mean gradient of all parts, also of those of other workers."""
        settings = self.trial.optimizer
        _seed(self.trial, self.step, self.worker)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.factor(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        terms = [self._backward(part, part is parts[-1]) for part in parts]
        self.window.append(_means(terms))
        if settings.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1

    def _backward(self, batch: VoxelBatch, last: bool) -> dict[str, float]:
        """Add a part's gradient, exchange after the last part, and return the loss's terms."""
        model = self.model
        waits = isinstance(model, DistributedDataParallel) and not last
        with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
            without = self.trial.task.frozen(self.step)
            features = self.trial.task.features(batch)
            with self._precision():
                outputs = model(batch.coords, features, batch.shape, batch.event, without)
            outputs = {name: values.float() for name, values in outputs.items()}
            loss = self.trial.task.criterion(outputs, batch, self.step)
            numbers = loss.numbers()
            if not np.isfinite(numbers["loss"]):
                raise FloatingPointError(
                    f"step {self.step}: the loss is {numbers['loss']}; lower "
                    f"optimizer.learning_rate ({self.trial.optimizer.learning_rate}) or set "
                    "optimizer.clip"
                )
            share = self.worker.world_size / self.trial.parts  # workers' sums are averaged
            self.scaler.scale(loss.total * share).backward()
        self.exchange.end()
        return numbers

    def _precision(self) -> torch.autocast:
        name = self.trial.optimizer.precision
        kind = torch.device(self.worker.device).type
        lower = name != "float32"
        return torch.autocast(kind, dtype=getattr(torch, name) if lower else None, enabled=lower)


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the rows that have it (no cluster: no mask loss)."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _seed(trial: Trial, step: int, worker: Worker) -> None:
    """Seed all random numbers by (seed, step, worker), so checkpoints hold no such state."""
    seed = int(np.random.SeedSequence((trial.seed, step, worker.rank)).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _same_everywhere(step: int, worker: Worker) -> None:
    ends = torch.tensor([step, -step], device=worker.device)
    distributed.all_reduce(ends, distributed.ReduceOp.MAX)
    if int(ends[0]) != -int(ends[1]):
        raise RuntimeError(
            f"rank {worker.rank} continues from step {step}, another rank from step "
            f"{int(ends[0])}: do all nodes see the same folder?"
        )


def _parallel(network: UResNet, trial: Trial, worker: Worker) -> nn.Module:
    """Wrap the network for several workers; in phase one some parameters get no gradient.

    Only rank 0's averages of BatchNorm are used, so the workers do not exchange them.
    """
    if worker.world_size == 1:
        return network
    unused = bool(trial.task.frozen(0))
    return DistributedDataParallel(
        network, find_unused_parameters=unused, forward_sync_buffers=False
    )
