"""The equations of Koh et al. 2020 by hand: one event, class 1 with two clusters on a line.

Cluster 0 has positions 0.0 and 0.2, margins 0.4 and 0.6; cluster 1 has position 0.5, margin 0.5.
So mu = 0.1 and 0.5, sigma = 0.5 and 0.5.
"""

import math

import pytest
import torch

from lartpc_ray.losses.clustering import (
    ClusteringLoss,
    TrueClusters,
    clustering_loss,
    exponents,
    seediness_loss,
    separation,
    smoothing,
)
from lartpc_ray.networks.embedding import Embedding

POSITION = torch.tensor([[0.0], [0.2], [0.5]])
MARGIN = torch.tensor([0.4, 0.6, 0.5])
SEEDINESS = torch.tensor([0.9, 0.8, 0.7])


def clusters() -> TrueClusters:
    return TrueClusters.of(torch.zeros(3).long(), torch.ones(3).long(), torch.tensor([4, 4, 9]))


def test_means_and_kernels_ii_3_ii_4() -> None:
    found = clusters()
    assert found.mean(POSITION).flatten().tolist() == pytest.approx([0.1, 0.5])
    assert found.mean(MARGIN).tolist() == pytest.approx([0.5, 0.5])
    q = exponents(POSITION, torch.full((3, 1), 0.5), torch.full((3,), 0.5))
    assert q.tolist() == pytest.approx([0.25 / 0.5, 0.09 / 0.5, 0.0])


def test_smoothing_ii_6() -> None:
    width = torch.tensor([0.5, 0.5], requires_grad=True)
    margin = MARGIN.clone().requires_grad_()
    value = smoothing(margin, width, clusters())
    assert value.item() == pytest.approx(((0.1**2 + 0.1**2) / 2 + 0) / 2)
    value.backward()
    assert width.grad is None
    assert margin.grad is not None


def test_separation_ii_7() -> None:
    centre = torch.tensor([[0.1], [0.5]])
    assert separation(centre, clusters(), 0.3).item() == pytest.approx((0.6 - 0.4) ** 2)
    assert separation(centre, clusters(), 0.2).item() == pytest.approx(0.0)


def test_seediness_ii_9() -> None:
    p = torch.tensor([0.8, 0.8, 1.0], requires_grad=True)
    seediness = SEEDINESS.clone().requires_grad_()
    value = seediness_loss(seediness, p, clusters())
    assert value.item() == pytest.approx(((0.1**2 + 0.0) / 2 + 0.3**2) / 2)
    value.backward()
    assert p.grad is None


def test_total_ii_8_ii_11() -> None:
    settings = ClusteringLoss(
        mask="bce",
        gamma_seediness=2.0,
        gamma_embedding=3.0,
        smoothing=0.5,
        inter=0.25,
        inter_distance=0.3,
    )
    loss = clustering_loss(Embedding(POSITION, MARGIN, SEEDINESS), clusters(), settings)
    q = [[0.01 / 0.5, 0.01 / 0.5, 0.16 / 0.5], [0.25 / 0.5, 0.09 / 0.5, 0.0]]
    other = [-math.log(1 - math.exp(-value)) for value in (q[0][2], q[1][0], q[1][1])]
    mask = ((q[0][0] + q[0][1] + other[0]) / 3 + (other[1] + other[2] + q[1][2]) / 3) / 2
    own = math.exp(-0.02)
    seed = (((0.9 - own) ** 2 + (0.8 - own) ** 2) / 2 + 0.3**2) / 2
    wanted = 2.0 * seed + 3.0 * (mask + 0.5 * 0.005 + 0.25 * 0.04)
    assert loss.terms["mask"].item() == pytest.approx(mask, rel=1e-5)
    assert loss.total.item() == pytest.approx(wanted, rel=1e-5)


def test_averages_run_over_clusters_then_classes_then_events() -> None:
    event = torch.tensor([0, 0, 0, 0, 1])
    semantic = torch.tensor([1, 1, 1, 2, 0])
    cluster = torch.tensor([5, 6, 7, 5, 0])
    found = TrueClusters.of(event, semantic, cluster)
    assert found.weight.tolist() == pytest.approx([1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 2])
    assert found.group.tolist() == [0, 0, 0, 1, 2]


def test_pairs_join_all_of_a_group_and_nothing_else() -> None:
    event = torch.tensor([0, 0, 0, 1])
    cluster = torch.tensor([3, 8, 3, 3])
    found = TrueClusters.of(event, torch.zeros(4).long(), cluster)
    member, other = found.pairs()
    pairs = set(zip(member.tolist(), other.tolist(), strict=True))
    assert len(member) == len(pairs)
    assert pairs == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 2)}


def test_voxels_without_class_or_cluster_are_left_out() -> None:
    found = TrueClusters.of(
        torch.zeros(3).long(), torch.tensor([-1, 1, 1]), torch.tensor([0, -1, 2])
    )
    assert found.voxel.tolist() == [2]


def test_small_clusters_can_be_left_out() -> None:
    cluster = torch.tensor([3, 8, 3, 3])
    found = TrueClusters.of(torch.zeros(4).long(), torch.zeros(4).long(), cluster, min_voxels=2)
    assert found.voxel.tolist() == [0, 2, 3]
    assert found.own.tolist() == [0, 0, 0]
    assert found.weight.tolist() == [1.0]


def test_a_batch_without_clusters_gives_zero_with_a_gradient() -> None:
    position = POSITION.clone().requires_grad_()
    absent = torch.full((3,), -1)
    none = TrueClusters.of(absent, absent, absent)
    loss = clustering_loss(Embedding(position, MARGIN, SEEDINESS), none, ClusteringLoss())
    loss.total.backward()
    assert loss.total.item() == 0
    assert position.grad is not None
