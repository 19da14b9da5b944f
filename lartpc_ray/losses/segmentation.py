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
    """Compute the softmax cross-entropy of the voxels with a known class.

    Args:
        logits: one channel per class.
        semantic: the true class, -1 unknown.
        weight: of each voxel.
        event: of each voxel.
        reduction: `event_mean`: mean over an event's voxels, then over the events (Dominé & Terao
            2020); `sum`: sum over the voxels of an event, mean over the events (SparseSSNet).

    Returns:
        the loss; 0, with a gradient of 0, for a batch without known voxels.
    """
    known = torch.nonzero(semantic >= 0)[:, 0]
    if not len(known):
        return logits.sum() * 0
    entropy = functional.cross_entropy(logits[known].float(), semantic[known], reduction="none")
    events, of_event = torch.unique(event[known], return_inverse=True)
    total = entropy.new_zeros(len(events)).index_add(0, of_event, entropy * weight[known])
    if reduction == "event_mean":
        total = total / torch.bincount(of_event, minlength=len(events))
    return total.mean()
