"""Mask losses: each is small if the kernel of a cluster covers the cluster and nothing else.

All take the same pairs (voxel i, cluster k) of one event and class, and return one value per
cluster. The kernel is p_ik = exp(-q_ik) with q_ik = |f_i - mu_k|² / (2 sigma_k²) (Koh et al. 2020,
II.4). The functions take q instead of p, so nothing underflows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Exponent = Float[Tensor, " pair"]
Inside = Bool[Tensor, " pair"]
Owner = Int[Tensor, " pair"]
PerCluster = Float[Tensor, " cluster"]

MaskName = Literal["lovasz_hinge", "bce", "balanced_bce", "soft_dice", "focal"]
FOCUS = 2.0
NEAREST = 1e-6
"""Smallest q in log(1 - exp(-q)), which is infinite at 0."""


def lovasz_hinge(q: Exponent, inside: Inside, owner: Owner, clusters: int) -> PerCluster:
    """Compute the Lovász extension of the Jaccard loss of 1 - (2p - 1)·(±1) (Koh II.5).

    The hinge errors of a cluster are sorted, largest first. The weight of each is the growth of
    the Jaccard loss when its voxel joins the voxels before it (Berman et al. 2018, algorithm 1).
    """
    sign = inside.to(q) * 2 - 1
    error = 1 - (2 * torch.exp(-q) - 1) * sign
    order = torch.argsort(error.detach(), descending=True, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    member = inside[order].to(q)
    owner = owner[order]
    sizes = torch.bincount(owner, minlength=clusters)
    first = torch.cumsum(sizes, 0) - sizes

    def running(values: Tensor) -> Tensor:
        total = torch.cumsum(values.double(), 0)
        before = torch.cat([total.new_zeros(1), total])[first.clamp(max=len(total))]
        return total - before[owner]

    positives = _sum(member, owner, clusters)[owner]
    jaccard = 1 - (positives - running(member)) / (positives + running(1 - member))
    previous = torch.roll(jaccard, 1)
    starts = first[sizes > 0]
    previous[starts] = 0
    gradient = (jaccard - previous).to(q)
    return _sum(torch.relu(error[order]) * gradient, owner, clusters)


def bce(q: Exponent, inside: Inside, owner: Owner, clusters: int) -> PerCluster:
    """Average -[y log p + (1 - y) log(1 - p)] over the voxels of the class."""
    return _mean(_cross_entropy(q, inside), owner, clusters)


def balanced_bce(q: Exponent, inside: Inside, owner: Owner, clusters: int) -> PerCluster:
    """Average the binary cross-entropy over the cluster and over all others, then the two."""
    value = _cross_entropy(q, inside)
    own = _mean(value[inside], owner[inside], clusters)
    other = _mean(value[~inside], owner[~inside], clusters)
    return (own + other) / 2


def soft_dice(q: Exponent, inside: Inside, owner: Owner, clusters: int) -> PerCluster:
    """Compute 1 - 2 sum(p y) / (sum p + sum y)."""
    p = torch.exp(-q)
    member = inside.to(q)
    both = _sum(p * member, owner, clusters)
    return 1 - 2 * both / (_sum(p, owner, clusters) + _sum(member, owner, clusters))


def focal(q: Exponent, inside: Inside, owner: Owner, clusters: int) -> PerCluster:
    """Average cross-entropy times (1 - p of the truth)² over voxels (Lin et al. 2017)."""
    p = torch.exp(-q)
    wrong = torch.where(inside, 1 - p, p)
    return _mean(wrong**FOCUS * _cross_entropy(q, inside), owner, clusters)


MASKS: dict[MaskName, Callable[[Exponent, Inside, Owner, int], PerCluster]] = {
    "lovasz_hinge": lovasz_hinge,
    "bce": bce,
    "balanced_bce": balanced_bce,
    "soft_dice": soft_dice,
    "focal": focal,
}


def _cross_entropy(q: Exponent, inside: Inside) -> Float[Tensor, " pair"]:
    """Return -log p = q inside, -log(1 - p) outside."""
    return torch.where(inside, q, -torch.log(-torch.expm1(-q.clamp(min=NEAREST))))


def _sum(values: Tensor, owner: Tensor, clusters: int) -> PerCluster:
    return values.new_zeros(clusters).index_add(0, owner, values)


def _mean(values: Tensor, owner: Tensor, clusters: int) -> PerCluster:
    """Average over the pairs of each cluster; 0 for a cluster without pairs."""
    count = torch.bincount(owner, minlength=clusters).clamp(min=1)
    return _sum(values, owner, clusters) / count
