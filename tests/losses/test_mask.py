"""A hand-computed value for each mask loss: two voxels inside (p = 0.8, 0.5), one out (0.4)."""

import math

import numpy as np
import pytest
import torch

from lartpc_ray.losses.mask import (
    MASKS,
    MaskName,
    balanced_bce,
    bce,
    focal,
    lovasz_hinge,
    soft_dice,
)

P = [0.8, 0.5, 0.4]
INSIDE = [True, True, False]
LOGS = [-math.log(0.8), -math.log(0.5), -math.log(0.6)]


def pairs(clusters: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    q = -torch.log(torch.tensor(P * clusters, dtype=torch.float64))
    owner = torch.arange(clusters).repeat_interleave(len(P))
    return q.requires_grad_(), torch.tensor(INSIDE * clusters), owner, clusters


def test_bce() -> None:
    assert bce(*pairs()).item() == pytest.approx(sum(LOGS) / 3)


def test_balanced_bce() -> None:
    wanted = (LOGS[0] + LOGS[1]) / 2 / 2 + LOGS[2] / 2
    assert balanced_bce(*pairs()).item() == pytest.approx(wanted)


def test_focal() -> None:
    wanted = (0.2**2 * LOGS[0] + 0.5**2 * LOGS[1] + 0.4**2 * LOGS[2]) / 3
    assert focal(*pairs()).item() == pytest.approx(wanted)


def test_soft_dice() -> None:
    assert soft_dice(*pairs()).item() == pytest.approx(1 - 2 * 1.3 / (1.7 + 2))


def test_lovasz_hinge() -> None:
    # errors 1 - (2p - 1)y: 0.4 (in), 1.0 (in), 0.8 (out); sorted 1.0 in, 0.8 out, 0.4 in.
    # Jaccard loss after each: 1 - 1/2, 1 - 1/3, 1 - 0/3; so weights 1/2, 1/6, 1/3.
    assert lovasz_hinge(*pairs()).item() == pytest.approx(1.0 / 2 + 0.8 / 6 + 0.4 / 3)


@pytest.mark.parametrize("name", MASKS)
def test_clusters_are_independent_and_gradients_exact(name: MaskName) -> None:
    mask = MASKS[name]
    q, inside, owner, clusters = pairs(3)
    shuffled = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    together = mask(q[shuffled], inside[shuffled], owner[shuffled], clusters)
    assert together.tolist() == pytest.approx([mask(*pairs()).item()] * 3)
    spread = torch.tensor([0.1, 0.7, 0.9], dtype=torch.float64, requires_grad=True)
    arguments = (torch.tensor(INSIDE), torch.zeros(3, dtype=torch.int64), 1)
    assert torch.autograd.gradcheck(lambda x: mask(x, *arguments), spread)


def test_nothing_underflows_far_away() -> None:
    q = torch.tensor([1e4, 1e4, 0.0], requires_grad=True)
    for name, mask in MASKS.items():
        value = mask(q, torch.tensor([True, False, False]), torch.zeros(3).long(), 1)
        (slope,) = torch.autograd.grad(value.sum(), q)
        assert torch.isfinite(value).all(), name
        assert torch.isfinite(slope).all(), name


def test_lovasz_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    p, inside = rng.random(40), rng.random(40) < 0.4
    error = 1 - (2 * p - 1) * np.where(inside, 1, -1)
    total, before, taken_in, taken_out = 0.0, 0.0, 0, 0
    for place in np.argsort(-error, kind="stable"):
        taken_in += inside[place]
        taken_out += not inside[place]
        jaccard = 1 - (inside.sum() - taken_in) / (inside.sum() + taken_out)
        total += max(error[place], 0) * (jaccard - before)
        before = jaccard
    found = lovasz_hinge(
        -torch.log(torch.tensor(p)), torch.tensor(inside), torch.zeros(40).long(), 1
    )
    assert found.item() == pytest.approx(total)
