"""Count the bytes and the operations of each convolution of a network, and the time on an H100.

Nothing is measured here. The counts are exact: they come from the neighbours of the voxels of a
batch, for the way in which each of native's two kinds of GPU kernels computes a layer. Every number
that an operation reads or writes counts as one from the memory of the GPU; rows that stay in the
second cache are faster. `ms` is the larger of bytes / bandwidth and operations / rate. The time to
start an operation, about 5 microseconds on any GPU, is not in it; `starts` counts these.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from engines import SIDE, Voxels, inference

from lartpc_ray.networks.uresnet import Resample, UResNet
from lartpc_ray.sparse import CHUNK, SparseTensor, engine
from lartpc_ray.sparse.native import Level, Pairs
from lartpc_ray.sparse.tiles import ROWS, block_side, make_tiles

BANDWIDTH = 3.35e12
"""Bytes per second of an H100 SXM5 with 80 GB (NVIDIA H100 Tensor Core GPU data sheet)."""
RATES = {"bfloat16": 989.4e12, "tf32": 494.7e12, "float32": 66.9e12}
"""Operations per second of an H100 SXM5, dense, from the same data sheet (which prints twice as
many for bfloat16 and tf32: with half of the numbers zero). A float32 product takes `float32`,
because torch's default and `input_precision="ieee"` of the kernels do not allow tf32."""
WIDTHS = {"bfloat16": 2, "float32": 4}
"""Bytes per number."""
FULL = 4
"""Bytes per number of a sum."""


class Layer(NamedTuple):
    """A convolution of a network: `level` is that of its finer sites."""

    way: str
    level: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Counts:
    """The numbers of one direction of a convolution.

    Attributes:
        sources, targets: sites.
        parts: pairs of each offset, without a site's own.
        own: pairs of each site with itself.
        dense: torch gathers all offsets, zeros included.
        entries, back: offsets of all tiles of targets, and of tiles of sources.
    """

    sources: int
    targets: int
    parts: tuple[int, ...]
    own: int
    dense: bool
    entries: int
    back: int

    @property
    def pairs(self) -> int:
        return sum(self.parts) + self.own

    @property
    def reverse(self) -> Counts:
        """Return the numbers of the opposite direction."""
        swapped = self.targets, self.sources, self.parts, self.own, self.dense
        return Counts(*swapped, self.back, self.entries)


class Work(NamedTuple):
    """Bytes, operations, and kernels that are started."""

    bytes: float
    operations: float
    starts: int

    def seconds(self, kind: str) -> float:
        return max(self.bytes / BANDWIDTH, self.operations / RATES[kind])


def layers_of(network: UResNet, voxels: Voxels, features: torch.Tensor) -> Counter[Layer]:
    """Return the convolutions of a network, and how often each comes in a forward pass."""
    it, layers = network.engine, Counter[Layer]()

    def noted(way: str) -> Any:
        apply = getattr(it, way)

        def call(x: SparseTensor, weight: torch.Tensor) -> object:
            level, finer = 0, x.sites.finer
            while finer is not None:
                level, finer = level + 1, finer.finer
            layers[Layer(way, level - (way == "up"), *weight.shape[1:])] += 1
            return apply(x, weight)

        return call

    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, Resample):
                way = module.apply_engine.__name__
                stack.enter_context(patch.object(module, "apply_engine", noted(way)))
        stack.enter_context(patch.object(it, "submanifold", noted("submanifold")))
        inference(network, voxels, features)()
    return layers


def counts_of(voxels: Voxels, depth: int) -> dict[tuple[str, int], Counts]:
    """Return the numbers of (way, level) of all levels of a batch."""
    no_features = torch.zeros(len(voxels[0]), 1)
    level: Level = engine("native").sites(voxels[0], no_features, (SIDE,) * 3, voxels[1]).sites
    counts = {}
    for number in range(depth):
        counts["submanifold", number] = _counts(level.pairs)
        if number < depth - 1:
            counts["down", number] = _counts(level.children)
            counts["up", number] = counts["down", number].reverse
            level = level.coarse[0]
    return counts


def _counts(pairs: Pairs) -> Counts:
    read, written = pairs._with_own()
    edges = torch.tensor([0, *map(len, read)]).cumsum(0).tolist()
    source, target = torch.cat(read), torch.cat(written)
    entries = len(make_tiles(source, target, edges, pairs.targets).offsets)
    back = entries
    if not pairs.includes_self:
        back = len(make_tiles(target, source, edges, pairs.sources).offsets)
    parts = tuple(len(part) for part in pairs.read)
    own = pairs.targets if pairs.includes_self else 0
    return Counts(pairs.sources, pairs.targets, parts, own, pairs.is_dense, entries, back)


def fused(counts: Counts, layer: Layer, kind: str) -> Work:
    """Count one pass of the kernel of Triton: output, or gradient to the input."""
    k, n = (block_side(width, getattr(torch, kind)) for width in layer[2:])
    down, across = -(-layer.inputs // k), -(-layer.outputs // n)
    width, rows = WIDTHS[kind], counts.entries * ROWS
    gathered = counts.pairs * layer.inputs * width * across
    tables = rows * 4 * across * down + counts.targets * 4
    weights = len(counts.parts) * layer.inputs * layer.outputs * width  # they stay in the cache
    written = counts.targets * layer.outputs * width
    operations = 2.0 * rows * down * k * across * n
    return Work(gathered + tables + weights + written, operations, 1)


def fused_weights(counts: Counts, layer: Layer, kind: str) -> Work:
    """Count the gradient to the weights by Triton, and the sum of its parts."""
    k, n = (block_side(width, getattr(torch, kind)) for width in layer[2:])
    down, across = -(-layer.inputs // k), -(-layer.outputs // n)
    rows = counts.pairs * (layer.inputs * across + layer.outputs * down) * WIDTHS[kind]
    sums = len(counts.parts) * layer.inputs * layer.outputs * FULL
    indices = counts.pairs * 8 * down * across
    operations = 2.0 * counts.pairs * down * k * across * n
    return Work(rows + 2 * sums + indices, operations, 2)


def by_torch(counts: Counts, layer: Layer, kind: str) -> Work:
    """Count one pass of torch's operations: output, or gradient to the input."""
    if counts.dense:
        return _dense_by_torch(counts, layer, kind)
    e, pairs = WIDTHS[kind], sum(counts.parts)
    convert = e + FULL if kind != "float32" else 0
    gather = pairs * (8 + 2 * layer.inputs * e)
    product = pairs * (layer.inputs + layer.outputs) * e + pairs * layer.outputs * convert
    add = pairs * (8 + 3 * layer.outputs * FULL)
    weights = len(counts.parts) * layer.inputs * layer.outputs * e
    own = counts.own * (layer.inputs + layer.outputs) * e
    ends = counts.targets * layer.outputs * (2 * convert or (0 if counts.own else FULL))
    operations = 2.0 * counts.pairs * layer.inputs * layer.outputs
    chunks = sum(-(-part // CHUNK) for part in counts.parts)
    starts = chunks * (3 + (kind != "float32")) + 3
    return Work(gather + product + add + weights + own + ends, operations, starts)


def _dense_by_torch(counts: Counts, layer: Layer, kind: str) -> Work:
    """Count one product over all offsets, zeros included."""
    e, offsets = WIDTHS[kind], len(counts.parts)
    coarse = min(counts.sources, counts.targets)
    slots, weights = coarse * offsets, offsets * layer.inputs * layer.outputs * e
    operations = 2.0 * slots * layer.inputs * layer.outputs
    if layer.way == "up":
        product = coarse * layer.inputs * e + slots * layer.outputs * e
        return Work(product + 2 * counts.targets * layer.outputs * e + weights, operations, 2)
    product = slots * layer.inputs * e + counts.targets * layer.outputs * e
    if layer.way == "down":
        filled = slots * layer.inputs * e + 2 * counts.sources * layer.inputs * e
        return Work(product + filled + weights, operations, 3)
    gather = slots * (4 + 2 * layer.inputs * e)
    chunks = -(-counts.targets // max(1, CHUNK // offsets))
    return Work(product + gather + weights, operations, 2 * chunks)


def torch_weights(counts: Counts, layer: Layer, kind: str) -> Work:
    """Count the gradient to the weights by torch, beside the gradient to the input.

    The rows of the gradient are gathered for that one already.
    """
    e, offsets = WIDTHS[kind], len(counts.parts)
    sums = offsets * layer.inputs * layer.outputs * FULL
    if counts.dense:
        slots = min(counts.sources, counts.targets) * offsets
        wide, narrow = (
            (layer.inputs, layer.outputs) if layer.way == "down" else (layer.outputs, layer.inputs)
        )
        rows = (slots * wide + min(counts.sources, counts.targets) * narrow) * e
        return Work(rows + 3 * sums, 2.0 * slots * layer.inputs * layer.outputs, 2)
    pairs = sum(counts.parts)
    rows = pairs * (8 + 2 * layer.inputs * e) + counts.pairs * (layer.inputs + layer.outputs) * e
    chunks = sum(-(-part // CHUNK) for part in counts.parts)
    return Work(rows + 3 * sums, 2.0 * counts.pairs * layer.inputs * layer.outputs, 3 * chunks)


def step(counts: Counts, layer: Layer, kind: str) -> tuple[list[Work], list[Work]]:
    """Return the three passes of a training step, by torch and fused."""
    opposite = {"up": "down", "down": "up"}.get(layer.way, layer.way)
    back = Layer(opposite, layer.level, layer.outputs, layer.inputs)
    torch_passes = [by_torch(counts, layer, kind), by_torch(counts.reverse, back, kind)]
    passes = [fused(counts, layer, kind), fused(counts.reverse, back, kind)]
    torch_passes.append(torch_weights(counts, layer, kind))
    passes.append(fused_weights(counts, layer, kind))
    if layer.inputs == 1:  # the energy needs no gradient
        del torch_passes[1], passes[1]
    return torch_passes, passes


COLUMNS = (
    "layer", "number", "sites", "pairs", "GFLOP", "useful rows", "MB torch", "MB triton",
    "FLOP per byte", "starts torch", "ms torch", "ms triton", "limit of triton",
)  # fmt: skip


def table(
    layers: Counter[Layer], counts: dict[tuple[str, int], Counts], kind: str
) -> list[list[Any]]:
    """Return a row per layer of a forward pass: the columns are COLUMNS."""
    rows = []
    for layer, number in sorted(layers.items(), key=lambda item: (item[0].level, item[0])):
        one = counts[layer.way, layer.level]
        plain, kernel = by_torch(one, layer, kind), fused(one, layer, kind)
        useful = 2.0 * one.pairs * layer.inputs * layer.outputs
        memory = kernel.bytes / BANDWIDTH >= kernel.operations / RATES[kind]
        name = f"{layer.way}, level {layer.level}, {layer.inputs} to {layer.outputs}"
        rows.append(
            [
                *(name, number, one.targets, one.pairs, useful / 1e9),
                *(one.pairs / (one.entries * ROWS), plain.bytes / 1e6, kernel.bytes / 1e6),
                *(useful / kernel.bytes, plain.starts),
                *(1e3 * plain.seconds(kind), 1e3 * kernel.seconds(kind)),
                "memory" if memory else "products",
            ]
        )
    return rows


def totals(
    layers: Counter[Layer], counts: dict[tuple[str, int], Counts]
) -> dict[str, dict[str, float]]:
    """Return the sums over all convolutions of a forward pass and of a training step."""
    rows = {}
    for kind in WIDTHS:
        for title, passes in (("forward", slice(0, 1)), ("forward and backward", slice(0, 3))):
            sums = {name: [0.0, 0.0, 0] for name in ("torch", "triton")}
            for layer, number in layers.items():
                both = step(counts[layer.way, layer.level], layer, kind)
                for total, works in zip(sums.values(), both, strict=True):
                    for work in works[passes]:
                        total[0] += number * work.bytes / 1e9
                        total[1] += number * work.seconds(kind) * 1e3
                        total[2] += number * work.starts
            for name, (gigabytes, ms, starts) in sums.items():
                rows[f"{title}, {kind}, {name}"] = {"gb": gigabytes, "ms": ms, "starts": starts}
    return rows


def roofline(network: UResNet, small: Voxels, voxels: Voxels, depth: int) -> dict[str, Any]:
    """Count a network on a batch.

    Args:
        network: on the native engine.
        small: voxels with which the network is run, to find its layers.
        voxels: of the batch that is counted.
        depth: of the network.
    """
    layers = layers_of(network, small, torch.zeros(len(small[0]), 1))
    counts = counts_of(voxels, depth)
    return {
        "voxels": len(voxels[0]),
        "convolutions": sum(layers.values()),
        "rows": totals(layers, counts),
        "columns": list(COLUMNS),
        "table": table(layers, counts, "bfloat16"),
    }
