"""Time the search for thresholds: python benchmarks/thresholds.py.

1. One class, a 21 × 21 grid, one core: the sweep against the search that runs the algorithm once a
   point, as the tests' plain reference (`--plain`, slow) and in vectorised numpy, both with
   scikit-learn's ARI. Interleaved, medians; all ARI must agree.
2. Events of the mean class sizes of Koh et al. 2020: five classes, the task's own grid, one worker
   and two.
3. The rules of Koh et al. 2020 (argmax) and of SPINE 1.4 (first_come) on the kept network's outputs
   of 25 events of the sample: medians of interleaved runs, and their ratio.
4. The bound: the distances that a pass without skipping evaluates, times the measured time of one.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from lartpc_ray.data.files import read_events
from lartpc_ray.data.splits import sample
from lartpc_ray.metrics.clustering import SCORES
from lartpc_ray.predict.inference import predict
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.first_come import sweep_first_come
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.reconstruct.sweep import sweep
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.thresholds.scan import score_grid
from lartpc_ray.thresholds.source import ClassVoxels
from lartpc_ray.trials import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reconstruct"))
from reference import numpy_cluster, plain_cluster

GRID = np.linspace(0, 1, 21)
SIZES = {"HIP": 1840, "MIP": 6330, "SHOWER": 9910, "DELTA": 284, "MICHEL": 374}
CLUSTERS = {"HIP": 6, "MIP": 8, "SHOWER": 12, "DELTA": 5, "MICHEL": 2}


def outputs(voxels: int, clusters: int, rng: np.random.Generator) -> dict[str, Any]:
    """Make the outputs of a trained network: compact clouds with high seediness in the middle."""
    truth = rng.integers(0, clusters, voxels)
    centre = rng.uniform(-1, 1, (clusters, 3))
    position = centre[truth] + 0.08 * rng.normal(size=(voxels, 3))
    margin = 0.15 * np.exp(0.1 * rng.normal(size=voxels))
    far = ((position - centre[truth]) ** 2).sum(axis=1)
    seediness = np.exp(-far / (2 * 0.15**2)) * rng.uniform(0.9, 1, voxels)
    return {"position": position, "margin": margin, "seediness": seediness, "truth": truth}


def per_point(method: Callable[..., np.ndarray], given: Mapping[str, np.ndarray]) -> np.ndarray:
    truth = given["truth"]
    raw = [given[name] for name in ("position", "margin", "seediness")]
    return np.array(
        [[adjusted_rand_score(truth, method(*raw, s0, p0)) for p0 in GRID] for s0 in GRID]
    )


def timed(call: Callable[[], Any], times: list[float]) -> Any:
    began = time.perf_counter()
    result = call()
    times.append(time.perf_counter() - began)
    return result


def one_class(voxels: int, clusters: int, repeats: int, plain: bool) -> None:
    given = outputs(voxels, clusters, np.random.default_rng(0))
    methods = {"a point at a time, numpy": numpy_cluster}
    if plain:
        methods["a point at a time, plain"] = plain_cluster
    times: dict[str, list[float]] = {"sweep": [], **{name: [] for name in methods}}
    for _ in range(repeats):
        call = lambda: sweep(**given, s0=GRID, p0=GRID, metrics=["ari"])["ari"]  # noqa: E731
        found = timed(call, times["sweep"])
        for name, method in methods.items():
            wanted = timed(partial(per_point, method, given), times[name])
            np.testing.assert_allclose(found, wanted, atol=1e-12)
    best = statistics.median(times["sweep"])
    print(f"{voxels} voxels, {clusters} clusters, 21 × 21 points, medians of {repeats}")
    for name, each in times.items():
        median = statistics.median(each)
        print(f"  {name:<28}{median:>10.4f} s{median / best:>9.0f}×")


def bound(voxels: int, clusters: int) -> None:
    given = outputs(voxels, clusters, np.random.default_rng(0))
    found = sweep(**given, s0=GRID, p0=GRID, metrics=["ari", "n_clusters"], min_voxels=0)
    began = time.perf_counter()
    sweep(**given, s0=GRID, p0=GRID, metrics=["ari"])
    took = time.perf_counter() - began
    needed = sum(
        len(np.unique(cluster(given["position"], given["margin"], given["seediness"], 0.0, p0)))
        for p0 in GRID
    )
    position = np.ascontiguousarray(given["position"].T)
    began = time.perf_counter()
    for seed in range(200):
        ((position - position[:, seed : seed + 1]) ** 2).sum(axis=0)
    one = (time.perf_counter() - began) / 200 / voxels
    least = needed * voxels * one
    print(
        f"{voxels} voxels: {needed} seeds over the 21 values of p0, {needed * voxels:,} distances"
    )
    print(
        f"  at {1e9 * one:.2f} ns each in numpy: {least:.3f} s; the sweep took {took:.3f} s, ",
        end="",
    )
    print(f"{took / least:.2f} of it (most voxels are passed over in blocks)")
    assert np.isfinite(found["ari"]).all()


def events(count: int, repeats: int) -> None:
    rng = np.random.default_rng(1)
    parts = [
        ClassVoxels(number, name, outputs(size, CLUSTERS[name], rng))
        for number in range(count)
        for name, size in SIZES.items()
    ]
    print(f"{count} events of {', '.join(map(str, SIZES.values()))} voxels, 21 × 25 points")
    for metrics in (["ari"], list(SCORES)):
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(repeats):
            for workers, each in times.items():
                with ray_session(workers, dashboard=False):
                    score_grid(parts[:40], ClusteringTask(), metrics)  # the workers start
                    timed(partial(score_grid, parts, ClusteringTask(), metrics), each)
        shown = "ARI" if len(metrics) == 1 else "all six metrics"
        one, two = (statistics.median(each) for each in times.values())
        print(f"  {shown}: one worker {one:.1f} s, two {two:.1f} s ({two / one:.2f})")


def compare_rules(repeats: int) -> None:
    """Print the time of the surfaces by both rules, ARI only, and the ratio."""
    state = checkpoint.load(Path(__file__).parents[1] / "models" / "clustering")
    events = read_events(sample("test"), indices=range(25))
    classes = [
        voxels
        for event, found in predict(state.restored(), state.trial.task, events)
        for voxels in state.trial.task.class_voxels(event, found).values()
    ]
    axes = SeedClustering().axes()
    times: dict[str, list[float]] = {"argmax": [], "first_come": []}
    for _ in range(repeats + 1):
        for rule, score in (("argmax", sweep), ("first_come", sweep_first_come)):
            began = time.perf_counter()
            for voxels in classes:
                rows = [voxels[name] for name in ("position", "margin", "seediness", "truth")]
                score(*rows, **axes, min_voxels=10, metrics=["ari"])
            times[rule].append(time.perf_counter() - began)
    argmax, first_come = (statistics.median(spent[1:]) for spent in times.values())
    print(
        f"rules, {len(classes)} classes of 25 events: argmax {argmax:.3f} s, "
        f"first_come {first_come:.3f} s, ratio {first_come / argmax:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--only-rules", action="store_true", help="part 3 only")
    parser.add_argument("--plain", action="store_true", help="the plain reference, too: minutes")
    options = parser.parse_args()
    compare_rules(options.repeats)
    if options.only_rules:
        return
    tiny = outputs(9, 2, np.random.default_rng(0))
    sweep(**tiny, s0=GRID, p0=GRID)  # compile once
    for voxels, clusters in ((500, 8), (2000, 8), (8000, 15)):
        plain = options.plain and voxels <= 2000
        one_class(voxels, clusters, options.repeats, plain)
    bound(8000, 15)
    events(options.events, options.repeats)


if __name__ == "__main__":
    main()
