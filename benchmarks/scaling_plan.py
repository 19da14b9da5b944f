"""A plan for 100 nodes and a million events: the numbers of docs/scaling.md, by formulas.

`python benchmarks/scaling.py --part plan` prints it.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from scaling_training import few

from lartpc_ray.data.files import read_events
from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.thresholds.scan import SHARD_VOXELS
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.history import History, Measurement
from lartpc_ray.tune.schedulers.halving import SuccessiveHalving
from lartpc_ray.tune.schedulers.scheduler import rungs


def plan(options: argparse.Namespace) -> None:
    """Formulas in the order of docs/scaling.md."""
    space = read_space(find_space("clustering"), "cluster")
    trial = space.first_trial()
    with tempfile.TemporaryDirectory() as scratch:
        few(Path(scratch))
        bytes_an_event = (Path(scratch) / "train.h5").stat().st_size / 150
        voxels = statistics.mean(len(one) for one in read_events(Path(scratch) / "train.h5"))
        network = trial.make_network()
        optimizer = torch.optim.Adam(network.parameters())
        torch.stack([weight.sum() for weight in network.parameters()]).sum().backward()
        optimizer.step()
        state = Checkpoint(trial, 0, network.state_dict(), optimizer.state_dict(), [])
        checkpoint = checkpoints.save(Path(scratch), state).stat().st_size
    weights = sum(weight.numel() for weight in network.parameters())
    every, nodes, events = trial.optimizer.evaluate_every, 100, 10**6
    epochs = trial.optimizer.steps * trial.data.batch_events / events
    saved = trial.optimizer.steps // every
    classes, scores = 5, len(SCORES) * 21 * 25 * 8
    print(f"  an event: {voxels:.0f} voxels, {bytes_an_event / 1e3:.0f} kB on disk")
    print(
        f"  {events:,} events: {events * bytes_an_event / 1e9:.0f} GB; a trial of the cluster "
        f"budget sees {epochs:.2f} of them"
    )
    for workers in (2, 8):
        share = 2 * (workers - 1) / workers * 4 * weights
        print(f"  gradients, {weights:,} weights, {workers} workers: {share / 1e6:.1f} MB a step")
    print(
        f"  a checkpoint: {checkpoint / 1e6:.1f} MB, {saved} a trial; {space.trials} trials write "
        f"{space.trials * saved * checkpoint / 1e9:.1f} GB, keep "
        f"{space.trials * checkpoints.KEPT * checkpoint / 1e9:.1f} GB; {nodes} nodes at once "
        f"{nodes * checkpoint / 1e6:.0f} MB"
    )
    print(
        f"  thresholds: {voxels * (3 + 1 + 1 + 1) * 8 / 1e3:.0f} kB an event to the workers, "
        f"{classes * scores / 1e3:.0f} kB back: {events * classes * scores / 1e9:.0f} GB in the "
        f"driver for all events, {10_000 * SHARD_VOXELS / voxels * classes * scores / 1e9:.0f} GB "
        f"for 10,000 shards"
    )
    hours = options.whole_passes * events / (3600 * options.rate)
    print(
        f"  {options.whole_passes} passes over all events at {options.rate:g} events a second and "
        f"worker: {hours:.0f} worker hours, {60 * hours / nodes:.0f} minutes of {nodes} nodes"
    )
    cost_of_training(space, options, nodes)


def cost_of_training(space: Space, options: argparse.Namespace, nodes: int) -> None:
    """All trials of a study, and what the scheduler leaves of them; a node has one worker."""
    trial = space.first_trial()
    steps, batch = trial.optimizer.steps, trial.data.batch_events
    passes = space.trials * steps * batch
    print(f"  passes = trials * steps * batch = {space.trials} * {steps} * {batch} = {passes:,}")
    print(f"  node hours = passes * share / (3600 * rate), rate {options.rate:g} a second")
    left = statistics.mean(halved(space, seed) for seed in range(40))
    for name, share in (("none is stopped", 1.0), ("the scheduler stops", left)):
        hours = passes * share / (3600 * options.rate)
        print(
            f"    {name}: share {share:.2f}, {hours:,.0f} node hours, {hours / nodes:.0f} hours of "
            f"{nodes} nodes; at {options.price:g} a node hour (assumed) {hours * options.price:.0f}"
        )


def halved(space: Space, seed: int) -> float:
    """Return the share of a study's steps that its scheduler lets run.

    Its own decisions on trials that are all as fast, and whose order is the same at every rung.
    """
    trial, budget = space.first_trial(), space.budget
    steps, every = trial.optimizer.steps, trial.optimizer.evaluate_every
    objectives = np.random.default_rng(seed).random(space.trials).tolist()
    levels = rungs(budget.min_steps, steps, budget.reduction, every)
    halving, history = SuccessiveHalving(levels, budget.reduction, space.trials), History()
    training: list[tuple[int, int]] = []  # end, trial
    now = run = 0
    while True:
        while (free := budget.concurrent - len(training)) > 0:
            work = halving.next(history, free)
            for number, until in work.continued.items():
                history.trials[number].until = until
            begun = [*work.continued, *([history.start({}, levels[0])] if work.starts else [])]
            for number in begun:
                length = history.trials[number].until - history.trials[number].step
                training.append((now + length, number))
                run += length
            if not begun:
                break
        if not training:
            return run / (space.trials * steps)
        now, number = min(training)
        training.remove((now, number))
        history.record(number, history.trials[number].until, Measurement(objectives[number]))
