"""The losses of infill, worked out by hand."""

import math

import pytest
import torch

from lartpc_ray.losses.infill import occupancy_loss, squared_loss

TARGET = torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0])
FOUND = torch.tensor([1.0, 1.0, 0.5, 0.0, 1.0])


def test_both_parts_are_divided_by_all_candidates() -> None:
    """(2 - 1)² = 1 over the active, 0.25 + 1 over the empty; weights e/(e + 1) and 1/(e + 1)."""
    balance = torch.tensor([1.0, 0.0], requires_grad=True)
    loss = squared_loss(FOUND, TARGET, balance, over_all=True)
    weight = math.e / (math.e + 1)
    assert loss.total.item() == pytest.approx(weight * 1 / 5 + (1 - weight) * 1.25 / 5)
    assert loss.terms["weight_hit"].item() == pytest.approx(weight)
    loss.total.backward()
    assert balance.grad is not None
    assert balance.grad[0].item() == pytest.approx(weight * (1 - weight) * -0.05, rel=1e-5)


def test_or_each_by_its_own_number() -> None:
    loss = squared_loss(FOUND, TARGET, torch.zeros(2), over_all=False)
    assert loss.total.item() == pytest.approx(0.5 * 1 / 2 + 0.5 * 1.25 / 3)


def test_occupancy_by_hand() -> None:
    logit = torch.tensor([0.0, math.log(3.0), math.log(1 / 3), -20.0, -20.0])
    loss = occupancy_loss(logit, FOUND, TARGET, focal=False)
    entropy = math.log(2) - 2 * math.log(0.75)
    assert loss.total.item() == pytest.approx((entropy + 1) / 2, rel=1e-5)
    focal = occupancy_loss(logit, FOUND, TARGET, focal=True)
    entropy = 0.25 * math.log(2) - 2 * 0.0625 * math.log(0.75)
    assert focal.terms["occupancy"].item() == pytest.approx(entropy / 2, rel=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_active_or_no_candidate_is_no_trouble(count: int) -> None:
    none, balance = torch.zeros(count), torch.zeros(2, requires_grad=True)
    found = torch.zeros(count, requires_grad=True)
    squared = squared_loss(found, none, balance, over_all=True).total
    occupied = occupancy_loss(found - 50, found, none, focal=False).total
    (squared + occupied).backward()
    assert squared.item() == 0
    assert occupied.item() == pytest.approx(0, abs=1e-6)
