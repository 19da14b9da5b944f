"""Embedding: the raw outputs of the two branches as position, margin and seediness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.networks.uresnet import UResNet

NARROWEST = 1e-6
"""Least value of the margin's sigmoid: float32 reaches 0, where a kernel has no width."""


def embedding_branches(axes: int) -> dict[str, int]:
    """Branch "embedding": an offset an axis and the margin; branch "seediness": one channel."""
    return {"embedding": axes + 1, "seediness": 1}


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where each voxel points to (Koh et al. 2020, II.1).

    Attributes:
        position: tanh(offset) + x / (L/2) - 1, so that the image spans -1 to 1.
        margin: 2 · sigmoid, never below 2e-6: the width of the voxel's kernel.
        seediness: sigmoid, in (0, 1): how good a seed the voxel is.
    """

    position: Float[Tensor, "voxel axis"]
    margin: Float[Tensor, " voxel"]
    seediness: Float[Tensor, " voxel"]

    @staticmethod
    def of(
        outputs: dict[str, Tensor],
        coords: Int[Tensor, "voxel axis"],
        shape: tuple[int, ...],
        widest: float = 2.0,
    ) -> Embedding:
        """Koh II.1, from the raw outputs; without a seediness branch the seediness is 0.

        `widest` is the factor of the margin's sigmoid, 2 in the paper.
        """
        half = torch.tensor(shape, dtype=torch.float32, device=coords.device) / 2
        raw = outputs["embedding"].float()
        seediness = raw.new_zeros(len(raw))
        if "seediness" in outputs:
            seediness = torch.sigmoid(outputs["seediness"].float()[:, 0])
        return Embedding(
            position=torch.tanh(raw[:, :-1]) + coords / half - 1,
            margin=widest * torch.sigmoid(raw[:, -1]).clamp(min=NARROWEST),
            seediness=seediness,
        )


def own_head(
    outputs: Float[Tensor, "voxel heads"], semantic: Int[Tensor, " voxel"]
) -> Float[Tensor, "voxel channel"]:
    """Of the outputs of all classes, class by class, those of each voxel's own.

    Classes are clustered apart from each other, so nothing asks them to share one embedding. A
    voxel without a class takes the first; it joins no cluster.
    """
    heads = outputs.view(len(outputs), len(ParticleClass), -1)
    own: Tensor = heads[torch.arange(len(outputs), device=outputs.device), semantic.clamp(min=0)]
    return own


def init_embedding(
    network: UResNet,
    margin: float,
    offset_scale: float,
    widest: float = 2.0,
    heads: int = 1,
) -> None:
    """Begin with small offsets and a given margin, so that a voxel starts at its own place.

    Args:
        network: with the branches of `embedding_branches`.
        margin: the margin every voxel begins with, below `widest`.
        offset_scale: factor on the initial weights of the offsets and the margin.
        widest: factor of the margin's sigmoid.
        heads: how often the branches are there, once or once a class.
    """
    out = network.decoders["embedding"].out
    if not isinstance(out, nn.Linear):
        raise TypeError("the embedding branch does not end in a linear layer")
    with torch.no_grad():
        out.weight.mul_(offset_scale)
        out.bias.zero_()
        channels = out.out_features // heads
        out.bias[channels - 1 :: channels] = math.log(margin / (widest - margin))
