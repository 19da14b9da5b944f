"""Compare the clustering of one event with plain ways: python benchmarks/clusters.py.

1. One point (s0, p0) of `cluster` against the same rule as a loop over seeds in numpy.
2. The default scores of `sweep` against all of them, AMI included, on a 21 × 21 grid.
3. DBSCAN with min_points 1 against scikit-learn's, over the classes of events of the sample.
4. With --run FOLDER: the CPU time of an event by each reconstruction of a network.

Each ratio is the median over interleaved runs; the labels must agree.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import DBSCAN

from lartpc_ray.data.files import read_events
from lartpc_ray.data.splits import sample
from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.predict.inference import reconstruct_events
from lartpc_ray.predict.thresholds_file import read_thresholds
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.sweep import sweep
from lartpc_ray.trials.checkpoint import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reconstruct"))
sys.path.insert(0, str(Path(__file__).parent))
from reference import numpy_cluster
from thresholds import GRID, outputs

S0, P0 = 0.5, 0.3
CLASSES = ((300, 5), (2_000, 8), (8_000, 15), (20_000, 20))
"""Voxels and clusters of a class."""


def compare(
    ours: Callable[[], Any], plain: Callable[[], Any], repeats: int, calls: int
) -> tuple[float, float]:
    """Return the median of our seconds a call, and of the ratio of the plain time to ours."""
    np.testing.assert_array_equal(ours(), plain())
    seconds, ratios = [], []
    for _ in range(repeats):
        spent = []
        for call in (ours, plain):
            began = time.perf_counter()
            for _ in range(calls):
                call()
            spent.append((time.perf_counter() - began) / calls)
        seconds.append(spent[0])
        ratios.append(spent[1] / spent[0])
    return statistics.median(seconds), statistics.median(ratios)


def one_point(repeats: int) -> None:
    for voxels, clusters in CLASSES:
        given = outputs(voxels, clusters, np.random.default_rng(0))
        raw = given["position"], given["margin"], given["seediness"]
        spent, ratio = compare(
            partial(cluster, *raw, s0=S0, p0=P0),
            partial(numpy_cluster, *raw, s0=S0, p0=P0),
            repeats,
            10,
        )
        print(
            f"cluster, {voxels} voxels: {1e3 * spent:.2f} ms, numpy loop {ratio:.1f} times as long"
        )


def _ari(method: Callable[[], dict[str, np.ndarray]]) -> np.ndarray:
    return method()["ari"]


def _each(method: Callable[[np.ndarray], np.ndarray], classes: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([method(coords) for coords in classes])


def scores(repeats: int) -> None:
    for voxels, clusters in CLASSES[:3]:
        given = outputs(voxels, clusters, np.random.default_rng(0))
        default = partial(sweep, **given, s0=GRID, p0=GRID)
        spent, ratio = compare(
            partial(_ari, default), partial(_ari, partial(default, metrics=SCORES)), repeats, 1
        )
        print(f"sweep, {voxels} voxels: {spent:.3f} s, with AMI {ratio:.1f} times as long")


def density(events: int, repeats: int) -> None:
    classes = [
        event.coords[event.semantic == number]
        for event in read_events(sample("test"), indices=range(events))
        for number in np.unique(event.semantic[event.semantic >= 0])
    ]
    for eps in (1.8, 2.8, 3.7):
        ours, plain = partial(dbscan, eps=eps), DBSCAN(eps=eps, min_samples=1).fit_predict
        spent, ratio = compare(
            partial(_each, ours, classes), partial(_each, plain, classes), repeats, 1
        )
        print(
            f"DBSCAN, eps {eps}, {len(classes)} classes of {events} events: {spent:.3f} s, "
            f"scikit-learn {ratio:.1f} times as long"
        )


def reconstructions(folder: Path, file: str, count: int, repeats: int) -> None:
    """Print the CPU time of an event, network included, by each kept reconstruction."""
    state, events = load(folder), list(read_events(file))[:count]
    spent: dict[str, list[float]] = {}
    for _ in range(repeats):
        for path in sorted(folder.glob("thresholds-*.yaml")):
            name = path.stem.removeprefix("thresholds-")
            task = state.trial.task.with_method(name)
            own = replace(state, trial=state.trial.model_copy(update={"task": task}))
            thresholds = read_thresholds(path, task.active_method)
            began = time.process_time()
            list(reconstruct_events(own, events, thresholds))
            spent.setdefault(name, []).append((time.process_time() - began) / len(events))
    for name, seconds in spent.items():
        print(f"{name:8} {1e3 * statistics.median(seconds):.1f} ms CPU time of an event")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--events", type=int, default=12)
    parser.add_argument("--run", type=Path, help="folder of a clustering network, kept thresholds")
    parser.add_argument("--file", default="sample/test", help="events for --run")
    options = parser.parse_args()
    if options.run:
        reconstructions(options.run, options.file, options.events, options.repeats)
        return
    one_point(options.repeats)
    scores(options.repeats)
    density(options.events, options.repeats)


if __name__ == "__main__":
    main()
