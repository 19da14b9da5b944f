"""What distribution costs, and what breaks first: python benchmarks/scaling.py --part PART ...

ddp         events a second of a data-parallel training by 1, 2, ... workers, and their efficiency
overhead    seconds a step: a plain torch loop, this package's loop, Ray Train with one worker
trials      a search of short trials, one after the other: what each takes beside its own work
thresholds  the whole threshold surface by one worker and by two
scheduling  trials without work over fake nodes of many CPUs: trials a second, the driver's time
            and memory
predict     prediction by one worker and by two, the driver's memory, the overhead of one event
validation  the validation of a trial by one process and by two
sums        thresholds of a million events, from recorded surfaces
shards      threshold shards of next to no work, with room for few and for many at a time
plan        100 nodes and a million events, and the study's own training, by formulas, from what was
            measured (`--rate`) and what is assumed (`--price`); the numbers of docs/scaling.md

What is compared runs by turns; medians. The machine's load is printed first: above the number of
its cores the times mean little.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # fake nodes on loopback, whatever is joined

import many_events
import numpy as np
import prediction
import torch
from ray import tune
from ray.cluster_utils import Cluster
from thresholds import events as threshold_events
from thresholds import outputs

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.loader import batches
from lartpc_ray.data.splits import Split, sample
from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.scan import SHARD_VOXELS, run_shards, score_shard
from lartpc_ray.thresholds.source import ClassVoxels
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.loop import train
from lartpc_ray.train.workers import trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune import study
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import History, Measurement
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.ray_search import AFTER, WorkQueue
from lartpc_ray.tune.schedulers.halving import SuccessiveHalving
from lartpc_ray.tune.schedulers.scheduler import rungs

PARTS = (
    "ddp", "overhead", "trials", "thresholds", "predict", "validation", "sums", "scheduling",
    "shards", "plan",
)  # fmt: skip
ROOT = Path(__file__).parents[1]
MIB = 2**20


def few(folder: Path) -> Path:
    """Write the sample's training events, and one event for each other split."""
    counts: dict[Split, range | None] = {"train": None, "tune": range(1), "test": range(1)}
    for split, indices in counts.items():
        write_events(folder / f"{split}.h5", read_events(sample(split), indices=indices))
    return folder


def training(
    data: Path, options: argparse.Namespace, workers: int = 1, events: int | None = None
) -> Trial:
    """Trial 0 of a budget on cores, validated four times."""
    settings = {
        "data.splits.path": str(data),
        "data.batch_events": events or options.batch,
        "optimizer.steps": options.steps,
        "optimizer.evaluate_every": max(1, options.steps // 4),
        "optimizer.batchnorm_batches": 0,
        "resources.workers": workers,
        "resources.gpus": 0.0,
    }
    return read_space(find_space("clustering"), options.budget, settings).first_trial()


def of_checkpoint(folder: Path, trial: Trial) -> list[float]:
    """Seconds a step between validations; the first, in which all is warmed up, left out."""
    state = checkpoints.newest(folder, trial)
    assert state is not None
    return [numbers["seconds_a_step"] for numbers in state.history[1:]]


def by_loop(trial: Trial, folder: Path) -> list[float]:
    train(trial, folder, lambda _: None)
    return of_checkpoint(folder, trial)


def by_ray_train(trial: Trial, folder: Path) -> list[float]:
    with ray_session(trial.resources.workers, dashboard=False):
        labels = {"study": "scaling", "trial": "0"}
        trainer(trial, folder, folder / "ray", folder / "notes.txt", [], labels).fit()
    return of_checkpoint(folder, trial)


def by_torch(trial: Trial, folder: Path) -> list[float]:
    """Train the same network on the same events in a plain torch loop."""
    torch.set_num_threads(trial.resources.cpus)
    network = trial.make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=trial.optimizer.learning_rate)
    source = batches(trial.data.splits.events("train"), trial.data, trial.task.prepare)
    found = []
    for first in range(0, trial.optimizer.steps, trial.optimizer.evaluate_every):
        began = time.perf_counter()
        for step in range(first, first + trial.optimizer.evaluate_every):
            batch = next(source)
            features, frozen = trial.task.features(batch), trial.task.frozen(step)
            predicted = network(batch.coords, features, batch.shape, batch.event, frozen)
            loss = trial.task.criterion(predicted, batch, step)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            optimizer.step()
        found.append((time.perf_counter() - began) / trial.optimizer.evaluate_every)
    return found[1:]


def overhead(options: argparse.Namespace) -> None:
    ways = {"plain torch loop": by_torch, "this loop": by_loop, "Ray Train": by_ray_train}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        trial = training(few(Path(scratch)), options)
        for repeat in range(options.repeats):
            for name, way in ways.items():
                found[name] += way(trial, Path(scratch) / f"{name} {repeat}")
    plain = statistics.median(found["plain torch loop"])
    for name, times in found.items():
        median = statistics.median(times)
        print(f"  {name:<20}{1000 * median:>8.1f} ms a step{100 * (median / plain - 1):>+8.1f} %")


def ddp(options: argparse.Namespace) -> None:
    """Time steps of a fixed number of events, and steps that grow with the workers."""
    sizes = [(count, options.batch * more) for count in options.workers for more in {1, count}]
    found: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as scratch:
        data = few(Path(scratch))
        for repeat in range(options.repeats):
            for (count, events), times in found.items():
                trial = training(data, options, count, events)
                times += by_ray_train(trial, Path(scratch) / f"{count} {events} {repeat}")
    rates = {size: size[1] / statistics.median(times) for size, times in found.items()}
    one = rates[sizes[0]] / sizes[0][0]
    for (count, events), rate in rates.items():
        share = f"efficiency {100 * rate / one / count:.0f} %"
        print(
            f"  {count:>3} workers, {events:>3} events a step{rate:>8.1f} events a second, {share}"
        )


def trials(options: argparse.Namespace) -> None:
    """Compare the times of a search's lines with the work in its checkpoints."""
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        space = short(runs, f"trials: {options.short}, steps: 2, min_steps: 2")
        settings = ("optimizer.evaluate_every=2", "optimizer.batchnorm_batches=0")
        more = [text for one in settings for text in ("--set", one)]
        command = [sys.executable, "-u", "-m", "lartpc_ray.tune", str(space), "--budget", "smoke"]
        command += ["--data", str(few(runs)), "--runs", scratch, *more]
        search = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        times: dict[str, dict[int, float]] = defaultdict(dict)
        began = time.perf_counter()
        for line in search.stderr or ():
            if told := re.match(r"trial (\d+)  (\S+) steps .* (running|done)\b", line):
                name = {"-": "start"}.get(told[2], "report" if told[3] == "running" else "end")
                times[name].setdefault(int(told[1]), time.perf_counter())
        if search.wait():
            raise RuntimeError("the search failed; run it by hand")
        (folder,) = runs.glob("*/trials")
        work = [_work(folder / str(number)) for number in range(options.short)]
    later = range(1, options.short)
    between = [times["start"][one] - times["end"][one - 1] for one in later]
    starting = [times["report"][one] - times["start"][one] - work[one] for one in later]
    whole = times["end"][later[-1]] - times["end"][0]
    first = times["report"][0] - began - work[0]
    print(f"  the first trial, from the command to its first number: {first:.1f} s")
    print(f"  one ends, the next starts (sampler, scheduler, MLflow): {_middle(between)}")
    print(f"  start-up of a trial after the first: {_middle(starting)}")
    print(f"  overhead a trial, all told: {(whole - sum(work[1:])) / len(later):.2f} s")


def short(folder: Path, budget: str) -> Path:
    """Write the smoke study with another budget of that name."""
    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    path = folder / "short.yaml"
    path.write_text(re.sub(r"smoke: \{.*\}", f"smoke: {{{budget}}}", text))
    return path


def _work(folder: Path) -> float:
    """Seconds that a trial trained and validated on one event."""
    (file,) = folder.glob("step-*.pt")
    (numbers,) = checkpoints.load(file).history
    return numbers["seconds_a_step"] * numbers["step"] + numbers["seconds_an_event"]


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s (at most {max(values):.2f})"


def thresholds(options: argparse.Namespace) -> None:
    threshold_events(options.events, options.repeats)


def predict(options: argparse.Namespace) -> None:
    prediction.measure_prediction(options.predicted, options.sizes, options.repeats)


def validation(options: argparse.Namespace) -> None:
    many_events.measure_validation(options.validated, options.repeats)


def sums(options: argparse.Namespace) -> None:
    many_events.measure_sums(options.million, options.real_cpus)


def nothing(config: dict[str, Any], context: str) -> None:
    """Report at once as many numbers as a real trial."""
    for step in (step for step in (5, 10) if step > config[AFTER]):
        numbers = {f"number {place}": float(step + place) for place in range(20)}
        objective = float(config["optimizer.learning_rate"]) * step
        tune.report({"step": step, "objective": objective, "loss": 1.0, **numbers})


@contextmanager
def fake_nodes(count: int, cpus: int) -> Iterator[None]:
    """Start a Ray cluster of `count` nodes on this machine, each with `cpus` pretended CPUs."""
    node: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": 100 * MIB}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        there = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
        with patch.dict(os.environ, there), ray_session(dashboard=False):
            yield
    finally:
        cluster.shutdown()


@contextmanager
def watched(owner: type, name: str, spent: dict[str, list[float]]) -> Iterator[None]:
    """Record the seconds of each call of a method."""
    original: Callable[..., object] = getattr(owner, name)

    def timed(*arguments: object, **named: object) -> object:
        began = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            spent[f"{owner.__name__}.{name}"].append(time.perf_counter() - began)

    with patch.object(owner, name, timed):
        yield


def scheduling(options: argparse.Namespace) -> None:
    """Time the real sampler, scheduler and MLflow with trials that do nothing."""
    spent: dict[str, list[float]] = defaultdict(list)
    ended: list[float] = []

    def complete(self: Progress, *arguments: Any, **named: Any) -> None:
        on_trial_complete(self, *arguments, **named)
        ended.append(time.perf_counter())

    on_trial_complete = Progress.on_trial_complete
    concurrent = options.nodes * options.cpus // options.trial_cpus
    budget = f"trials: {options.trials}, steps: 10, min_steps: 5, deterministic: false"
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        space = read_space(
            short(runs, f"{budget}, concurrent: {concurrent}"),
            "smoke",
            {"resources.cpus": options.trial_cpus},
        )
        search = study.Study.create(runs, space, None)
        with (
            fake_nodes(options.nodes, options.cpus),
            patch.object(study, "run_trial", nothing),
            patch.object(Progress, "on_trial_complete", complete),
            (runs / "lines").open("w") as lines,
            redirect_stderr(lines),
            watched(Decisions, "next", spent),
            watched(WorkQueue, "report", spent),
            watched(Progress, "on_trial_start", spent),
            watched(Progress, "on_trial_result", spent),
            watched(Tracking, "finish", spent),
        ):
            began = time.perf_counter()
            with Meter("cpu") as meter:
                results, _ = search.search()
    print(
        f"  {len(results)} trials, {options.nodes} nodes of {options.cpus} CPUs, {concurrent} at "
        f"a time: {len(ended) / (ended[-1] - ended[0]):.2f} trials a second after the first, "
        f"which took {ended[0] - began:.0f} s; {len(results) - len(ended)} did not end"
    )
    third = len(ended) // 3
    for name, part in (("first", ended[: third + 1]), ("last", ended[-third - 1 :])):
        print(f"  the {name} third: {third / (part[-1] - part[0]):.2f} trials a second")
    for name, times in sorted(spent.items(), key=lambda item: -sum(item[1])):
        last = 1000 * statistics.mean(times[-max(1, len(times) // 10) :])
        mean = 1000 * sum(times) / len(results)
        print(f"  {name:<28}{mean:>8.1f} ms a trial, a call of the last tenth {last:.1f} ms")
    print(f"  {1024 * meter.peak_gib:.0f} MiB more in the driver")


def shards(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    tiny = [ClassVoxels(0, "MIP", outputs(20, 2, rng))]
    task = ClusteringTask(seeds=SeedClustering(grid_points=3))
    with ray_session(options.real_cpus, dashboard=False):
        score: Callable[..., Any] = partial(deque, maxlen=0)
        start = [tiny] * 4 * options.real_cpus  # the workers start
        score(run_shards(iter(start), task, 1, score_shard, ["ari"]))
        for declared in (options.real_cpus, options.nodes * options.cpus):
            here = patch("ray.cluster_resources", return_value={"CPU": declared})
            with here, Meter("cpu") as meter:
                many = [tiny] * options.shards
                score(run_shards(iter(many), task, 1, score_shard, ["ari"]))
            print(
                f"  {options.shards} shards, {2 * declared} on their way at a time, "
                f"{options.real_cpus} workers: {options.shards / meter.seconds:.0f} a second, "
                f"{1024 * meter.peak_gib:.0f} MiB more in the driver"
            )
    scores = sum(
        8 * len(SeedClustering().axes()["s0"]) * len(SeedClustering().axes()["p0"]) for _ in SCORES
    )
    print(f"  scores that the driver keeps: {scores / 1000:.0f} kB for a class of an event")


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80, help="ddp, overhead: steps a training")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="ddp")
    parser.add_argument(
        "--budget", default="laptop", help="ddp, overhead: whose trial 0 is trained"
    )
    parser.add_argument("--batch", type=int, default=8, help="ddp, overhead: events a step")
    parser.add_argument("--short", type=int, default=8, help="trials: how many")
    parser.add_argument("--events", type=int, default=100, help="thresholds")
    parser.add_argument("--trials", type=int, default=1000, help="scheduling")
    parser.add_argument("--nodes", type=int, default=8, help="scheduling, shards: fake nodes")
    parser.add_argument("--cpus", type=int, default=64, help="scheduling, shards: CPUs of each")
    parser.add_argument("--trial-cpus", type=int, default=32, help="scheduling: CPUs of a trial")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--real-cpus", type=int, default=2, help="shards: workers that do the work")
    parser.add_argument("--rate", type=float, default=12.8, help="plan: events a second, a worker")
    parser.add_argument("--price", type=float, default=0.05, help="plan: of a node hour, assumed")
    parser.add_argument("--whole-passes", type=int, default=1, help="plan: over all events")
    prediction.add_arguments(parser)
    many_events.add_arguments(parser)
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: slower beside other work
    for part in options.part or PARTS:
        load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        print(f"{part} ({load})", flush=True)
        globals()[part](options)


if __name__ == "__main__":
    main()
