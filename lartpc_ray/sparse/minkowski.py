"""The engine MinkowskiEngine (Choy et al. 2019, arXiv:1904.08755); `make minkowski` builds it.

The only file that imports the library. It uses only the library's functions, because all engines
share one layout of the weights.
"""

from __future__ import annotations

import collections.abc
import os
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lartpc_ray.sparse.engine import Coords, Engine, Events, Rows, Shape, SparseTensor, Weight


@dataclass(frozen=True, eq=False)
class Map:
    """The sites of one resolution, in MinkowskiEngine's coordinate manager.

    Attributes:
        manager: of the batch, with all its coordinate and kernel maps.
        key: of this resolution.
        axes: 2 or 3.
        voxel: the row of each given voxel, at the finest resolution.
        finer: the map that `down` started from.
    """

    manager: Any
    key: Any
    axes: int
    voxel: Int[Tensor, " voxel"] | None = None
    finer: Map | None = None


class MinkowskiEngine(Engine):
    """Sparse convolutions by MinkowskiEngine 0.5.4."""

    precisions = ("float32",)

    @classmethod
    def unavailable_reason(cls) -> str | None:
        if find_spec("MinkowskiEngine") is None:
            return "MinkowskiEngine is not installed; `make minkowski` builds it (about 10 minutes)"
        return None

    def sites(self, coords: Coords, features: Rows, shape: Shape, events: Events) -> SparseTensor:
        library = _library()
        axes = len(shape)
        manager = library.CoordinateManager(D=axes, coordinate_map_type=_kind(features))
        if not len(coords):  # the library cannot hold an empty map
            return SparseTensor(features, Map(manager, None, axes, events))
        index = torch.cat([events[:, None], coords], dim=1).int().contiguous()
        key, (_, voxel) = manager.insert_and_map(index, [1] * axes, "")
        row = voxel if len(voxel) else torch.arange(len(coords), device=coords.device)
        ordered = torch.empty_like(features).index_copy(0, row.long(), features)
        return SparseTensor(ordered, Map(manager, key, axes, row.long()))

    def submanifold(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        return x.with_features(_convolve(x, weight, 3, 1, x.sites.key))

    def down(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        fine: Map = x.sites
        key = None if fine.key is None else fine.manager.stride(fine.key, 2)
        coarse = Map(fine.manager, key, fine.axes, finer=fine)
        return SparseTensor(_convolve(x, weight, 2, 2, key), coarse)

    def up(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        finer: Map = self._finer(x)
        return SparseTensor(_convolve(x, weight, 2, 2, finer.key, transpose=True), finer)

    def _in_order(self, x: SparseTensor) -> Rows:
        return x.features.index_select(0, x.sites.voxel)


def _convolve(
    x: SparseTensor, weight: Tensor, side: int, stride: int, out: Any, *, transpose: bool = False
) -> Tensor:
    if x.sites.key is None:
        return x.features @ weight.sum(0)
    library = _library()
    from MinkowskiEngine.MinkowskiConvolution import ConvolutionMode

    generator = library.KernelGenerator(
        side, stride, is_transpose=transpose, dimension=x.sites.axes
    )
    function = (
        library.MinkowskiConvolutionTransposeFunction
        if transpose
        else library.MinkowskiConvolutionFunction
    )
    features: Tensor = function.apply(
        x.features.contiguous(),
        weight.contiguous(),
        generator,
        ConvolutionMode.DEFAULT,
        x.sites.key,
        out,
        x.sites.manager,
    )
    return features


@cache
def _library() -> Any:
    # the library imports a name that left `collections` with Python 3.10; its OpenBLAS threads
    # compete with torch's own (1.7 times slower)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not hasattr(collections, "Sequence"):
        collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # this file handles the causes of its warnings
        warnings.simplefilter("ignore")
        import MinkowskiEngine
    return MinkowskiEngine


def _kind(features: Tensor) -> Any:
    kinds = _library().CoordinateMapType
    return kinds.CUDA if features.is_cuda else kinds.CPU
