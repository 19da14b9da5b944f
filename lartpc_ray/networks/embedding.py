"""Embedding: position, margin and seediness from the raw outputs of the two branches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.networks.uresnet import UResNet

NARROWEST = 1e-6
"""Least value of the margin's sigmoid, which float32 would round to 0, a kernel without width."""


def embedding_branches(axes: int) -> dict[str, int]:
    """Return the channels: an offset per axis and the margin; the seediness."""
    return {"embedding": axes + 1, "seediness": 1}


@dataclass(frozen=True, eq=False)
class Embedding:
    """The position in the embedding that each voxel points to (Koh et al. 2020, II.1).

    Attributes:
        position: tanh(offset) + x / (L/2) - 1, so that the image spans -1 to 1.
        margin: 2 · sigmoid, never below 2e-6: the width of the voxel's kernel.
        seediness: sigmoid, in (0, 1): the quality of the voxel as a seed.
    """

    position: Float[Tensor, "voxel axis"]
    margin: Float[Tensor, " voxel"]
    seediness: Float[Tensor, " voxel"]

    @staticmethod
    def of(
        outputs: dict[str, Tensor],
        coords: Int[Tensor, "voxel axis"],
        shape: tuple[int, ...],
        max_margin: float = 2.0,
    ) -> Embedding:
        """Compute Koh II.1 from the raw outputs; without a seediness branch the seediness is 0.

        `max_margin` is the factor of the margin's sigmoid, 2 in the paper.
        """
        half = torch.tensor(shape, dtype=torch.float32, device=coords.device) / 2
        raw = outputs["embedding"].float()
        seediness = raw.new_zeros(len(raw))
        if "seediness" in outputs:
            seediness = torch.sigmoid(outputs["seediness"].float()[:, 0])
        return Embedding(
            position=torch.tanh(raw[:, :-1]) + coords / half - 1,
            margin=max_margin * torch.sigmoid(raw[:, -1]).clamp(min=NARROWEST),
            seediness=seediness,
        )


def own_head(
    outputs: Float[Tensor, "voxel heads"], semantic: Int[Tensor, " voxel"]
) -> Float[Tensor, "voxel channel"]:
    """Select the outputs of each voxel's class; the channels are ordered class by class.

    Classes are clustered separately, so each may have an embedding of its own. A voxel without a
    class takes the first class; it joins no cluster.
    """
    heads = outputs.unflatten(1, (len(ParticleClass), -1))  # view cannot divide 0 voxels
    own: Tensor = heads[torch.arange(len(outputs), device=outputs.device), semantic.clamp(min=0)]
    return own


def init_embedding(
    network: UResNet, margin: float, offset_scale: float, max_margin: float = 2.0, heads: int = 1
) -> None:
    """Set small offsets and one margin, so that each voxel starts at its position in the image.

    Args:
        network: with the branches of `embedding_branches`.
        margin: the first margin of every voxel, below `max_margin`.
        offset_scale: factor on the initial weights of the offsets and the margin.
        max_margin: factor of the margin's sigmoid.
        heads: copies of the branches: 1, or one per class.
    """
    out = network.decoders["embedding"].out
    if not isinstance(out, nn.Linear):
        raise TypeError("the embedding branch does not end in a linear layer")
    with torch.no_grad():
        out.weight.mul_(offset_scale)
        out.bias.zero_()
        channels = out.out_features // heads
        out.bias[channels - 1 :: channels] = math.log(margin / (max_margin - margin))
