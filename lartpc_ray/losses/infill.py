"""The losses of infill: the activity and the energy of the voxels of a dead region."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lartpc_ray.losses.loss import Loss
from lartpc_ray.losses.mask import FOCUS

InfillForm = Literal["squared", "squared_mean", "bce", "focal"]
Values = Float[Tensor, " candidate"]


def squared_loss(
    predicted: Values, target: Values, balance: Float[Tensor, 2], *, over_all: bool
) -> Loss:
    """Compute w1 S(target != 0) + w0 S(target = 0), S the squared error (LArDRIP).

    (w1, w0) = softmax(balance). S is divided by the number of all candidates (the numel of the mask
    in the source), or by the number of candidates in its sum.

    Args:
        predicted, target: of each candidate, in the same unit.
        balance: learned logits of the two weights.
        over_all: divide by all candidates.

    Returns:
        the loss; 0, with a gradient of 0, without candidates.
    """
    active = target != 0
    error = (predicted - target).square()
    hit, empty = (_share(error, mask, over_all) for mask in (active, ~active))
    weight = torch.softmax(balance, dim=0)
    terms = {"hit": hit, "empty": empty, "weight_hit": weight[0]}
    total = weight[0] * hit + weight[1] * empty
    return Loss(total, {name: value.detach() for name, value in terms.items()})


def occupancy_loss(logit: Values, predicted: Values, target: Values, *, focal: bool) -> Loss:
    """Sum the cross-entropy of "active" and the squared energy error of active candidates.

    Both are divided by the number of active candidates, as Lin et al. 2017 do, because the empty
    candidates are a hundred times as many. `focal` multiplies the entropy by (1 - p of the truth)².

    Args:
        logit: of a candidate being active.
        predicted, target: energies in the same unit.
        focal: give less weight to candidates that are already right.
    """
    active = target != 0
    entropy = functional.binary_cross_entropy_with_logits(logit, active.to(logit), reduction="none")
    if focal:
        entropy = (1 - torch.exp(-entropy)) ** FOCUS * entropy
    count = active.sum().clamp(min=1)
    occupancy = entropy.sum() / count
    hit = _share((predicted - target).square(), active, over_all=False)
    terms = {"occupancy": occupancy.detach(), "hit": hit.detach()}
    return Loss(occupancy + hit, terms)


def _share(error: Values, mask: Bool[Tensor, " candidate"], over_all: bool) -> Float[Tensor, ""]:
    count = len(error) if over_all else int(mask.sum())
    return error[mask].sum() / max(1, count)
