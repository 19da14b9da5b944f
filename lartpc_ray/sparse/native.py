"""The default engine: needs torch and numba only; deterministic, in 2D and in 3D.

Sites are sorted by `voxel_keys` with a margin of one, and every level stays sorted. The engine
finds the pairs of neighbours of a level once per batch, sorted by offset; all layers of the level
share them.

On a CPU one compiled pass along the pairs computes a convolution (cpu_kernels.py), on a GPU with
`gpu_kernels: triton` one kernel (triton_kernels.py). With `torch` torch does it in one of two ways.
In thin images (LArTPC tracks fill a fifth of the 27 neighbours, and two of the 8 children of a
coarse site) it gathers the pairs of one offset, multiplies them and adds them to their targets. In
dense images it takes all neighbours of some sites, zeros included, in one product. Both ways gather
at most `chunk` neighbours at a time, which bounds the memory for their features. Gradients do the
same in the opposite direction. No two numbers are added to one element at a time, so the same input
gives the same bits. Figures are in docs/notes.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Int32
from torch import Tensor
from torch.nn import functional

from lartpc_ray.sparse.engine import Coords, Engine, Events, Rows, Shape, SparseTensor, Weight
from lartpc_ray.sparse.keys import key_strides, voxel_keys

CROWDED = 0.5
"""Filled share of the neighbours, or children, above which all are gathered, zeros included."""
Kernels = Literal["llvm", "torch", "triton"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The sites that a convolution reads (source) for each site (target), offset by offset.

    Pairs join neighbours within 3^D voxels, without the site itself, or children and their parent.

    Attributes:
        read, written: (pair,) sources and targets of each offset, ascending; int32 if compiled.
        sources: number of sites to read.
        targets: number of sites to write.
        includes_self: every site is also read for itself, by the offset in the middle.
    """

    read: Sequence[Int[Tensor, " _"]]
    written: Sequence[Int[Tensor, " _"]]
    sources: int
    targets: int
    includes_self: bool

    @property
    def offsets(self) -> int:
        """Return 3^D or 2^D."""
        return len(self.read)

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Return the first pair of each offset, and the end of the last offset."""
        return (0, *accumulate(len(part) for part in self.read))

    @cached_property
    def source(self) -> Int[Tensor, " pair"]:
        """Return the site that each pair reads."""
        return torch.cat(list(self.read))

    @cached_property
    def target(self) -> Int[Tensor, " pair"]:
        """Return the site that each pair writes."""
        return torch.cat(list(self.written))

    @cached_property
    def reverse(self) -> Pairs:
        """Return the same pairs in the opposite direction."""
        return Pairs(self.written, self.read, self.targets, self.sources, self.includes_self)

    @property
    def is_dense(self) -> bool:
        """Return whether the pairs are so many that it is faster to gather all offsets."""
        return self.edges[-1] > CROWDED * self.targets * self.offsets

    @cached_property
    def kernel_table(self) -> Any:
        """Return the `KernelTable` of the compiled products, with each site's own pair."""
        from lartpc_ray.sparse.cpu_kernels import KernelTable  # llvmlite: with `llvm` only

        rows = self._with_own()
        edges = np.cumsum([0, *(len(part) for part in rows[0])])
        source, target = (torch.cat(parts).int().numpy() for parts in rows)
        return KernelTable(source, target, edges, self.sources, self.targets)

    @cached_property
    def tile_table(self) -> Any:
        """Return the `TileTable` of Triton's products, with each site's own pair."""
        from lartpc_ray.sparse.triton_kernels import make_table  # triton: with `triton` only

        read, written = self._with_own()
        return make_table(read, written, self.sources, self.targets, mirrored=self.includes_self)

    def _with_own(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return `read` and `written`, with each site itself in the middle if it is included."""
        rows = list(self.read), list(self.written)
        if self.includes_self:
            own = torch.arange(self.targets, dtype=torch.int32, device=self.read[0].device)
            rows[0][self.offsets // 2] = rows[1][self.offsets // 2] = own
        return rows

    @cached_property
    def table(self) -> Int32[Tensor, "site offset"]:
        """Return the neighbour at each offset, the site itself included; `sources` for none."""
        sizes = torch.tensor(self.edges, device=self.source.device).diff()
        offset = torch.repeat_interleave(torch.arange(self.offsets, device=sizes.device), sizes)
        full = (self.targets, self.offsets)
        table = self.source.new_full(full, self.sources, dtype=torch.int32)
        table[self.target, offset] = self.source.int()
        table[:, self.offsets // 2] = torch.arange(self.targets, device=table.device)
        return table

    def parts(self, chunk: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (offset, source, target) of all pairs, at most `chunk` of one offset at a time.

        The indices are int64: torch adds rows on a CPU several times as fast as with int32.
        """
        for offset, rows in enumerate(zip(self.read, self.written, strict=True)):
            for first in range(0, len(rows[0]), chunk):
                source, target = (row[first : first + chunk].long() for row in rows)
                yield offset, source, target


@dataclass(eq=False)
class Level:
    """The sorted sites of one resolution; with `llvm` numba searches, otherwise torch."""

    coords: Int[Tensor, "site axis"]
    event: Int[Tensor, " site"]
    shape: tuple[int, ...]
    kernels: Kernels
    order: Tensor | None = None
    finer: Level | None = None

    @cached_property
    def keys(self) -> Int[Tensor, " site"]:
        return voxel_keys(self.coords, self.shape, self.event, margin=1)

    @cached_property
    def pairs(self) -> Pairs:
        """Search the neighbours of half the offsets; the other half follows by symmetry."""
        axes = len(self.shape)
        none = self.event.new_empty(0)
        sources: list[Tensor] = [none] * 3**axes
        targets: list[Tensor] = [none] * 3**axes
        for offset, other, site in self._neighbours():
            number = sum((step + 1) * 3**axis for axis, step in enumerate(offset))
            sources[number], targets[number] = other, site
            sources[3**axes - 1 - number], targets[3**axes - 1 - number] = site, other
        sites = len(self.event)
        return Pairs(sources, targets, sites, sites, includes_self=True)

    def _neighbours(self) -> list[tuple[tuple[int, ...], Tensor, Tensor]]:
        """Return (offset, neighbour, site) for the offsets after (0, ..., 0)."""
        strides, axes = key_strides(self.shape, margin=1), len(self.shape)
        if self.kernels != "llvm":
            half = [offset for offset in product((-1, 0, 1), repeat=axes) if offset > (0,) * axes]
            return [(offset, *_search(self.keys, offset, strides)) for offset in half]
        from lartpc_ray.sparse.cpu_kernels import together
        from lartpc_ray.sparse.neighbours import neighbours, offset_rows

        keys, rows = self.keys.numpy(), offset_rows(axes)
        pairs = together(lambda number: neighbours(keys, strides, rows[number]), len(rows))
        return [
            (offset, torch.from_numpy(other), torch.from_numpy(site))
            for row in pairs
            for offset, other, site in row
        ]

    @cached_property
    def coarse(self) -> tuple[Level, Int[Tensor, " site"]]:
        """Return the level of half the resolution, and each site's slot: parent · 2^D + corner."""
        shape = tuple((side + 1) // 2 for side in self.shape)
        halve = _coarsen_compiled if self.kernels == "llvm" else _coarsen
        coords, event, slot = halve(self.coords, self.event, shape)
        return Level(coords, event, shape, self.kernels, finer=self), slot

    @cached_property
    def children(self) -> Pairs:
        """Return each site (source) and its parent (target), by corner."""
        level, slot = self.coarse
        corners = 2 ** len(self.shape)
        if self.kernels == "llvm":
            from lartpc_ray.sparse.neighbours import by_corner

            site, parent, sizes = map(torch.from_numpy, by_corner(slot.numpy(), corners))
        else:
            corner = slot % corners
            site = torch.argsort(corner, stable=True)
            parent, sizes = slot[site] // corners, torch.bincount(corner, minlength=corners)
        read, written = (row.split(sizes.tolist()) for row in (site, parent))
        return Pairs(read, written, len(slot), len(level.event), includes_self=False)


class NativeEngine(Engine):
    """Sparse convolutions with nothing but torch and numba."""

    def sites(self, coords: Coords, features: Rows, shape: Shape, events: Events) -> SparseTensor:
        keys = voxel_keys(coords, shape, events, margin=1)
        order = torch.argsort(keys)
        if bool((keys[order].diff() == 0).any()):
            raise ValueError("sites: two voxels of one event are in the same place")
        kernels = self._kernels(features.is_cuda)
        level = Level(coords[order], events[order], shape, kernels, order=order)
        return SparseTensor(features[order], level)

    def _kernels(self, gpu: bool) -> Kernels:
        if self.gpu_kernels == "triton" and (gpu or os.environ.get("TRITON_INTERPRET") == "1"):
            return "triton"
        return "torch" if gpu else self.cpu_kernels

    def submanifold(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        pairs = x.sites.pairs
        if pairs.is_dense and x.sites.kernels == "torch":
            out = _TableConvolution.apply(x.features, weight, pairs, self.chunk)  # type: ignore[no-untyped-call]
            return x.with_features(out)
        return x.with_features(self._sum(x, weight, pairs))

    def down(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        level, slot = x.sites.coarse
        if not x.sites.children.is_dense or x.sites.kernels != "torch":
            return SparseTensor(self._sum(x, weight, x.sites.children), level)
        offsets, inputs, outputs = weight.shape
        wide = x.features.new_zeros(len(level.coords) * offsets, inputs)
        wide = wide.index_copy(0, slot, x.features)
        features = wide.view(-1, offsets * inputs) @ weight.reshape(offsets * inputs, outputs)
        return SparseTensor(features, level)

    def up(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        finer = self._finer(x)
        children, (_, slot) = finer.children, finer.coarse
        if not children.is_dense or x.sites.kernels != "torch":
            return SparseTensor(self._sum(x, weight, children, reverse=True), finer)
        offsets, inputs, outputs = weight.shape
        wide = x.features @ weight.permute(1, 0, 2).reshape(inputs, offsets * outputs)
        features = wide.view(-1, outputs).index_select(0, slot)
        return SparseTensor(features, finer)

    def _in_order(self, x: SparseTensor) -> Rows:
        back = torch.empty_like(x.sites.order)
        back[x.sites.order] = torch.arange(len(back), device=back.device)
        return x.features.index_select(0, back)

    def _sum(
        self, x: SparseTensor, weight: Tensor, pairs: Pairs, *, reverse: bool = False
    ) -> Tensor:
        """Compute y_t = sum over pairs (s, t) of offset o of x_s W_o, and x_t W_middle."""
        if x.sites.kernels == "torch":
            pairs = pairs.reverse if reverse else pairs
            out: Tensor = _GatherConvolution.apply(x.features, weight, pairs, self.chunk)  # type: ignore[no-untyped-call]
        else:
            table = pairs.kernel_table if x.sites.kernels == "llvm" else pairs.tile_table
            table = table.reverse if reverse else table
            out = _CompiledConvolution.apply(x.features, weight, table)  # type: ignore[no-untyped-call]
        return out


class _CompiledConvolution(torch.autograd.Function):
    """The sum and its gradients by a `KernelTable` on a CPU, or by a `TileTable` on a GPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, table: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.table = table
        out: Tensor = table.convolve(x, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), table = ctx.saved_tensors, ctx.table
        needs_x, needs_weight, _ = ctx.needs_input_grad
        grad_x = table.reverse.convolve(grad, weight.mT) if needs_x else None
        grad_weight = table.weight_gradient(x, grad).to(weight.dtype) if needs_weight else None
        return grad_x, grad_weight, None


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _GatherConvolution(torch.autograd.Function):
    """The sum by torch's operations, and its gradients by the same sums in the other direction.

    At most `chunk` pairs of one offset are gathered, multiplied and added to their targets, so
    memory is bounded. An offset has each target and each source once, ascending: `index_add_`
    never adds to one row twice, and every sum has the order of the offsets. So the same input gives
    the same bits even on a GPU that adds atomically. Half precision is summed in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs, chunk: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs, ctx.chunk = pairs, chunk
        out = _own(x, weight, pairs, pairs.targets)
        for offset, source, target in pairs.parts(chunk):
            product = x.index_select(0, source) @ weight[offset]
            out.index_add_(0, target, product.to(out.dtype))
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        pairs, middle = ctx.pairs, ctx.pairs.offsets // 2
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _own(grad, weight.mT, pairs, pairs.sources)
        grad_weight = _full(torch.zeros_like(weight))
        if pairs.includes_self:
            grad_weight[middle] += x.T @ grad
        for offset, source, target in pairs.parts(ctx.chunk):
            upstream = grad.index_select(0, target)
            grad_weight[offset] += x.index_select(0, source).T @ upstream
            if grad_x is not None:
                product = upstream @ weight[offset].T
                grad_x.index_add_(0, source, product.to(grad_x.dtype))
        into = None if grad_x is None else grad_x.to(x.dtype)
        return into, grad_weight.to(weight.dtype), None, None


def _own(x: Tensor, weight: Tensor, pairs: Pairs, sites: int) -> Tensor:
    """Return (site, out) the product of each site's own features, or zeros: the first summand."""
    if pairs.includes_self:
        return _full(x @ weight[pairs.offsets // 2])
    return _full(x.new_zeros(sites, weight.shape[2]))


class _TableConvolution(torch.autograd.Function):
    """The same sum over all offsets of each site; a missing neighbour adds a row of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs, chunk: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs, ctx.chunk = pairs, chunk
        padded = functional.pad(x, (0, 0, 0, 1))
        flat = weight.flatten(0, 1)
        out = x.new_empty(len(x), weight.shape[2])
        for rows in _chunks(pairs, chunk):
            gathered = padded.index_select(0, pairs.table[rows].flatten()).view(-1, len(flat))
            torch.mm(gathered, flat, out=out[rows])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        opposite = ctx.pairs.table.flip(1)
        offsets, inputs, outputs = weight.shape
        grad_weight = _full(weight.new_zeros(inputs, offsets * outputs))
        padded = functional.pad(grad, (0, 0, 0, 1))
        back = weight.transpose(1, 2).flatten(0, 1)
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for rows in _chunks(ctx.pairs, ctx.chunk):
            gathered = padded.index_select(0, opposite[rows].flatten()).view(-1, offsets * outputs)
            grad_weight += x[rows].T @ gathered
            if grad_x is not None:
                torch.mm(gathered, back, out=grad_x[rows])
        grad_weight = grad_weight.view(inputs, offsets, outputs).transpose(0, 1)
        return grad_x, grad_weight.to(weight.dtype), None, None


def _chunks(pairs: Pairs, chunk: int) -> list[slice]:
    """Return slices of sites with at most `chunk` neighbours, and at least one site each."""
    step = max(1, chunk // pairs.offsets)
    return [slice(first, first + step) for first in range(0, pairs.targets, step)]


def _search(keys: Tensor, offset: tuple[int, ...], strides: list[int]) -> tuple[Tensor, Tensor]:
    """Return all (other, site) of ascending keys that are this offset apart."""
    wanted = keys + sum(step * stride for step, stride in zip(offset, strides, strict=True))
    other = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
    site = torch.nonzero(keys[other] == wanted)[:, 0]
    return other[site], site


def _coarsen(coords: Tensor, event: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return the result of `neighbours.coarsen`, by torch's operations."""
    half, axes = coords >> 1, len(shape)
    keys, parent = torch.unique(voxel_keys(half, shape, event, margin=1), return_inverse=True)
    any_child = torch.empty_like(keys).scatter_(0, parent, torch.arange(len(half)).to(keys))
    corner = ((coords & 1) << torch.arange(axes, device=half.device)).sum(1)
    return half[any_child], event[any_child], parent * 2**axes + corner


def _coarsen_compiled(coords: Tensor, event: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    from lartpc_ray.sparse.neighbours import coarsen

    strides = key_strides((0, *shape), margin=1)  # the first one is that of an event
    return tuple(map(torch.from_numpy, coarsen(coords.numpy(), event.numpy(), strides)))
