"""The default engine: needs torch and numba only; deterministic, 2D and 3D alike.

A voxel's key counts events, then axes with a margin of one, so that a neighbour's key never wraps
round. Keys are sorted once; every level stays sorted. The pairs of neighbours of a level are found
once a batch, sorted by offset, and shared by all layers of that level.

On a CPU a convolution walks along its pairs once (cpu_kernels.py). On a GPU it uses torch in one
of two ways. In thin images (LArTPC tracks fill a fifth of the 27 places, and two of the 8 children
of a coarse site) it gathers the pairs of one offset, multiplies them and adds them to their
targets. In dense images it takes all places of some sites, zeros included, in one product. Both
ways gather at most `chunk` neighbours at a time, which bounds the memory for their features.
Gradients do the same in the other direction. No two numbers are added to one place at a time, so
the same input gives the same bits. Figures are in docs/notes.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor
from torch.nn import functional

from lartpc_ray.sparse.cpu_kernels import KernelTable, together
from lartpc_ray.sparse.engine import Engine, SparseTensor
from lartpc_ray.sparse.neighbours import by_corner, coarsen, neighbours, offset_rows

CROWDED = 0.5
"""Share of the places (neighbours or children) that is filled, above which all are gathered."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which sites a convolution reads (source) for which (target), offset by offset.

    Neighbours within 3^D voxels, the site itself left out; or children and their parent.

    Attributes:
        read, written: of each offset (pair,) sources and targets, both ascending; int32 on a CPU.
        sources: how many sites there are to read.
        targets: how many there are to write.
        own: whether every site is read for itself, too, by the offset in the middle.
    """

    read: Sequence[Int[Tensor, " _"]]
    written: Sequence[Int[Tensor, " _"]]
    sources: int
    targets: int
    includes_self: bool

    @property
    def offsets(self) -> int:
        """3^D or 2^D."""
        return len(self.read)

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Where each offset's pairs begin, and the end of the last."""
        return (0, *accumulate(len(part) for part in self.read))

    @cached_property
    def source(self) -> Int[Tensor, " pair"]:
        """The site that each pair reads."""
        return torch.cat(list(self.read))

    @cached_property
    def target(self) -> Int[Tensor, " pair"]:
        """The site that each pair is for."""
        return torch.cat(list(self.written))

    @cached_property
    def reverse(self) -> Pairs:
        """The same pairs, read the other way."""
        return Pairs(self.written, self.read, self.targets, self.sources, self.includes_self)

    @property
    def is_dense(self) -> bool:
        """Do the neighbours fill so many of the places that gathering all of them is faster?"""
        return self.edges[-1] > CROWDED * self.targets * self.offsets

    @cached_property
    def kernel_table(self) -> KernelTable:
        """The same on a CPU, sites that are read for themselves included."""
        rows = [list(self.read), list(self.written)]
        if self.includes_self:
            includes_self = torch.arange(self.targets, dtype=torch.int32)
            for parts in rows:
                parts[self.offsets // 2] = includes_self
        edges = np.cumsum([0, *(len(part) for part in rows[0])])
        source, target = (torch.cat(parts).int().numpy() for parts in rows)
        return KernelTable(source, target, edges, self.sources, self.targets)

    @cached_property
    def table(self) -> Int32[Tensor, "site offset"]:
        """The neighbour in each place, the site itself included; `sources` where there is none."""
        sizes = torch.tensor(self.edges, device=self.source.device).diff()
        offset = torch.repeat_interleave(torch.arange(self.offsets, device=sizes.device), sizes)
        full = (self.targets, self.offsets)
        table = self.source.new_full(full, self.sources, dtype=torch.int32)
        table[self.target, offset] = self.source.int()
        table[:, self.offsets // 2] = torch.arange(self.targets, device=table.device)
        return table

    def parts(self, chunk: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(offset, source, target) of all pairs, at most `chunk` of one offset at a time.

        In int64, by which torch adds rows on a CPU several times as fast as by int32.
        """
        for offset, rows in enumerate(zip(self.read, self.written, strict=True)):
            for first in range(0, len(rows[0]), chunk):
                source, target = (row[first : first + chunk].long() for row in rows)
                yield offset, source, target


@dataclass(eq=False)
class Level:
    """The sorted sites of one resolution."""

    coords: Int[Tensor, "site axis"]
    event: Int[Tensor, " site"]
    shape: tuple[int, ...]
    order: Tensor | None = None
    finer: Level | None = None

    @cached_property
    def keys(self) -> Int[Tensor, " site"]:
        return _keys(self.coords, self.event, self.shape)

    @cached_property
    def pairs(self) -> Pairs:
        """The neighbours of half the offsets by search; the other half by symmetry."""
        axes = len(self.shape)
        none = self.event.new_empty(0)
        sources: list[Tensor] = [none] * 3**axes
        targets: list[Tensor] = [none] * 3**axes
        for offset, found, here in self._neighbours():
            place = sum((step + 1) * 3**axis for axis, step in enumerate(offset))
            sources[place], targets[place] = found, here
            sources[3**axes - 1 - place], targets[3**axes - 1 - place] = here, found
        sites = len(self.event)
        return Pairs(sources, targets, sites, sites, includes_self=True)

    def _neighbours(self) -> list[tuple[tuple[int, ...], Tensor, Tensor]]:
        """(offset, neighbour, site) for the offsets after (0, ..., 0)."""
        strides, rows = _strides(self.shape), offset_rows(len(self.shape))
        if self.keys.is_cuda:
            offsets = [
                (*lead, step) for lead in rows for step in (-1, 0, 1) if any(lead) or step > 0
            ]
            return [(offset, *_searched(self.keys, offset, strides)) for offset in offsets]
        keys = self.keys.numpy()
        found = together(lambda number: neighbours(keys, strides, rows[number]), len(rows))
        return [
            (offset, torch.from_numpy(other), torch.from_numpy(one))
            for row in found
            for offset, other, one in row
        ]

    @cached_property
    def coarse(self) -> tuple[Level, Int[Tensor, " site"]]:
        """The level of half the resolution, and each site's place in it: parent · 2^D + corner."""
        shape = tuple((side + 1) // 2 for side in self.shape)
        halves = _halved if self.event.is_cuda else _walked
        coords, event, slot = halves(self.coords, self.event, shape)
        return Level(coords, event, shape, finer=self), slot

    @cached_property
    def children(self) -> Pairs:
        """Each site (source) and its parent (target), by corner."""
        level, slot = self.coarse
        corners = 2 ** len(self.shape)
        if slot.is_cuda:
            corner = slot % corners
            order = torch.argsort(corner, stable=True)
            rows = order, slot[order] // corners
            sizes = torch.bincount(corner, minlength=corners)
        else:
            site, parent, counts = map(torch.from_numpy, by_corner(slot.numpy(), corners))
            rows, sizes = (site, parent), counts
        read, written = (row.split(sizes.tolist()) for row in rows)
        return Pairs(read, written, len(slot), len(level.event), includes_self=False)


class NativeEngine(Engine):
    """Sparse convolutions with nothing but torch and numba."""

    def sites(
        self,
        coords: Int[Tensor, "voxel axis"],
        features: Float[Tensor, "voxel channel"],
        shape: tuple[int, ...],
        events: Int[Tensor, " voxel"],
    ) -> SparseTensor:
        keys = _keys(coords, events, shape)
        order = torch.argsort(keys)
        if bool((keys[order].diff() == 0).any()):
            raise ValueError("sites: two voxels of one event are in the same place")
        level = Level(coords[order], events[order], shape, order=order)
        return SparseTensor(features[order], level)

    def submanifold(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        pairs = x.sites.pairs
        if pairs.is_dense and not _tiled(x.features):
            out = _TableConvolution.apply(x.features, weight, pairs, self.chunk)  # type: ignore[no-untyped-call]
            return x.with_features(out)
        return x.with_features(_summed(x.features, weight, pairs, self.chunk))

    def down(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        level, slot = x.sites.coarse
        if not x.sites.children.is_dense or _tiled(x.features):
            return SparseTensor(_summed(x.features, weight, x.sites.children, self.chunk), level)
        offsets, inputs, outputs = weight.shape
        wide = x.features.new_zeros(len(level.coords) * offsets, inputs)
        wide = wide.index_copy(0, slot, x.features)
        features = wide.view(-1, offsets * inputs) @ weight.reshape(offsets * inputs, outputs)
        return SparseTensor(features, level)

    def up(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        if x.sites.finer is None:
            raise ValueError("up: these sites did not come from down")
        children, (_, slot) = x.sites.finer.children, x.sites.finer.coarse
        if not children.is_dense or _tiled(x.features):
            features = _summed(x.features, weight, children.reverse, self.chunk)
            return SparseTensor(features, x.sites.finer)
        offsets, inputs, outputs = weight.shape
        wide = x.features @ weight.permute(1, 0, 2).reshape(inputs, offsets * outputs)
        features = wide.view(-1, outputs).index_select(0, slot)
        return SparseTensor(features, x.sites.finer)

    def rows(self, x: SparseTensor) -> Float[Tensor, "voxel channel"]:
        if x.sites.order is None:
            raise ValueError("rows: only the finest sites have the order of the voxels given")
        back = torch.empty_like(x.sites.order)
        back[x.sites.order] = torch.arange(len(back), device=back.device)
        return x.features.index_select(0, back)


def _summed(x: Tensor, weight: Tensor, pairs: Pairs, chunk: int) -> Tensor:
    """y_t = sum over pairs (t, s) of offset o of x_s W_o, with x_t W_middle where sites read
    themselves."""
    if _tiled(x):
        out: Tensor = _Tiled.apply(x, weight, pairs)  # type: ignore[no-untyped-call]
    else:
        out = _GatherConvolution.apply(x, weight, pairs, chunk)  # type: ignore[no-untyped-call]
    return out


def _tiled(x: Tensor) -> bool:
    return not x.is_cuda


class _Tiled(torch.autograd.Function):
    """`_summed` on a CPU, and its gradients. Half precision is summed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernel_table = pairs.kernel_table
        return pairs.kernel_table.convolve(_full(x), _full(weight)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        table: KernelTable = ctx.kernel_table
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = table.reverse.convolve(_full(grad), _full(weight).mT).to(x.dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = table.weight_gradient(_full(x), _full(grad)).to(weight.dtype)
        return grad_x, grad_weight, None


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _GatherConvolution(torch.autograd.Function):
    """`_summed` by torch's operations, and its gradient by the same sums the other way.

    At most `chunk` pairs of one offset are gathered, multiplied, and added to their targets, so
    memory is bounded. An offset has each target and each source once, ascending: an `index_add_`
    never meets a place twice, and every sum has the order of the offsets, so the same input gives
    the same bits even where a GPU adds atomically. Half precision is summed in float32.
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
    """(site, out) what each site reads of itself, or zeros, for more to be added to."""
    if pairs.includes_self:
        return _full(x @ weight[pairs.offsets // 2])
    return _full(x.new_zeros(sites, weight.shape[2]))


class _TableConvolution(torch.autograd.Function):
    """The same sum, over all places of each site; an empty place adds a row of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs, chunk: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs, ctx.chunk = pairs, chunk
        padded = functional.pad(x, (0, 0, 0, 1))
        flat = weight.flatten(0, 1)
        out = x.new_empty(len(x), weight.shape[2])
        for rows in _chunks(pairs, chunk):
            places = padded.index_select(0, pairs.table[rows].flatten()).view(-1, len(flat))
            torch.mm(places, flat, out=out[rows])
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
            places = padded.index_select(0, opposite[rows].flatten()).view(-1, offsets * outputs)
            grad_weight += x[rows].T @ places
            if grad_x is not None:
                torch.mm(places, back, out=grad_x[rows])
        grad_weight = grad_weight.view(inputs, offsets, outputs).transpose(0, 1)
        return grad_x, grad_weight.to(weight.dtype), None, None


def _chunks(pairs: Pairs, chunk: int) -> list[slice]:
    """Sites that have at most `chunk` places together; at least one a slice."""
    step = max(1, chunk // pairs.offsets)
    return [slice(first, first + step) for first in range(0, pairs.targets, step)]


def _searched(keys: Tensor, offset: tuple[int, ...], strides: list[int]) -> tuple[Tensor, Tensor]:
    """All (other, one) of ascending keys that are this offset apart."""
    wanted = keys + sum(step * stride for step, stride in zip(offset, strides, strict=True))
    place = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
    here = torch.nonzero(keys[place] == wanted)[:, 0]
    return place[here], here


def _halved(coords: Tensor, event: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """What `walk.coarsen` gives, by torch's operations."""
    half, axes = coords >> 1, len(shape)
    keys, parent = torch.unique(_keys(half, event, shape), return_inverse=True)
    any_child = torch.empty_like(keys).scatter_(0, parent, torch.arange(len(half)).to(keys))
    corner = ((coords & 1) << torch.arange(axes, device=half.device)).sum(1)
    return half[any_child], event[any_child], parent * 2**axes + corner


def _walked(coords: Tensor, event: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The same on a CPU."""
    strides = _strides(shape)
    found = coarsen(coords.numpy(), event.numpy(), [strides[0] * (shape[0] + 2), *strides])
    return tuple(torch.from_numpy(part) for part in found)


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Key distance of one step along each axis; the last axis is 1."""
    strides = [1]
    for side in reversed(shape[1:]):
        strides.insert(0, strides[0] * (side + 2))
    return strides


def _keys(coords: Tensor, event: Tensor, shape: tuple[int, ...]) -> Int[Tensor, " site"]:
    strides = _strides(shape)
    keys = event * (strides[0] * (shape[0] + 2))
    for axis, stride in enumerate(strides):
        keys = keys + (coords[:, axis] + 1) * stride
    return keys
