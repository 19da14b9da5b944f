"""The native engine's sums on CPUs: out_t += x_s W_o for all pairs (s, t) of every offset o.

Gathering rows, multiplying them and summing the products one after the other sends each of them
through memory. Here a tile of some pairs and channels stays in registers while it runs along the
inputs: rows are read where they lie, and added where they belong. numba has no vectors, so tiles
are written in LLVM's, which become the registers of whatever CPU there is. Figures: docs/notes.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional


def _has_avx512() -> bool:
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # LLVM does not know this CPU's
        return False


WIDER = _has_avx512()
ROWS = 8 if WIDER else 4
"""Pairs, or inputs, of a tile: as many sums as registers hold."""
SOME = ROWS // 2
"""What a tile has of those that are left."""
LANES = 16
"""Channels of a tile, or twice as many; what they are multiplied with is filled up with zeros."""
BLOCK = 1024
"""Targets, or pairs, until it is the next offset's turn: what they take stays in the cache."""
SHARE = 2048
"""Targets that are worth a thread."""
WORD = ir.IntType(64)
build: Any = cgutils
Result = TypeVar("Result")


class _Rows:
    """A two- or three-dimensional array within generated code; its last axis is contiguous."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, lanes: int) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder = builder
        self.data = array.data
        self.shape = build.unpack_tuple(builder, array.shape)
        self.element = context.get_data_type(kind.dtype)
        self.vector = ir.VectorType(self.element, lanes)
        self.bytes = kind.dtype.bitwidth // 8

    def at(self, *place: Any) -> Any:
        """The address of an element, counted in any number of the last axes."""
        found = place[0]
        for index, size in zip(
            place[1:], self.shape[len(self.shape) - len(place) + 1 :], strict=True
        ):
            found = self.builder.add(self.builder.mul(found, size), index)
        return self.builder.gep(self.data, [found])

    def index(self, place: Any) -> Any:
        """An element that is an index."""
        return self.builder.sext(self.builder.load(self.at(place)), WORD)

    def load(self, *place: Any) -> Any:
        """As many channels as the tile has lanes."""
        address = self.builder.bitcast(self.at(*place), self.vector.as_pointer())
        return self.builder.load(address, align=self.bytes)

    def add(self, value: Any, *place: Any) -> None:
        """The same, added to what is there."""
        address = self.builder.bitcast(self.at(*place), self.vector.as_pointer())
        total = self.builder.fadd(self.builder.load(address, align=self.bytes), value)
        self.builder.store(total, address, align=self.bytes)

    def spread(self, *place: Any) -> Any:
        """One element in all lanes."""
        none = ir.Constant(self.vector, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), None)
        one = self.builder.load(self.at(*place))
        first = self.builder.insert_element(none, one, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, none, lanes)


def _sums(rows: Sequence[Any], builder: Any, of: _Rows) -> tuple[list[Any], Callable[..., None]]:
    """A sum a row, 0 at first, and what adds a product to one of them: they stay in registers."""
    sums = [build.alloca_once_value(builder, ir.Constant(of.vector, None)) for _ in rows]
    name = f"llvm.fmuladd.v{of.vector.count}f{8 * of.bytes}"
    kind = ir.FunctionType(of.vector, [of.vector] * 3)
    multiply_add = build.get_or_insert_function(builder.module, kind, name)

    def add(row: int, a: Any, b: Any) -> None:
        total = builder.call(multiply_add, [a, b, builder.load(sums[row])])
        builder.store(total, sums[row])

    return sums, add


def _product(rows: int, lanes: int) -> Any:
    """out_t += x_s W_o of `rows` pairs from `pair` on, in `lanes` channels from `channel` on."""

    @intrinsic
    def tile(
        typing: Any, out: Any, x: Any, weight: Any, source: Any, target: Any, offset: Any,
        pair: Any, channel: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(out, x, weight, source, target, *[types.intp] * 3)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kinds = zip(signature.args[:5], given[:5], strict=True)
            sum_, read, factor, of, to = (_Rows(context, builder, *one, lanes) for one in kinds)
            offset, pair, channel = given[5:]
            places = [builder.add(pair, WORD(row)) for row in range(rows)]
            sources, targets = [of.index(one) for one in places], [to.index(one) for one in places]
            sums, add = _sums(places, builder, sum_)
            with build.for_range(builder, read.shape[1]) as loop:
                values = factor.load(offset, loop.index, channel)
                for row, one in enumerate(sources):
                    add(row, read.spread(one, loop.index), values)
            for one, total in zip(targets, sums, strict=True):
                sum_.add(builder.load(total), one, channel)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _outer(rows: int, lanes: int) -> Any:
    """out_o += x_s^T y_t over pairs, of `rows` inputs and `lanes` channels."""

    @intrinsic
    def tile(
        typing: Any, out: Any, x: Any, y: Any, source: Any, target: Any, offset: Any,
        first: Any, last: Any, row: Any, channel: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(out, x, y, source, target, *[types.intp] * 5)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            kinds = zip(signature.args[:5], given[:5], strict=True)
            sum_, read, factor, of, to = (_Rows(context, builder, *one, lanes) for one in kinds)
            offset, first, last, row, channel = given[5:]
            inputs = [builder.add(row, WORD(place)) for place in range(rows)]
            sums, add = _sums(inputs, builder, sum_)
            with build.for_range_slice(builder, first, last, WORD(1), inc=True) as (pair, _):
                here, values = of.index(pair), factor.load(to.index(pair), channel)
                for place, one in enumerate(inputs):
                    add(place, read.spread(here, one), values)
            for one, total in zip(inputs, sums, strict=True):
                sum_.add(builder.load(total), offset, one, channel)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _columns(lanes: int) -> tuple[Any, Any]:
    """`lanes` channels of all pairs from `first` to `last`: their products, and their gradients."""
    many, some, one = (_product(rows, lanes) for rows in (ROWS, SOME, 1))
    many_outer, some_outer, one_outer = (_outer(rows, lanes) for rows in (ROWS, SOME, 1))

    def products(out, x, weight, source, target, offset, first, last, channel):  # type: ignore[no-untyped-def]
        while first + ROWS <= last:
            many(out, x, weight, source, target, offset, first, channel)
            first += ROWS
        if first + SOME <= last:
            some(out, x, weight, source, target, offset, first, channel)
            first += SOME
        while first < last:
            one(out, x, weight, source, target, offset, first, channel)
            first += 1

    def outers(out, x, y, source, target, offset, first, last, channel):  # type: ignore[no-untyped-def]
        row, rows = 0, x.shape[1]
        while row + ROWS <= rows:
            many_outer(out, x, y, source, target, offset, first, last, row, channel)
            row += ROWS
        if row + SOME <= rows:
            some_outer(out, x, y, source, target, offset, first, last, row, channel)
            row += SOME
        while row < rows:
            one_outer(out, x, y, source, target, offset, first, last, row, channel)
            row += 1

    return njit(nogil=True)(products), njit(nogil=True)(outers)


def _all_columns(narrow: Any, wide: Any) -> Any:
    """All channels, a multiple of LANES."""

    def run(out, x, y, source, target, offset, first, last):  # type: ignore[no-untyped-def]
        channel, channels = 0, y.shape[y.ndim - 1]
        while WIDER and channel + 2 * LANES <= channels:
            wide(out, x, y, source, target, offset, first, last, channel)
            channel += 2 * LANES
        while channel < channels:
            narrow(out, x, y, source, target, offset, first, last, channel)
            channel += LANES

    return njit(nogil=True)(run)


_add_products, _add_outers = map(_all_columns, _columns(LANES), _columns(2 * LANES))


@njit(cache=True, nogil=True)
def _convolve(out, x, weight, source, target, edges, first, last):  # type: ignore[no-untyped-def]
    """The targets from `first` to `last`."""
    offsets = len(edges) - 1
    begin = np.empty(offsets, np.int64)
    for offset in range(offsets):
        part = target[edges[offset] : edges[offset + 1]]
        begin[offset] = edges[offset] + np.searchsorted(part, first)
    while first < last:
        until = min(first + BLOCK, last)
        out[first:until] = 0
        for offset in range(offsets):
            end = begin[offset]
            while end < edges[offset + 1] and target[end] < until:
                end += 1
            _add_products(out, x, weight, source, target, offset, begin[offset], end)
            begin[offset] = end
        first = until


@njit(cache=True, nogil=True)
def _gradient(out, x, y, source, target, edges, first, last):  # type: ignore[no-untyped-def]
    """The offsets from `first` to `last`."""
    for offset in range(first, last):
        pair = edges[offset]
        while pair < edges[offset + 1]:
            until = min(pair + BLOCK, edges[offset + 1])
            _add_outers(out, x, y, source, target, offset, pair, until)
            pair = until


@dataclass(frozen=True, eq=False)
class KernelTable:
    """The pairs of a convolution.

    Attributes:
        source, target: (pair,) the site that is read and that is written, both ascending within an
            offset.
        edges: where each offset's pairs begin, and the end of the last.
        sources, targets: how many sites there are.
    """

    source: Int32[np.ndarray, " pair"]
    target: Int32[np.ndarray, " pair"]
    edges: Int[np.ndarray, " edge"]
    sources: int
    targets: int

    def convolve(
        self, x: Float[Tensor, "source in"], weight: Float[Tensor, offset in out]
    ) -> Float[Tensor, "target out"]:
        """out_t = sum over pairs (s, t) of offset o of x_s W_o.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        if (len(x), len(weight), x.shape[1]) != (self.sources, self._offsets, weight.shape[1]):
            raise ValueError(
                f"x {tuple(x.shape)}, weight {tuple(weight.shape)}: for {self.sources} sites and "
                f"{self._offsets} offsets"
            )
        _same_type(x, weight)
        channels = weight.shape[2]
        weight = _filled(weight)
        out = x.new_empty(self.targets, weight.shape[2])
        rows = out.numpy(), x.contiguous().numpy(), weight.numpy()
        pairs = self.source, self.target, self.edges
        parts = min(torch.get_num_threads(), 1 + self.targets // SHARE)
        _in_parts(lambda first, last: _convolve(*rows, *pairs, first, last), self.targets, parts)
        return out[:, :channels].contiguous()

    def weight_gradient(
        self, x: Float[Tensor, "source in"], grad: Float[Tensor, "target out"]
    ) -> Float[Tensor, offset in out]:
        """out_o = sum over pairs (s, t) of offset o of x_s^T grad_t.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        if (len(x), len(grad)) != (self.sources, self.targets):
            raise ValueError(
                f"{len(x)}, {len(grad)} rows: for {self.sources}, {self.targets} sites"
            )
        _same_type(x, grad)
        offsets = self._offsets
        channels = grad.shape[1]
        grad = _filled(grad)
        out = x.new_zeros(offsets, x.shape[1], grad.shape[1])
        rows = out.numpy(), x.contiguous().numpy(), grad.numpy()
        pairs = self.source, self.target, self.edges
        parts = offsets if torch.get_num_threads() > 1 and self.targets > SHARE else 1
        _in_parts(lambda first, last: _gradient(*rows, *pairs, first, last), offsets, parts)
        return out[:, :, :channels].contiguous()

    @property
    def _offsets(self) -> int:
        return len(self.edges) - 1

    @cached_property
    def reverse(self) -> KernelTable:
        """The same pairs, read the other way."""
        return KernelTable(self.target, self.source, self.edges, self.targets, self.sources)


def _same_type(a: Tensor, b: Tensor) -> None:
    if a.dtype != b.dtype:
        raise ValueError(f"{a.dtype} and {b.dtype}: must be one type")


def _filled(x: Tensor) -> Tensor:
    """Zeros behind the channels, up to a multiple of LANES."""
    missing = -x.shape[-1] % LANES
    return (functional.pad(x, (0, missing)) if missing else x).contiguous()


def _in_parts(work: Callable[[int, int], None], count: int, parts: int) -> None:
    """Work from 0 to `count` in parts, as many at a time as torch has threads."""
    ends = [count * part // parts for part in range(parts + 1)]
    together(lambda part: work(ends[part], ends[part + 1]), parts)


def together(work: Callable[[int], Result], count: int) -> list[Result]:
    """The work of each number below `count`, as many at a time as torch has threads."""
    threads = min(torch.get_num_threads(), count)
    if threads < 2 or getattr(_thread, "helps", False):
        return [work(number) for number in range(count)]
    helpers = _pool(os.getpid(), torch.get_num_threads() - 1)
    others = {n: helpers.submit(work, n) for n in range(count) if n % threads}
    own = {n: work(n) for n in range(0, count, threads)}  # this thread works, too
    return [own[n] if n in own else others[n].result() for n in range(count)]


_thread = threading.local()


def _helps() -> None:
    """A helper's own work is not shared: it would wait for helpers that wait for it."""
    _thread.helps = True


@cache
def _pool(process: int, helpers: int) -> ThreadPoolExecutor:
    """Of this process: threads do not outlive a fork."""
    return ThreadPoolExecutor(helpers, f"tiles-{process}", _helps)
