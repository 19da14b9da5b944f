import math
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch._C._distributed_c10d import FileStore
from torch.nn.parallel import DistributedDataParallel

from lartpc_ray.networks.embedding import Embedding, embedding_branches, init_embedding, own_head
from lartpc_ray.networks.uresnet import NetworkSettings, UResNet

SMALL = NetworkSettings(depth=3, filters=4, blocks=1)


def test_embedding_is_equation_ii_1() -> None:
    outputs = {
        "embedding": torch.tensor([[0.5, 0.0, -1.0, 2.0]]),
        "seediness": torch.tensor([[-1.0]]),
    }
    found = Embedding.of(outputs, torch.tensor([[0, 256, 384]]), (512, 512, 512))
    wanted = [math.tanh(0.5) - 1, 0.0, math.tanh(-1.0) + 0.5]
    assert found.position[0].tolist() == pytest.approx(wanted)
    assert found.margin.item() == pytest.approx(2 / (1 + math.exp(-2)))
    assert found.seediness.item() == pytest.approx(1 / (1 + math.exp(1)))


def test_a_margin_never_becomes_zero() -> None:
    outputs = {"embedding": torch.tensor([[0.0, 0.0, 0.0, -1e4]])}
    found = Embedding.of(outputs, torch.zeros(1, 3, dtype=torch.int64), (8, 8, 8))
    assert found.margin.item() == pytest.approx(2e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_every_branch_answers_for_every_voxel(axes: int) -> None:
    network = UResNet(SMALL, embedding_branches(axes), axes=axes)
    coords = torch.unique(torch.randint(0, 16, (50, axes)), dim=0)
    out = network(coords, torch.rand(len(coords), 1), (16,) * axes, torch.zeros(len(coords)).long())
    assert out["embedding"].shape == (len(coords), axes + 1)
    assert out["seediness"].shape == (len(coords), 1)
    only = network(
        coords,
        torch.rand(len(coords), 1),
        (16,) * axes,
        torch.zeros(len(coords)).long(),
        ("seediness",),
    )
    assert set(only) == {"embedding"}


def test_one_voxel_trains() -> None:
    network = UResNet(SMALL, embedding_branches(3))
    one = torch.zeros(1, 3, dtype=torch.int64)
    out = network(one, torch.ones(1, 1), (8, 8, 8), one[:, 0])
    out["embedding"].sum().backward()
    assert torch.isfinite(out["embedding"]).all()


def test_filters_grow_linearly_and_blocks_count() -> None:
    network = UResNet(SMALL, embedding_branches(3))
    name = "encoder.{}.0.second.convolution.kernel"
    widths = [network.get_parameter(name.format(level)).shape for level in range(3)]
    assert widths == [(27, 4, 4), (27, 8, 8), (27, 12, 12)]
    assert set(network.decoders) == {"embedding", "seediness"}


def test_the_start_sets_the_margin() -> None:
    network = UResNet(SMALL, embedding_branches(3))
    init_embedding(network, 0.1, 1e-6)
    coords = torch.tensor([[1, 2, 3], [3, 2, 1]])
    out = network.eval()(coords, torch.ones(2, 1), (8, 8, 8), torch.zeros(2).long())
    found = Embedding.of(out, coords, (8, 8, 8))
    assert found.margin.tolist() == pytest.approx([0.1, 0.1], rel=1e-4)
    assert found.position[0].tolist() == pytest.approx([-0.75, -0.5, -0.25], abs=1e-4)


def test_a_voxel_takes_the_outputs_of_its_class() -> None:
    semantic = torch.tensor([1, 4, -1])
    outputs = torch.arange(30.0).view(3, 10)
    assert own_head(outputs, semantic).tolist() == [[2, 3], [18, 19], [20, 21]]
    network = UResNet(SMALL, {name: 5 * width for name, width in embedding_branches(3).items()})
    init_embedding(network, 0.1, 1e-6, heads=5)
    coords = torch.tensor([[1, 2, 3], [3, 2, 1]])
    out = network.eval()(coords, torch.ones(2, 1), (8, 8, 8), torch.zeros(2).long())
    mine = {name: own_head(rows, torch.tensor([0, 4])) for name, rows in out.items()}
    found = Embedding.of(mine, coords, (8, 8, 8))
    assert found.margin.tolist() == pytest.approx([0.1, 0.1], rel=1e-4)
    assert found.position[1].tolist() == pytest.approx([-0.25, -0.5, -0.75], abs=1e-4)


@pytest.mark.parametrize("unused", [False, True])
def test_constants_learn_in_data_parallel_training_too(unused: bool, tmp_path: Path) -> None:
    network = UResNet(SMALL, {"energy": 1}, constants={"balance": 2})
    store = FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = DistributedDataParallel(network, find_unused_parameters=unused)
        one = torch.zeros(1, 3, dtype=torch.int64)
        for _ in range(2):
            out = model(one, torch.ones(1, 1), (8, 8, 8), one[:, 0])
            (out["energy"].sum() + out["balance"] @ torch.tensor([1.0, 3.0])).backward()
    finally:
        distributed.destroy_process_group()
    assert network.constants["balance"].tolist() == [0, 0]
    assert network.constants["balance"].grad is not None
    assert network.constants["balance"].grad.tolist() == [2, 6]
