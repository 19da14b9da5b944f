"""Many events: python benchmarks/scaling.py --part sums --part validation (or this file, alone).

sums        thresholds of a million events: the surfaces of 100 events are recorded and read again
            and again, by Ray tasks that sum them as after a scan; time, and memory of the driver
validation  the validation of a trial by one process and by two, by turns: the median ratio
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from prediction import many
from torch import distributed

from lartpc_ray.data.event import Event, Events
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.grid import ThresholdGrid, choose
from lartpc_ray.reconstruct.resampling import ChoiceSettings, ScoreSums
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.scan import Key, run_shards, score_grid, sum_scores
from lartpc_ray.thresholds.source import ClassVoxels
from lartpc_ray.train.shared_validation import share
from lartpc_ray.train.validation import validated
from lartpc_ray.trials import checkpoint as checkpoints

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "clustering"
RECORDED = 100
SHARD_EVENTS = 165
"""Events of `SUM_VOXELS`: the sample has 2,427 voxels per event."""
NOTHING = {"truth": np.zeros(1, int)}


def measure_sums(events: int, cpus: int) -> None:
    """Print time and memory of the sums and choices of many events, from recorded surfaces."""
    state = checkpoints.load(MODEL)
    task = state.trial.task
    assert isinstance(task, ClusteringTask)
    metrics = [name for name in task.active_method.metrics if name != "ami"]
    choice = ChoiceSettings()
    known = list(many(RECORDED))
    with ray_session(cpus, dashboard=False):
        parts = [
            ClassVoxels(number, name, voxels)
            for number, prediction in enumerate(predict(state.restored(), task, known))
            for name, voxels in task.class_voxels(*prediction).items()
        ]
        names = [[part.name for part in parts if part.event == at] for at in range(RECORDED)]
        surfaces = ray.put(_by_key(parts, score_grid(parts, task, metrics, events=RECORDED)))

        def summed(shard: list[Any], keys: list[Key], settings: str, *rest: Any) -> Any:
            """Sum the recorded scores of a shard."""
            recorded = ray.get(surfaces)
            scored = [recorded[event % RECORDED, name] for event, name in keys]
            return sum_scores(scored, keys, dict.fromkeys(task.scored_classes, metrics[0]), *rest)

        before = _memory()
        began = time.perf_counter()
        sums: dict[str, ScoreSums] = {}
        shards = _shards(names, events)
        for _, shard in run_shards(shards, task, events, summed, choice.model_dump_json()):
            for name, (of_class, _) in shard.items():
                sums[name] = sums[name] + of_class if name in sums else of_class
        grid = ThresholdGrid(task.active_method.axes(), {}, sums)
        chosen = {name: choose(grid, name, choice) for name in grid.names}
        seconds = time.perf_counter() - began
    print(
        f"  {events} events, {cpus} workers: {seconds:.0f} s, {events / seconds:.0f} events a "
        f"second; the driver grew by {_memory() - before:.0f} MiB"
    )
    for name, of_class in chosen.items():
        print(f"  {name}: {of_class.score:.4f} ± {of_class.error:.4f}")


def _by_key(
    parts: list[ClassVoxels], scores: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[Key, dict[str, np.ndarray]]:
    """Return the scores of each event and class."""
    rows = {name: iter(range(len(parts))) for name in scores}
    return {
        (part.event, part.name): {
            metric: values[row] for metric, values in scores[part.name].items()
        }
        for part in parts
        for row in [next(rows[part.name])]
    }


def _shards(names: list[list[str]], events: int) -> Iterator[list[ClassVoxels]]:
    """Yield the classes of the events, without their voxels."""
    for start in range(0, events, SHARD_EVENTS):
        yield [
            ClassVoxels(event, name, NOTHING)
            for event in range(start, min(start + SHARD_EVENTS, events))
            for name in names[event % RECORDED]
        ]


def _memory() -> float:
    """Return the highest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_validation(events: int, repeats: int) -> None:
    """Print the times of a validation by one process and by two, by turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for workers, of_workers in times.items():
            of_workers.append(_validation(workers, events))
    one, two = (statistics.median(values) for values in times.values())
    print(f"  {events} events: {one:.1f} s by one process, {two:.1f} s by two: {two / one:.2f}")


def _validation(workers: int, events: int) -> float:
    """Return the seconds of the slowest of some processes that share a validation."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        seconds = [pool.submit(_validate, rank, workers, events) for rank in range(workers)]
        return max(one.result() for one in seconds)


class Kept(Events):
    """Events in memory."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        return self._events[index]


def _validate(rank: int, workers: int, events: int) -> float:
    """Validate the kept network as one of some workers; return the median seconds of three."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    distributed.init_process_group("gloo", rank=rank, world_size=workers)
    state = checkpoints.load(MODEL)
    network = state.restored()
    known = Kept(list(many(events)))
    times = []
    for _ in range(4):
        distributed.barrier()
        began = time.perf_counter()
        own = share(known, rank, workers, "cpu")
        validated(network, state.trial, known, "cpu", (rank, workers), own)
        times.append(time.perf_counter() - began)
    distributed.destroy_process_group()
    return statistics.median(times[1:])  # the first one compiles the kernels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of the measurements."""
    parser.add_argument("--million", type=int, default=1_000_000, help="sums: events")
    parser.add_argument("--validated", type=int, default=200, help="validation: events")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measure_validation(options.validated, options.repeats)
    measure_sums(options.million, 2)


if __name__ == "__main__":
    main()
