"""UResNet: one encoder, a decoder per branch, in any dimension and on any engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lartpc_ray.networks.batchnorm import Norm
from lartpc_ray.settings import Settings
from lartpc_ray.sparse import (
    CHUNK,
    CpuKernels,
    Engine,
    EngineName,
    GpuKernels,
    SparseTensor,
    engine,
)

LEAK = 0.33


class NetworkSettings(Settings):
    """The architecture; Koh et al. 2020 state 32 filters and depth 6."""

    engine: Literal["auto", EngineName] = Field(
        default="auto", description="of sparse convolutions; auto takes native"
    )
    depth: int = Field(default=7, ge=2, le=8, description="resolutions, the input's included")
    filters: PositiveInt = Field(default=32, description="at the first level; level l has (l+1)×")
    blocks: PositiveInt = Field(default=2, description="residual blocks per level")
    chunk: PositiveInt = Field(
        default=CHUNK,
        description="neighbours that native gathers at a time with torch: less memory, or larger "
        "products",
    )
    cpu_kernels: CpuKernels = Field(
        default="llvm",
        description="products of native on CPUs; torch is slower and needs no llvmlite",
    )
    gpu_kernels: GpuKernels = Field(
        default="torch",
        description="products of native on GPUs; triton fuses them with the gathering (not timed)",
    )


class UResNet(nn.Module):
    """U-Net of residual blocks (Dominé & Terao 2020; Koh et al. 2020, Fig. 3).

    Every block is pre-activated: BatchNorm, LeakyReLU, convolution. Filters grow linearly with
    depth.

    Args:
        settings: depth, filters, blocks and engine.
        branches: output channels of each branch by name; each branch has its own decoder.
        axes: 2 or 3.
        inputs: input features per voxel.
        constants: name to the number of learned values that all voxels share; they start at 0.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        branches: dict[str, int],
        *,
        axes: int = 3,
        inputs: int = 1,
        constants: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.engine = engine(
            settings.engine, settings.chunk, settings.cpu_kernels, settings.gpu_kernels
        )
        widths = [settings.filters * (level + 1) for level in range(settings.depth)]
        self.stem = Submanifold(self.engine, axes, inputs, widths[0])
        self.encoder = nn.ModuleList(
            _blocks(self.engine, axes, width, width, settings.blocks) for width in widths
        )
        self.down = nn.ModuleList(
            Activated(Resample(self.engine, "down", axes, fine, coarse), fine)
            for fine, coarse in pairwise(widths)
        )
        self.decoders = nn.ModuleDict(
            {
                name: Decoder(self.engine, axes, widths, settings.blocks, channels)
                for name, channels in branches.items()
            }
        )
        self.constants = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(count)) for name, count in (constants or {}).items()}
        )

    def forward(
        self,
        coords: Int[Tensor, "voxel axis"],
        features: Float[Tensor, "voxel input"],
        shape: tuple[int, ...],
        events: Int[Tensor, " voxel"],
        without: tuple[str, ...] = (),
    ) -> dict[str, Tensor]:
        """Return the output (voxel, channel) of each branch but `without`, and the constants.

        Rows have the order of the given voxels.
        """
        x = self.stem(self.engine.sites(coords, features, shape, events))
        levels = [self.encoder[0](x)]
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            levels.append(blocks(down(levels[-1])))
        outputs: dict[str, Tensor] = {
            name: decoder(levels) for name, decoder in self.decoders.items() if name not in without
        }
        # a copy: data-parallel training finds used parameters through the returned tensors
        return outputs | {name: value.clone() for name, value in self.constants.items()}


class Decoder(nn.Module):
    """From the coarsest level back to the voxels, with the encoder's features of each level."""

    def __init__(
        self, engine: Engine, axes: int, widths: list[int], blocks: int, channels: int
    ) -> None:
        super().__init__()
        self.engine = engine
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(
            Activated(Resample(engine, "up", axes, coarse, fine), coarse) for fine, coarse in pairs
        )
        self.blocks = nn.ModuleList(
            _blocks(engine, axes, 2 * fine, fine, blocks) for fine, _ in pairs
        )
        self.last = Activation(widths[0])
        self.out = nn.Linear(widths[0], channels)

    def forward(self, levels: list[SparseTensor]) -> Float[Tensor, "voxel channel"]:
        x = levels[-1]
        for up, blocks, skip in zip(self.up, self.blocks, levels[-2::-1], strict=True):
            x = up(x)
            x = blocks(skip.with_features(torch.cat([skip.features, x.features], dim=1)))
        out: Tensor = self.out(self.engine.rows(self.last(x)))
        return out


class Submanifold(nn.Module):
    """3^D submanifold convolution."""

    def __init__(self, engine: Engine, axes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.engine = engine
        self.kernel = _kernel(3**axes, inputs, outputs)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return _apply(self.engine.submanifold, x, self.kernel)


class Resample(nn.Module):
    """2^D convolution of stride 2, or its transpose."""

    def __init__(
        self, engine: Engine, way: Literal["down", "up"], axes: int, inputs: int, outputs: int
    ) -> None:
        super().__init__()
        self.apply_engine = engine.down if way == "down" else engine.up
        self.kernel = _kernel(2**axes if way == "down" else 1, inputs, outputs, 2**axes)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return _apply(self.apply_engine, x, self.kernel)


class Activation(nn.Module):
    """BatchNorm and LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm: Norm = Norm(channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        normal = self.norm(x.features)
        return x.with_features(nn.functional.leaky_relu(normal, LEAK, inplace=True))


class Activated(nn.Module):
    """BatchNorm, LeakyReLU, then a convolution."""

    def __init__(self, convolution: nn.Module, channels: int) -> None:
        super().__init__()
        self.activation = Activation(channels)
        self.convolution = convolution

    def forward(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.convolution(self.activation(x))
        return out


class Residual(nn.Module):
    """Two activated convolutions, added to the input or to a linear map of it."""

    def __init__(self, engine: Engine, axes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Activated(Submanifold(engine, axes, inputs, outputs), inputs)
        self.second = Activated(Submanifold(engine, axes, outputs, outputs), outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.second(self.first(x))
        return out.with_features(out.features + self.skip(x.features))


def _blocks(engine: Engine, axes: int, inputs: int, outputs: int, count: int) -> nn.Sequential:
    first = Residual(engine, axes, inputs, outputs)
    return nn.Sequential(
        first, *(Residual(engine, axes, outputs, outputs) for _ in range(count - 1))
    )


def _apply(
    convolve: Callable[[SparseTensor, Tensor], SparseTensor], x: SparseTensor, kernel: Tensor
) -> SparseTensor:
    """Convolve in the precision of `torch.autocast`, which does not reach into an engine."""
    device = x.features.device.type
    if not torch.is_autocast_enabled(device):
        return convolve(x, kernel)
    dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return convolve(x.with_features(x.features.to(dtype)), kernel.to(dtype))


def _kernel(offsets: int, inputs: int, outputs: int, copies: int | None = None) -> nn.Parameter:
    """Draw weights (offset, in, out) of variance 2 / (inputs that meet in one output)."""
    weight = torch.empty(copies or offsets, inputs, outputs)
    if not weight.is_meta:  # a meta tensor has no values; to draw them imports torch's compiler
        nn.init.normal_(weight, std=(2 / (offsets * inputs)) ** 0.5)
    return nn.Parameter(weight)
