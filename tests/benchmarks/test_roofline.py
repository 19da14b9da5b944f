"""The counts of benchmarks/roofline.py, worked out by hand."""

import pytest
import torch
from engines import work
from roofline import BANDWIDTH, Counts, Layer, Work, by_torch, counts_of, fused, layers_of

from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.sparse.tiles import ROWS


def test_three_voxels() -> None:
    """Two neighbours along the first axis, and one voxel apart."""
    voxels = torch.tensor([[4, 4, 4], [5, 4, 4], [9, 9, 9]]), torch.zeros(3, dtype=torch.int64)
    counts = counts_of(voxels, 2)
    same, down = counts["submanifold", 0], counts["down", 0]
    assert (same.pairs, sum(same.parts), same.own, same.dense) == (5, 2, 3, False)
    assert (same.entries, same.back) == (3, 3), "the middle and two neighbours, in one tile"
    assert (down.sources, down.targets, down.pairs, down.dense) == (3, 2, 3, False)
    assert (down.entries, down.back) == (3, 3), "corners 0, 1 and 7"
    assert counts["up", 0] == down.reverse
    assert counts["submanifold", 1].pairs == 2


def test_bytes_and_operations_of_one_layer() -> None:
    parts = (2,) * 13 + (0,) + (2,) * 13
    counts = Counts(10, 10, parts, own=10, dense=False, entries=27, back=27)
    layer = Layer("submanifold", 0, 32, 64)
    plain = by_torch(counts, layer, "float32")
    gather, product, add = 52 * (8 + 2 * 128), 52 * (128 + 256), 52 * (8 + 3 * 256)
    own, weights = 10 * (128 + 256), 27 * 32 * 64 * 4
    assert plain == Work(gather + product + add + own + weights, 2 * 62 * 32 * 64, 26 * 3 + 3)
    kernel = fused(counts, layer, "bfloat16")
    rows, tables = 62 * 64, 27 * ROWS * 4 + 10 * 4
    assert kernel.bytes == rows + tables + 27 * 32 * 64 * 2 + 10 * 64 * 2
    assert (kernel.operations, kernel.starts) == (2 * 27 * ROWS * 32 * 64, 1)
    assert kernel.seconds("bfloat16") == kernel.bytes / BANDWIDTH
    assert plain.seconds("float32") == plain.bytes / BANDWIDTH


def test_a_crowded_layer_gathers_zeros_too() -> None:
    counts = Counts(10, 10, (9,) * 27, own=0, dense=True, entries=27, back=27)
    plain = by_torch(counts, Layer("submanifold", 0, 4, 8), "float32")
    gathered = 270 * (4 + 2 * 16) + 270 * 16
    assert plain == Work(gathered + 10 * 32 + 27 * 4 * 8 * 4, 2 * 270 * 4 * 8, 2)


@pytest.mark.parametrize("side", [6, 40])
def test_all_convolutions_of_a_network_are_counted(side: int) -> None:
    torch.manual_seed(0)
    coords = torch.unique(torch.randint(0, side, (200, 3)), dim=0)
    voxels = coords, torch.zeros(len(coords), dtype=torch.int64)
    settings = NetworkSettings(engine="native", depth=3, filters=4, blocks=1)
    network = UResNet(settings, {"a": 2, "b": 1})
    features = torch.zeros(len(coords), 1)
    layers, counts = layers_of(network, voxels, features), counts_of(voxels, 3)
    total = sum(
        2.0 * number * counts[one.way, one.level].pairs * one.inputs * one.outputs
        for one, number in layers.items()
    )
    assert total == work(network, voxels, features)[0]
    assert sum(layers.values()) == 1 + 2 * 3 + 2 + 2 * (2 + 2 * 2)
