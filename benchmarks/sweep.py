"""The threshold sweep against the plain search of the same grid: python benchmarks/sweep.py

Both in one run on one core, interleaved, medians. The plain search is the tests' reference written
from the paper, once a grid point, with scikit-learn's ARI: what a user would write first.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.sweep import sweep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reconstruct"))
from reference import plain_cluster


def outputs(voxels: int, clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """What a trained network gives: compact clouds, sure of their middle."""
    truth = rng.integers(0, clusters, voxels)
    centre = rng.uniform(-1, 1, (clusters, 3))
    position = centre[truth] + 0.08 * rng.normal(size=(voxels, 3))
    margin = 0.15 * np.exp(0.1 * rng.normal(size=voxels))
    far = ((position - centre[truth]) ** 2).sum(axis=1)
    seediness = np.exp(-far / (2 * 0.15**2)) * rng.uniform(0.9, 1, voxels)
    return position, margin, seediness, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--clusters", type=int, default=8)
    parser.add_argument("--points", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    position, margin, seediness, truth = outputs(
        options.voxels, options.clusters, np.random.default_rng(0)
    )
    grid = np.linspace(0, 1, options.points)
    sweep(position[:9], margin[:9], seediness[:9], truth[:9], grid, grid)  # compile once
    fast, plain, vectorised = [], [], []
    for _ in range(options.repeats):
        began = time.perf_counter()
        found = sweep(position, margin, seediness, truth, grid, grid)["ari"]
        fast.append(time.perf_counter() - began)
        for method, times in ((cluster, vectorised), (plain_cluster, plain)):
            began = time.perf_counter()
            wanted = [
                [
                    adjusted_rand_score(truth, method(position, margin, seediness, s0, p0))
                    for p0 in grid
                ]
                for s0 in grid
            ]
            times.append(time.perf_counter() - began)
            np.testing.assert_allclose(found, wanted, atol=1e-12)
    best = statistics.median(fast)
    size = f"{options.voxels} voxels, {options.clusters} clusters, {options.points}² points"
    print(f"{size}, one core, medians of {options.repeats}; all ARI equal to 1e-12")
    for name, times in (("sweep", fast), ("cluster() a point", vectorised), ("plain", plain)):
        median = statistics.median(times)
        print(f"  {name:<20}{median:>10.4f} s{median / best:>9.0f}×")


if __name__ == "__main__":
    main()
