"""The engine spconv, by spconv-triton: kernels for GPUs only.

The only file that imports the library (https://github.com/L-Reichardt/spconv-triton). spconv itself
is no choice: on CPUs its results are wrong with two threads, without an error, and its GPU builds
are no longer maintained. The library sums in float32 unless SPCONV_ALLOW_FP16_ACCUM=1 is in the
environment. It tunes its kernels by timing, so the last bits may differ from run to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lartpc_ray.sparse.engine import Coords, Engine, Events, Rows, Shape, SparseTensor, Weight


@dataclass(frozen=True, eq=False)
class Pairs:
    """The sites that a convolution reads for each site, in the form of the library's kernels.

    Attributes:
        forward, backward: (offset, site) the site to read at each offset, -1 none; and the
            opposite direction.
        masks: for each direction the filled offsets of each site, and the order of sites by them.
        targets: number of sites to write.
        words: the bits of the masks that count.
    """

    forward: Tensor
    backward: Tensor
    masks: tuple[tuple[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]
    targets: int
    words: list[Any]

    def reversed(self, targets: int) -> Pairs:
        """Return the same pairs in the opposite direction."""
        return Pairs(self.backward, self.forward, self.masks[::-1], targets, self.words)


@dataclass(frozen=True, eq=False)
class Sites:
    """The sites of one resolution.

    Attributes:
        index: (site, 1 + axis) event and coordinates.
        shape: of the image, made even so that every site has a parent.
        events: number of events.
        finer: the sites that `down` started from.
    """

    index: Int[Tensor, "site column"]
    shape: tuple[int, ...]
    events: int
    finer: Sites | None = None

    @cached_property
    def neighbours(self) -> Pairs:
        return self._pairs(3, 1, 1)[1]

    @cached_property
    def coarse(self) -> tuple[Sites, Pairs]:
        """Return the level of half the resolution, and the pairs of children and parents."""
        index, pairs = self._pairs(2, 2, 0)
        halves = tuple(side // 2 for side in self.shape)
        return Sites(index, _even(halves), self.events, finer=self), pairs

    def _pairs(self, side: int, stride: int, padding: int) -> tuple[Tensor, Pairs]:
        axes = len(self.shape)
        if not len(self.index):  # the library refuses an empty image
            none = self.index.new_empty(side**axes, 0)
            return self.index, Pairs(none, none, (([], []), ([], [])), 0, [])
        ops = _library().ops
        index, _, forward, backward, *masks, words = ops.get_indice_pairs_implicit_gemm(
            self.index, self.events, list(self.shape), ops.ConvAlgo.MaskImplicitGemm,
            [side] * axes, [stride] * axes, [padding] * axes, [1] * axes, [0] * axes,
            subm=stride == 1, is_train=True,
        )  # fmt: skip
        both = (masks[0], masks[2]), (masks[1], masks[3])
        return index, Pairs(forward, backward, both, len(index), words)


class SpconvEngine(Engine):
    """Sparse convolutions by spconv-triton."""

    needs_gpu = True

    @classmethod
    def unavailable_reason(cls) -> str | None:
        if not torch.cuda.is_available():
            return "spconv-triton needs a GPU, and torch sees none here; take engine native"
        if find_spec("spconv_triton") is None:
            return "spconv-triton is not installed; pip install 'lartpc-ray[spconv]'"
        return None

    def sites(self, coords: Coords, features: Rows, shape: Shape, events: Events) -> SparseTensor:
        index = torch.cat([events[:, None], coords], dim=1).int().contiguous()
        count = int(events.max()) + 1 if len(events) else 1
        return SparseTensor(features, Sites(index, _even(shape), count))

    def submanifold(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        return x.with_features(_convolve(x, weight, 3, x.sites.neighbours, same=True))

    def down(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        coarse, pairs = x.sites.coarse
        return SparseTensor(_convolve(x, weight, 2, pairs), coarse)

    def up(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        finer: Sites = self._finer(x)
        pairs = finer.coarse[1].reversed(len(finer.index))
        return SparseTensor(_convolve(x, weight, 2, pairs), finer)


def _convolve(
    x: SparseTensor, weight: Tensor, side: int, pairs: Pairs, *, same: bool = False
) -> Tensor:
    axes = len(x.sites.shape)
    if not len(x.features):
        return x.features @ weight.sum(0)
    shaped = weight.reshape(*[side] * axes, *weight.shape[1:])  # the last axis is the slowest
    filters = shaped.permute(axes + 1, *range(axes - 1, -1, -1), axes).contiguous()
    (mask, order), (back_mask, back_order) = pairs.masks
    features: Tensor = _library().functional.implicit_gemm(
        x.features, filters, pairs.forward, pairs.backward, mask, back_mask, order, back_order,
        pairs.targets, pairs.words, True, same,
    )  # fmt: skip
    return features


def _even(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side + side % 2 for side in shape)


@cache
def _library() -> Any:
    import spconv_triton.pytorch

    return spconv_triton.pytorch
