import math

import pytest
import torch

from lartpc_ray.losses.segmentation import segmentation_loss

LOGITS = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, 0.0], [5.0, 5.0]], requires_grad=True)
"""Probabilities (1/2, 1/2), (3/4, 1/4), (1/2, 1/2); the class of the last voxel is unknown."""
SEMANTIC = torch.tensor([0, 0, 1, -1])
EVENT = torch.tensor([0, 0, 1, 1])


def test_mean_over_an_events_voxels_then_over_the_events() -> None:
    found = segmentation_loss(LOGITS, SEMANTIC, torch.ones(4), EVENT, "event_mean")
    wanted = ((math.log(2) + math.log(4 / 3)) / 2 + math.log(2)) / 2
    assert found.item() == pytest.approx(wanted)


def test_weighted_sum_over_an_events_voxels() -> None:
    weight = torch.tensor([2.0, 3.0, 0.5, 9.0])
    found = segmentation_loss(LOGITS, SEMANTIC, weight, EVENT, "sum")
    wanted = (2 * math.log(2) + 3 * math.log(4 / 3) + 0.5 * math.log(2)) / 2
    assert found.item() == pytest.approx(wanted)


def test_no_known_voxel_gives_a_loss_of_zero() -> None:
    unknown = torch.full((4,), -1)
    found = segmentation_loss(LOGITS, unknown, torch.ones(4), EVENT, "event_mean")
    found.backward()
    assert found.item() == 0
    assert LOGITS.grad is not None
    assert not LOGITS.grad.any()
