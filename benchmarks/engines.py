"""Compare the speed of the engines.

Usage: python benchmarks/engines.py [--threads 1 2] [--layers]

1. A whole UResNet, training step and inference, thin and thick images, all engines in one run:
   interleaved, medians, as a ratio to MinkowskiEngine if it is installed. The tables of neighbours
   are part of every step, and their share is printed. On a CPU the limit follows: the time of the
   useful products at the rate of torch's product, plus the time of the gathered bytes at the rate
   of torch's gathering, and their share of native's time.
2. `--layers`: single submanifold layers of the native engine on a CPU against torch's time for the
   useful products alone plus its time for gathering the bytes alone.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import get_args
from unittest.mock import patch

from lartpc_ray.sparse import EngineName

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # MinkowskiEngine's best setting
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the package's; MinkowskiEngine's is "active"

import numpy as np
import torch

from lartpc_ray.networks.uresnet import NetworkSettings, Resample, UResNet
from lartpc_ray.sparse import SparseTensor, available, engine

SIDE = 512
Voxels = tuple[torch.Tensor, torch.Tensor]


def image(thick: bool, voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Draw tracks as random walks of slowly changing direction, 3 voxels thick or 1.

    The thin image has a quarter of its voxels scattered, as in showers.
    """
    reach = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = np.empty((0, 3), np.int64)
    if not thick:
        coords = rng.integers(0, SIDE, (voxels // 4, 3))
    while len(coords) < voxels:
        turns = 0.05 * rng.normal(size=(200, 3))
        direction = rng.normal(size=3) + np.cumsum(turns, axis=0)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        line = (rng.uniform(0, SIDE, 3) + np.cumsum(direction, axis=0)).astype(np.int64)
        if thick:
            line = (line[:, None] + reach).reshape(-1, 3)
        line = line[((line >= 0) & (line < SIDE)).all(axis=1)]
        coords = np.unique(np.concatenate([coords, line]), axis=0)
    return coords[rng.permutation(len(coords))[:voxels]] if not thick else coords


def images(thick: bool, events: int, voxels: int) -> Voxels:
    rng = np.random.default_rng(0)
    coords = [image(thick, voxels, rng) for _ in range(events)]
    event = np.repeat(np.arange(events), [len(rows) for rows in coords])
    return torch.from_numpy(np.concatenate(coords)), torch.from_numpy(event)


def interleaved(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    threads = torch.get_num_threads()
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            torch.set_num_threads(threads)  # MinkowskiEngine changes the number
            began = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:  # the first warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def step(network: UResNet, voxels: Voxels, features: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        network(voxels[0], features, (SIDE,) * 3, voxels[1])["out"].square().mean().backward()

    return call


def inference(network: UResNet, voxels: Voxels, features: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        network.eval()
        with torch.inference_mode():
            network(voxels[0], features, (SIDE,) * 3, voxels[1])

    return call


def tables(voxels: Voxels, depth: int) -> Callable[[], object]:
    """Return a call that makes only the native engine's tables of a batch."""

    def call() -> None:
        x = engine("native").sites(
            voxels[0], torch.zeros(len(voxels[0]), 1), (SIDE,) * 3, voxels[1]
        )
        level = x.sites
        for _ in range(depth):
            _ = level.pairs.kernel_table
            level = level.coarse[0]

    return call


def whole(thick: bool, options: argparse.Namespace) -> None:
    threads = torch.get_num_threads()
    voxels = images(thick, options.events, options.voxels)
    voxels = voxels[0].to(options.device), voxels[1].to(options.device)
    features = torch.rand(len(voxels[0]), 1, device=options.device)
    other = "dense", "minkowski" if options.device == "cuda" else "spconv"
    names = [name for name in get_args(EngineName) if name in available() and name not in other]
    networks = {}
    for name in names:
        torch.manual_seed(0)
        settings = NetworkSettings(
            engine=name, depth=options.depth, filters=options.filters, blocks=2
        )
        networks[name] = UResNet(settings, {"out": 5}).to(options.device)
    torch.set_num_threads(threads)  # MinkowskiEngine's layers set it to all cores
    kind = "thick" if thick else "thin"
    print(f"\n{kind}: {len(features)} voxels, {torch.get_num_threads()} threads", flush=True)
    native: dict[str, float] = {}
    for title, make in (("forward + backward", step), ("inference", inference)):
        calls = {name: make(networks[name], voxels, features) for name in names}
        if options.device == "cpu":
            calls["native's tables"] = tables(voxels, options.depth)
        found = interleaved(calls, options.repeats)
        native[title] = found["native"]
        for name, seconds in found.items():
            against = seconds / found["minkowski"] if "minkowski" in found else float("nan")
            share = seconds / found["native"]
            print(f"  {title:<20}{name:<18}{1e3 * seconds:>8.0f} ms", end="")
            print(f"{against:>8.2f} of minkowski{share:>8.2f} of native", flush=True)
    if options.device == "cpu":
        limit(networks["native"], voxels, features, native, options.repeats)


def work(network: UResNet, voxels: Voxels, features: torch.Tensor) -> tuple[float, float]:
    """Return the useful operations and gathered bytes of the convolutions of one forward pass."""
    it, done = network.engine, [0.0, 0.0]
    pairs: dict[str, Callable[[SparseTensor], float]] = {
        "submanifold": lambda x: x.sites.pairs.edges[-1] + len(x.features),
        "down": lambda x: len(x.features),
        "up": lambda x: len(x.sites.finer.event),
    }

    def counted(name: str) -> Callable[..., object]:
        apply = getattr(it, name)

        def call(x: SparseTensor, weight: torch.Tensor) -> object:
            done[0] += 2.0 * pairs[name](x) * weight.shape[1] * weight.shape[2]
            done[1] += 4.0 * pairs[name](x) * weight.shape[1]
            return apply(x, weight)

        return call

    with ExitStack() as stack:
        for module in network.modules():  # a Resample holds the method itself
            if isinstance(module, Resample):
                way = counted(module.apply_engine.__name__)
                stack.enter_context(patch.object(module, "apply_engine", way))
        stack.enter_context(patch.object(it, "submanifold", counted("submanifold")))
        inference(network, voxels, features)()
    return done[0], done[1]


def rates(repeats: int) -> tuple[float, float]:
    """Return operations and bytes per second of torch's product and gathering, 64 channels."""
    rows, width = 65_536, 64
    a, b = torch.randn(rows, width), torch.randn(width, width)
    index = torch.randint(rows, (rows,))
    found = interleaved(
        {"product": lambda: a @ b, "gather": lambda: a.index_select(0, index)}, repeats
    )
    return 2.0 * rows * width**2 / found["product"], 4.0 * rows * width / found["gather"]


def limit(
    network: UResNet,
    voxels: Voxels,
    features: torch.Tensor,
    measured: dict[str, float],
    repeats: int,
) -> None:
    """Print the limit of the machine and its share of native's time (title to seconds)."""
    operations, gathered = work(network, voxels, features)
    product, gather = rates(repeats)
    print(f"  products at {product / 1e9:.0f} GFLOP/s, gathering at {gather / 1e9:.0f} GB/s")
    for title, passes in (("forward + backward", 3), ("inference", 1)):
        products, bytes_moved = passes * operations, passes * gathered
        least = products / product + bytes_moved / gather
        print(
            f"  {title:<20}limit{1e3 * least:>21.0f} ms: {products / 1e9:.1f} GFLOP, "
            f"{bytes_moved / 1e9:.2f} GB; {least / measured[title]:.2f} of native's time"
        )


def layers(thick: bool, options: argparse.Namespace) -> None:
    """Print each level's layer with the time of its operations and of its gathered bytes."""
    voxels = images(thick, options.events, options.voxels)
    it = engine("native")
    x = it.sites(voxels[0], torch.zeros(len(voxels[0]), 1), (SIDE,) * 3, voxels[1])
    print(
        f"\n{'thick' if thick else 'thin'}, {torch.get_num_threads()} threads: forward of one layer"
    )
    print("  sites  channels  neighbours   seconds ms   products ms   gather ms   both / found")
    level = x.sites
    for number in range(options.depth):
        width = options.filters * (number + 1)
        features, weight = torch.randn(len(level.coords), width), torch.randn(27, width, width)
        tensor = x.with_features(features)
        tensor = type(tensor)(features, level)
        pairs = len(level.pairs.source)
        index = torch.randint(len(features), (pairs,))
        a, b = torch.randn(pairs, width), torch.randn(width, width)
        seconds = interleaved(
            {
                "layer": partial(it.submanifold, tensor, weight),
                "products": partial(torch.matmul, a, b),
                "gather": partial(features.index_select, 0, index),
            },
            options.repeats,
        )
        limit = seconds["products"] + seconds["gather"]
        columns = [1e3 * seconds[name] for name in ("layer", "products", "gather")]
        print(f"{len(features):>7}{width:>10}{pairs / len(features):>12.1f}", end="")
        print("".join(f"{value:>14.2f}" for value in (*columns, limit / seconds["layer"])))
        level = level.coarse[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4)
    parser.add_argument("--voxels", type=int, default=8000)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--layers", action="store_true")
    options = parser.parse_args()
    for threads in options.threads:
        for thick in (True, False):
            torch.set_num_threads(threads)
            (layers if options.layers else whole)(thick, options)


if __name__ == "__main__":
    main()
