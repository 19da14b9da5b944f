"""One training loop, and `python -m lartpc_ray.train`: one Trial, data-parallel through Ray Train.

The loop takes `report` as an argument and knows nothing of who listens: Tune for a trial of one
worker, Ray Train for several, a list in a test.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import ray
import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.checkpoint import Checkpoint
from lartpc_ray.command import Parser, say
from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.files import Split
from lartpc_ray.data.loader import batches
from lartpc_ray.metrics.resources import Meter
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.report import flat, judge, keep, table, validate, where
from lartpc_ray.screen import said
from lartpc_ray.space import BudgetName, Space, budgets, find_space, parse_setting, read_space
from lartpc_ray.tracking import Tracking
from lartpc_ray.trial import Trial

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
    while step < trial.optimizer.steps:
        every = trial.optimizer.evaluate_every
        until = min(step - step % every + every, trial.optimizer.steps)
        each = []
        with Meter(rank.device) as meter:
            while step < until:
                batch = next(stream).to(rank.device)
                each.append(_step(model, optimizer, trial, batch, step))
                step += 1
        means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        means |= {
            "step": step,
            "seconds_a_step": meter.seconds / len(each),
            "training_gib": meter.peak_gib,
        }
        if not rank.index:
            _settle(network, trial, events, step, rank.device)
        means |= _validated(network, trial, tune_events, rank)
        history.append(means)
        state = Checkpoint(trial, step, network.state_dict(), optimizer.state_dict(), history)
        _send(report, means, state, rank)


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
    loss.total.backward()  # type: ignore[no-untyped-call]
    if settings.clip:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return numbers


@torch.no_grad()
def _settle(network: UResNet, trial: Trial, events: Events, step: int, device: str) -> None:
    """Take BatchNorm's averages over the next batches, all with the weights as they are now.

    The running averages lag behind and, with few voxels on the coarse levels, are noisy. Training
    does not use them.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    count = trial.optimizer.settle_batches
    momenta = [norm.momentum for norm in norms]
    for norm in norms if count else []:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in islice(batches(events, trial.data, trial.task.prepare, start=step), count):
        moved = batch.to(device)
        network(moved.coords, trial.task.features(moved), moved.shape, moved.event)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _validated(
    network: UResNet, trial: Trial, events: Sequence[Event], rank: Rank
) -> dict[str, float]:
    """The goal and each class's best score and thresholds, on rank 0; nothing elsewhere."""
    if rank.index:
        return {}
    with Meter(rank.device) as meter:
        found = validate(network, trial.task, events, rank.device)
    numbers = {
        "goal": found.goal,
        "seconds_an_event": meter.seconds / len(events),
        "inference_gib": meter.peak_gib,
    }
    numbers |= {f"{name}/{trial.task.metric}": score for name, score in found.scores.items()}
    for name, axes in found.thresholds.items():
        numbers |= {f"{name}/{axis}": value for axis, value in axes.items()}
    return numbers


def _send(report: Report, numbers: dict[str, float], state: Checkpoint, rank: Rank) -> None:
    if rank.index:
        report(numbers, None)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), state)
        report(numbers, Path(folder))


def trainer(trial: Trial, storage: Path, name: str, callbacks: list[Any]) -> TorchTrainer:
    """The trial as a Ray Train job of `resources.workers` processes (gloo on CPU, nccl on GPU).

    Args:
        trial: what to train.
        storage: folder, shared by all nodes, for checkpoints.
        name: of the job; a job of the same name and storage goes on where it was.
        callbacks: of Ray Train.
    """
    resources = trial.resources
    use_gpu = resources.gpus > 0
    worker = {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if use_gpu else {})
    return TorchTrainer(
        _worker,
        train_loop_config={"trial": trial.model_dump_json()},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray_train.ScalingConfig(
            num_workers=resources.workers, use_gpu=use_gpu, resources_per_worker=worker
        ),
        run_config=ray_train.RunConfig(  # type: ignore[call-arg]
            name=name,
            storage_path=str(storage),
            callbacks=callbacks,
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=2),
            failure_config=ray_train.FailureConfig(max_failures=3),
            logging_config=ray_train.LoggingConfig(log_level="WARNING"),
        ),
    )


def _worker(config: dict[str, str]) -> None:
    """What each worker of a Ray Train job runs."""
    context = ray_train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size(), str(get_device()))

    def report(numbers: dict[str, float], folder: Path | None) -> None:
        kept = ray_train.Checkpoint.from_directory(str(folder)) if folder else None
        ray_train.report(numbers, checkpoint=kept)

    trial = Trial.model_validate_json(config["trial"])
    last = ray_train.get_checkpoint()
    with last.as_directory() if last else nullcontext() as folder:
        learn(trial, report, rank=rank, resume=Path(folder) if folder else None)


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
    return f"step {numbers['step']:>6.0f}   loss {numbers['loss']:.4f}   goal {numbers['goal']:.4f}"


def start_ray(cpus: int | None = None, *, dashboard: bool) -> None:
    """Join the cluster of RAY_ADDRESS, or start one here, on loopback and quiet.

    Args:
        cpus: cores of a local one; all by default.
        dashboard: needed wherever Tune stops trials of several workers, for it frees what they
            held; costs about a second.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    where: dict[str, Any] = {"address": "auto"}
    if not os.environ.get("RAY_ADDRESS"):
        where = {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
    ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)


def study_parser(name: str, about: str, example: str) -> Parser:
    """The arguments that choose a study: shared by train and tune."""
    parser = Parser(name, about, example)
    parser.add_argument("study", metavar="NAME", help="search_spaces/NAME.yaml, or a path to one")
    parser.add_argument("--budget", choices=get_args(BudgetName), help="default: gpu or laptop")
    parser.add_argument("--data", help="folder with train, tune, test .h5 files, or one .h5 file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="fix a setting")
    parser.add_argument("--workers", type=int, help="data-parallel workers a trial")
    parser.add_argument("--seed", type=int, help="seed of the search and of every trial")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    parser.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    parser.add_argument("--dry-run", action="store_true", help="check everything, run nothing")
    return parser


def chosen_space(options: argparse.Namespace) -> Space:
    """The space that the arguments choose; says which budget it took where none was named."""
    budget = options.budget
    if budget is None:
        budget = "gpu" if torch.cuda.is_available() else "laptop"
        known = budgets(find_space(options.study))
        budget = budget if budget in known else next(iter(known))
        say(f"budget: {budget} ({known[budget]}); --budget chooses another")
    overrides = dict(parse_setting(text) for text in options.set)
    named = {
        "data.splits.path": options.data and str(Path(options.data).resolve()),
        "resources.workers": options.workers,
        "seed": options.seed,
        "data.seed": options.seed,
    }
    overrides |= {key: value for key, value in named.items() if value is not None}
    return read_space(find_space(options.study), budget, overrides)


def read_splits(trial: Trial) -> None:
    """Open every split and read its first event, before any worker starts.

    Raises:
        ValueError: naming the file, the event and what is wrong.
    """
    for split in get_args(Split):
        trial.task.prepare(trial.data.splits.events(split)[0])


def main(options: argparse.Namespace) -> int:
    space = chosen_space(options)
    trial = space.first_trial()
    read_splits(trial)
    if options.dry_run:
        print(trial.model_dump_json(indent=2))
        return 0
    say(f"training {space.name}: {trial.optimizer.steps} steps, {trial.resources.workers} workers")
    name = f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    progress = options.runs.resolve() / name / "progress.txt"
    start_ray(trial.resources.workers * trial.resources.cpus, dashboard=False)
    try:
        with said(progress):
            result = trainer(trial, options.runs.resolve(), name, [Lines(progress)]).fit()
    finally:
        ray.shutdown()
    if result.checkpoint is None:
        raise RuntimeError(f"{name}: the training ended without a checkpoint")
    with result.checkpoint.as_directory() as folder:
        state = checkpoints.load(Path(folder))
        tracking = Tracking(options.runs, space.name, options.tracking_uri)
        run = tracking.start(name, {"study": name, "trial": "0"})
        tracking.parameters(run, flat(trial))
        for numbers in state.history:
            tracking.numbers(run, numbers, int(numbers["step"]))
        verdict = judge(state)
        keep(tracking, run, state, Path(folder), verdict)
        tracking.end(run)
    print(table(verdict))
    print(where(tracking, options.runs, run))
    return 0


def parser() -> Parser:
    """The arguments of the command."""
    return study_parser("train", "Train one network: trial 0 of a study.", "clustering --workers 2")


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
