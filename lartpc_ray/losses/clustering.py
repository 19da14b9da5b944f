"""The losses of proposal-free clustering (Koh et al. 2020, arXiv:2007.03083, section II)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.losses.loss import Loss
from lartpc_ray.losses.mask import MASKS, MaskName
from lartpc_ray.networks.embedding import Embedding
from lartpc_ray.settings import Settings

CLASSES = len(ParticleClass)
PerVoxel = Int[Tensor, " voxel"]
PerMember = Float[Tensor, " member"]
PerCluster = Float[Tensor, " cluster"]
Scalar = Float[Tensor, ""]


class ClusteringLoss(Settings):
    """The mask loss, and the weights of the terms."""

    mask: MaskName = Field(default="lovasz_hinge", description="Koh II.5 is the Lovász hinge")
    gamma_seediness: NonNegativeFloat = Field(default=1.0, description="gamma1 of Koh II.11")
    gamma_embedding: NonNegativeFloat = Field(default=1.0, description="gamma2 of Koh II.11")
    smoothing: NonNegativeFloat = Field(default=1.0, description="weight of Koh II.6")
    inter: NonNegativeFloat = Field(default=1.0, description="weight of Koh II.7")
    inter_distance: float = Field(default=0.2, gt=0, le=2, description="delta_d of Koh II.7")


@dataclass(frozen=True, eq=False)
class TrueClusters:
    """The true clusters of a batch, class by class and event by event.

    Attributes:
        voxel: the voxels that belong to a cluster.
        own: the cluster of each of these voxels.
        group: the (event, class) of each cluster; clusters of one group compete.
        weight: of each cluster in the batch, summing to 1: averages run over the clusters of a
            class, the classes of an event, and the events.
    """

    voxel: Int[Tensor, " member"]
    own: Int[Tensor, " member"]
    group: Int[Tensor, " cluster"]
    weight: Float[Tensor, " cluster"]

    @staticmethod
    def of(
        event: PerVoxel, semantic: PerVoxel, cluster: PerVoxel, min_voxels: int = 1
    ) -> TrueClusters:
        """Find the clusters, without voxels that have no class, no cluster or too small a one."""
        voxel = torch.nonzero((semantic >= 0) & (cluster >= 0))[:, 0]
        groups_of = event[voxel] * CLASSES + semantic[voxel]
        key = (groups_of << 32) + cluster[voxel]
        clusters, own, sizes = torch.unique(key, return_inverse=True, return_counts=True)
        if min_voxels > 1:
            large = (sizes >= min_voxels)[own]
            voxel = voxel[large]
            clusters, own = torch.unique(key[large], return_inverse=True)
        groups, group = torch.unique(clusters >> 32, return_inverse=True)
        events, of_event = torch.unique(groups // CLASSES, return_inverse=True)
        in_group = torch.bincount(group, minlength=len(groups))[group]
        in_event = torch.bincount(of_event, minlength=len(events))[of_event][group]
        return TrueClusters(voxel, own, group, 1 / (len(events) * in_event * in_group).float())

    def __len__(self) -> int:
        return len(self.group)

    def pairs(self) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
        """Return all (member, cluster) with the cluster in the member's group, sorted by member."""
        return _partners(self.group[self.own], torch.bincount(self.group))

    def mean(self, values: Float[Tensor, member * rest]) -> Float[Tensor, cluster * rest]:
        """Average over the voxels of each cluster."""
        total = values.new_zeros(len(self), *values.shape[1:]).index_add(0, self.own, values)
        count = torch.bincount(self.own, minlength=len(self)).to(values)
        return total / count.view(-1, *[1] * (values.dim() - 1))


def clustering_loss(embedding: Embedding, clusters: TrueClusters, settings: ClusteringLoss) -> Loss:
    """Compute L = gamma1 L_seed + gamma2 (L_mask + L_smooth + L_inter) (Koh II.8, II.11).

    A batch with no cluster gives 0, with a gradient of 0.
    """
    if not len(clusters):
        return Loss(sum(part.sum() * 0 for part in vars(embedding).values()), {})
    position = embedding.position[clusters.voxel]
    margin = embedding.margin[clusters.voxel]
    centre = clusters.mean(position)
    width = clusters.mean(margin)
    member, cluster = clusters.pairs()
    q = exponents(position[member], centre[cluster], width[cluster])
    inside = clusters.own[member] == cluster
    mask = MASKS[settings.mask](q, inside, cluster, len(clusters)) @ clusters.weight
    smooth = smoothing(margin, width, clusters)
    inter = separation(centre, clusters, settings.inter_distance)
    own = torch.exp(-q[inside])
    seed = seediness_loss(embedding.seediness[clusters.voxel], own, clusters)
    shaped = mask + settings.smoothing * smooth + settings.inter * inter
    total = settings.gamma_seediness * seed + settings.gamma_embedding * shaped
    terms = {"mask": mask, "smoothing": smooth, "inter": inter, "seediness": seed}
    return Loss(total, {name: value.detach() for name, value in terms.items()})


def exponents(
    position: Float[Tensor, "pair axis"],
    centre: Float[Tensor, "pair axis"],
    width: Float[Tensor, " pair"],
) -> Float[Tensor, " pair"]:
    """Return q = |f - mu|² / (2 sigma²), so that p = exp(-q) (Koh II.3, II.4)."""
    return (position - centre).square().sum(1) / (2 * width.square())


def smoothing(margin: PerMember, width: PerCluster, clusters: TrueClusters) -> Scalar:
    """Average (sigma_i - sigma~_k)² over each cluster, sigma~ not differentiated (Koh II.6)."""
    spread = (margin - width.detach()[clusters.own]).square()
    return clusters.mean(spread) @ clusters.weight


def separation(
    centre: Float[Tensor, "cluster axis"], clusters: TrueClusters, distance: float
) -> Scalar:
    """Average [2 delta_d - |mu_a - mu_b|]₊² over pairs of clusters of a class (Koh II.7).

    A class with one cluster contributes 0.
    """
    sizes = torch.bincount(clusters.group)
    count = sizes[clusters.group]
    a, b = _partners(clusters.group, sizes)
    a, b = a[a != b], b[a != b]
    gap = (centre[a] - centre[b]).square().sum(1).clamp(min=1e-12).sqrt()
    short = torch.relu(2 * distance - gap).square()
    total = short.new_zeros(len(clusters)).index_add(0, a, short)
    return (total / (count - 1).clamp(min=1)) @ clusters.weight


def seediness_loss(seediness: PerMember, p: PerMember, clusters: TrueClusters) -> Scalar:
    """Average (s_i - p_i)² over each cluster, p of the own kernel, detached (Koh II.9)."""
    return clusters.mean((seediness - p.detach()).square()) @ clusters.weight


def _partners(
    group: Int[Tensor, " row"], sizes: Int[Tensor, " group"]
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Pair each row with every cluster of its group; `sizes` counts the clusters of a group."""
    first, count = torch.cumsum(sizes, 0) - sizes, sizes[group]
    row = torch.repeat_interleave(count)
    start = torch.cumsum(count, 0) - count
    return row, first[group][row] + torch.arange(len(row), device=row.device) - start[row]
