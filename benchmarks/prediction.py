"""Time prediction: python benchmarks/scaling.py --part predict (or this file, alone).

1. `predict` of `--predicted` events into a file by one worker and by two, in a new process each,
   by turns: the median ratio of their times, with Ray's start and end, and with workers that have
   loaded their networks, to the last byte of the output.
2. The memory of the driver for `--sizes` events, which are the same few again and again, by a small
   new network: the driver has the same voxels and clusters to write (`--part memory` alone).
3. The time of one event in this process above that of its network and of its reconstruction.

`--part ray-data`: the same predictions by two workers of the service and by two actors of Ray Data,
by turns in one Ray.
"""

import argparse
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from lartpc_ray.data.event import Event
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import sample
from lartpc_ray.predict.inference import CHUNK_EVENTS, predict
from lartpc_ray.predict.job import Job, Networks, Weights, Work, cut, keep_prediction
from lartpc_ray.predict.placement import Placement
from lartpc_ray.predict.service import InferenceService
from lartpc_ray.predict.sources import FileEvents
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks.task import Prediction
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "clustering"
MIB = 2**20
DRIVER = """
import resource, sys, time
from dataclasses import replace

from lartpc_ray.predict import __main__ as command
from lartpc_ray.predict import service
from lartpc_ray.terminal.command import run

began = []
inner = service.InferenceService.run
def timed(self, work, events, **more):
    count = self.placement.resolve().workers or 1
    with service.SharedWorkers() as workers:
        shared = replace(self, workers=workers)
        while not began or (count > 1 and len(workers.pool("cpu")._loads) < count):
            list(inner(shared, work, [events[0][:32]], title=None))
            began.append(0)
        began[:] = [time.time()]
        yield from inner(shared, work, events, **more)
service.InferenceService.run = timed
status = run(command.parser(), command.main, sys.argv[1:])
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(status, began[0], peak)
"""
"""Predict as the command does, once all workers have predicted some events; print status, when it
began, and peak memory."""


def many(count: int) -> Iterator[Event]:
    """Return the events of the sample again and again."""
    events = list(read_events(sample("train"), indices=range(min(count, 100))))
    return islice(cycle(events), count)


def run_driver(events: Path, output: Path, *more: str, model: Path = MODEL) -> tuple[float, float]:
    """Predict in a new process; return seconds with workers ready, and its peak memory in MiB.

    Workers are ready once they have predicted some events, which are not counted. The seconds end
    with the last byte of the output, so before Ray ends.
    """
    status, began, memory = _predict(["-c", DRIVER], events, output, *more, model=model).split()
    if status != "0":
        raise SystemExit(f"predict ended with {status}")
    return output.stat().st_mtime - float(began), float(memory) / MIB


def run_command(events: Path, output: Path, *more: str) -> float:
    """Predict with the command; return its seconds, with Ray's start and end."""
    began = time.perf_counter()
    _predict(["-m", "lartpc_ray.predict"], events, output, *more)
    return time.perf_counter() - began


def _predict(
    program: list[str], events: Path, output: Path, *more: str, model: Path = MODEL
) -> str:
    arguments = [str(events), "-o", str(output), "--run", str(model), "--device", "cpu", "--force"]
    command = [sys.executable, *program, *arguments, "--runs", str(output.parent), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def by_halves(events: Path, scratch: Path, count: int) -> float:
    """Return the time, once they are ready, of two processes that predict a half each.

    They share nothing but the machine, so no division of the work can be faster.
    """
    ranges = [f"0:{count // 2}", f"{count // 2}:{count}"]
    with ThreadPoolExecutor(2) as threads:
        halves = [
            threads.submit(
                run_driver, events, scratch / f"half-{number}.h5", "--workers", "1", "--events", one
            )
            for number, one in enumerate(ranges)
        ]
        return max(half.result()[0] for half in halves)


def ratio_of_workers(events: Path, scratch: Path, repeats: int, count: int) -> None:
    """Print the times of one and of two workers, by turns, and the ratios of their medians."""
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    outputs, limits = {}, []
    for _ in range(repeats):
        limits.append(by_halves(events, scratch, count))
        for workers, of_workers in times.items():
            outputs[workers] = scratch / f"by-{workers}.h5"
            more = ("--workers", str(workers))
            ready, _ = run_driver(events, outputs[workers], *more)
            of_workers.append((run_command(events, outputs[workers], *more), ready))
    same = outputs[1].read_bytes() == outputs[2].read_bytes()
    for place, name in enumerate(("in all", "with workers ready")):
        one, two = (statistics.median(row[place] for row in times[workers]) for workers in (1, 2))
        print(f"  {name}: {one:.1f} s by one worker, {two:.1f} s by two: {two / one:.2f}")
    alone = statistics.median(ready for _, ready in times[1])
    limit = statistics.median(limits)
    print(f"  two processes of half the events each: {limit:.1f} s: {limit / alone:.2f}")
    print(f"  the same bytes: {same}")


def driver_memory(scratch: Path, sizes: list[int], repeats: int) -> None:
    """Print the memory of the driver for two numbers of events, by two workers."""
    found, model = [], small_network(scratch / "small")
    events, output = scratch / "many.h5", scratch / "found.h5"
    for size in sizes:
        write_events(events, many(size))
        runs = [run_driver(events, output, "--workers", "2", model=model) for _ in range(repeats)]
        found.append(statistics.median(memory for _, memory in runs))
        print(f"  {size} events: {found[-1]:.0f} MiB")
    print(f"  growth: {found[-1] - found[0]:.0f} MiB")


def small_network(folder: Path) -> Path:
    """Write a new network of two levels with the thresholds of the kept one; return its folder."""
    small = {"depth": 2, "filters": 4, "blocks": 1}
    trial = checkpoints.load(MODEL).trial
    trial = trial.model_copy(update={"network": trial.network.model_copy(update=small)})
    state = Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    checkpoints.save(folder, state.without_fit())
    for file in MODEL.glob("thresholds*.yaml"):
        shutil.copy(file, folder)
    return folder


def overhead_of_one(events: Path, repeats: int) -> None:
    """Print the time of one event by the service above that of the network alone."""
    torch.set_num_threads(1)
    state = checkpoints.load(MODEL)
    layout = state.trial.data.splits.layout
    source = FileEvents(files=(events,), layout=layout)
    service = InferenceService([state], source, Placement(device="cpu"))
    event = next(iter(read_events(events, indices=range(1))))
    network, task = state.restored(), state.trial.task
    whole, alone = [], []
    for number in range(repeats + 1):
        began = time.perf_counter()
        list(service.run(Work(keep_prediction), [range(1)], title=None))
        middle = time.perf_counter()
        list(predict(network, task, [event]))
        if number:
            whole.append(middle - began)
            alone.append(time.perf_counter() - middle)
    one, other = statistics.median(whole), statistics.median(alone)
    print(
        f"  one event: {1000 * one:.0f} ms by the service, {1000 * other:.0f} ms by its network: "
        f"{1000 * (one - other):+.0f} ms"
    )


class RayDataNetworks:
    """An actor of Ray Data: the networks of a job, applied to chunks of events."""

    def __init__(self, job: str, weights: list[Weights]) -> None:
        torch.set_num_threads(1)
        self.networks = Networks(Job.model_validate_json(job), weights)

    def __call__(self, row: dict[str, int]) -> dict[str, bytes]:
        chunk = range(row["start"], row["stop"])
        pairs = self.networks.predictions(self.networks.read(chunk), chunk)
        return {"predictions": pickle.dumps(list(pairs))}


def by_ray_data(service: InferenceService, events: range) -> Iterator[Prediction]:
    """Yield what the service yields, in its order, by two actors of Ray Data."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    rows = [{"start": one[0], "stop": one[-1] + 1} for one in cut(events, CHUNK_EVENTS["cpu"])]
    arguments = (service.job().model_dump_json(), [one.network for one in service.states])
    actor: Any = RayDataNetworks
    chunks = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        actor,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    for row in chunks.iter_rows():
        yield from pickle.loads(row["predictions"])


def measure_ray_data(events: int, repeats: int) -> None:
    """Print the times of the service and of Ray Data, and the ratios of their medians."""
    with tempfile.TemporaryDirectory() as folder, ray_session(2, dashboard=False):
        file = Path(folder) / "events.h5"
        write_events(file, many(events))
        state = checkpoints.load(MODEL)
        source = FileEvents(files=(file,), layout=state.trial.data.splits.layout)
        service = InferenceService([state], source, Placement(device="cpu", workers=2))
        ways: dict[str, Callable[[], Iterator[Prediction]]] = {
            "the service": lambda: service.run(Work(keep_prediction), [range(events)], title=None),
            "Ray Data": lambda: by_ray_data(service, range(events)),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        sums = {}
        for _ in range(repeats):
            for name, way in ways.items():
                began, first, total = time.perf_counter(), 0.0, 0.0
                for number, (_, outputs) in enumerate(way()):
                    first = first or time.perf_counter()
                    total += (number + 1) * float(outputs["seediness"].sum())
                ended = time.perf_counter()
                times[name].append((ended - began, ended - first))
                sums[name] = total
    for place, what in enumerate(("in all", "from the first event")):
        one, other = (statistics.median(row[place] for row in times[name]) for name in ways)
        print(f"  {what}: {one:.1f} s by the service, {other:.1f} s by Ray Data: {other / one:.2f}")
    print(f"  the same predictions: {len(set(sums.values())) == 1}")


def measure_memory(sizes: list[int]) -> None:
    """Print the memory of the driver alone."""
    with tempfile.TemporaryDirectory() as folder:
        driver_memory(Path(folder), sizes, 1)


def measure_prediction(events: int, sizes: list[int], repeats: int) -> None:
    """Print all three."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_events(scratch / "events.h5", many(events))
        overhead_of_one(scratch / "events.h5", max(repeats, 5))
        ratio_of_workers(scratch / "events.h5", scratch, repeats, events)
        driver_memory(scratch, sizes, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measure_prediction(options.predicted, options.sizes, options.repeats)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of the measurement."""
    parser.add_argument("--predicted", type=int, default=400, help="predict: events, by turns")
    parser.add_argument(
        "--sizes", type=int, nargs=2, default=[2000, 20_000], help="predict: events of the memory"
    )


if __name__ == "__main__":
    main()
