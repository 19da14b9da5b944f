"""Cross-entropy over the classes of the voxels, in the two reductions of the sources."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Reduction = Literal["event_mean", "sum"]


def segmentation_loss(
    logits: Float[Tensor, "voxel channel"],
    semantic: Int[Tensor, " voxel"],
    weight: Float[Tensor, " voxel"],
    event: Int[Tensor, " voxel"],
    reduction: Reduction,
) -> Float[Tensor, ""]:
    """Softmax cross-entropy of the voxels whose class is known.

    Args:
        logits: one channel a class.
        semantic: the true class, -1 unknown.
        weight: of each voxel.
        event: whose each voxel is.
        reduction: `event_mean`: mean over an event's voxels, then over the events (Dominé & Terao
            2020); `sum`: sum over the voxels of an event, mean over the events (SparseSSNet).

    Returns:
        the loss; 0, with a gradient of 0, for a batch without known voxels.
    """
    known = torch.nonzero(semantic >= 0)[:, 0]
    if not len(known):
        return logits.sum() * 0
    each = functional.cross_entropy(logits[known].float(), semantic[known], reduction="none")
    events, of_event = torch.unique(event[known], return_inverse=True)
    total = each.new_zeros(len(events)).index_add(0, of_event, each * weight[known])
    if reduction == "event_mean":
        total = total / torch.bincount(of_event, minlength=len(events))
    return total.mean()
