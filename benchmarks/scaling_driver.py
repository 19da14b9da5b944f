"""What the driver of a search and of a scan takes: trials and shards without work.

`python benchmarks/scaling.py --part scheduling --part shards` prints it.
"""

import argparse
import os
import statistics
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

import numpy as np
from ray import tune
from ray.cluster_utils import Cluster
from scaling_training import short
from thresholds import outputs

from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.scan import run_shards, score_shard
from lartpc_ray.thresholds.source import ClassVoxels
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune import study
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.ray_search import AFTER, WorkQueue

MIB = 2**20


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
