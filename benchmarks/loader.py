"""Measure whether reading keeps ahead of training.

python benchmarks/loader.py [--data FILE.h5] [--events N]

1. Events per second that one process and two processes read, augment and put into batches.
2. Imbalance of the ranks: the largest number of voxels of 8 ranks over their mean, minus 1; with
   balanced shares, and with every eighth event.
3. Memory while `--events` events are read (100,000 take some minutes).
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from lartpc_ray.data.event import Event, Events
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.loader import DataSettings, batches
from lartpc_ray.data.splits import sample

RANKS = 8
SETTINGS = DataSettings(batch_events=32, batch_voxels=10**7)


def same(event: Event, rng: np.random.Generator) -> Event:
    return event


def rate(path: Path, events: int) -> float:
    """Return the events per second of one process."""
    with EventFile(path) as file:
        source = batches(file, SETTINGS, same)
        next(source)
        began, seen = time.perf_counter(), 0
        while seen < events:
            seen += next(source).events
        return seen / (time.perf_counter() - began)


def imbalance(events: Events, steps: int) -> dict[str, float]:
    """Return the mean over steps of (largest rank / mean rank - 1) in voxels."""
    found: dict[str, list[float]] = {"balanced": [], "every eighth": []}
    streams = [batches(events, SETTINGS, same, rank=rank, ranks=RANKS) for rank in range(RANKS)]
    whole = batches(events, SETTINGS.model_copy(update={"augment": False}), same)
    for _ in range(steps):
        shares = np.array([len(next(stream).energy) for stream in streams])
        found["balanced"].append(shares.max() / shares.mean() - 1)
        sizes = np.bincount(next(whole).event.numpy())
        plain = np.array([sizes[rank::RANKS].sum() for rank in range(RANKS)])
        found["every eighth"].append(plain.max() / plain.mean() - 1)
    return {name: statistics.mean(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a .h5 file; the sample's training events")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.data or Path(folder) / "events.h5"
        if options.data is None:
            write_events(path, read_events(sample("train")))
        with EventFile(path) as file:
            sizes = [file.voxels(index) for index in range(len(file))]
        print(f"{len(sizes)} events, {statistics.mean(sizes):.0f} voxels on average")
        alone = [rate(path, 500) for _ in range(options.repeats)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pairs = [sum(pool.starmap(rate, [(path, 500)] * 2)) for _ in range(options.repeats)]
        print(f"one process  {statistics.median(alone):>8.0f} events per second")
        print(f"two          {statistics.median(pairs):>8.0f}")
        with EventFile(path) as file:
            for name, value in imbalance(file, 40).items():
                print(f"largest of {RANKS} ranks, {name:<14}{100 * value:>6.1f} % above the mean")
        tenth = options.events // 10
        rate(path, tenth)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rate(path, options.events - tenth)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for events, peak in ((tenth, before), (options.events, after)):
            print(f"peak memory after {events:>7} events {peak / 1024:>6.0f} MiB")


if __name__ == "__main__":
    main()
