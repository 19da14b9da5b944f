"""The native engine's sums on CPUs: out_t += x_s W_o for all pairs (s, t) of every offset o.

Separate steps that gather rows, multiply them and sum the products would send each result through
memory. Here a tile of some pairs and channels stays in registers while a loop runs along the
inputs; no row is copied. numba has no vectors, so the tiles use LLVM's vectors, which LLVM maps to
the registers of the CPU. Figures: docs/notes.md.
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
    except RuntimeError:  # LLVM does not know the features of this CPU
        return False


WIDER = _has_avx512()
ROWS = 8 if WIDER else 4
"""Pairs, or inputs, of a tile: the registers hold this many sums."""
SOME = ROWS // 2
"""Rows of the smaller tile for the remaining pairs."""
LANES = 16
"""Channels of a narrow tile, half of a wide one; zeros fill the weights up to a multiple."""
BLOCK = 1024
"""Targets, or pairs, of one offset before the next offset: their rows stay in the cache."""
SHARE = 2048
"""Targets that justify one thread."""
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

    def address(self, *index: Any) -> Any:
        """Return the address of an element; the index may omit the first axes."""
        offset = index[0]
        for step, size in zip(
            index[1:], self.shape[len(self.shape) - len(index) + 1 :], strict=True
        ):
            offset = self.builder.add(self.builder.mul(offset, size), step)
        return self.builder.gep(self.data, [offset])

    def index(self, pair: Any) -> Any:
        """Load an element that is an index."""
        return self.builder.sext(self.builder.load(self.address(pair)), WORD)

    def load(self, *index: Any) -> Any:
        """Load as many channels as the tile has lanes."""
        address = self.builder.bitcast(self.address(*index), self.vector.as_pointer())
        return self.builder.load(address, align=self.bytes)

    def add(self, value: Any, *index: Any) -> None:
        """Add to as many channels as the tile has lanes."""
        address = self.builder.bitcast(self.address(*index), self.vector.as_pointer())
        total = self.builder.fadd(self.builder.load(address, align=self.bytes), value)
        self.builder.store(total, address, align=self.bytes)

    def spread(self, *index: Any) -> Any:
        """Load one element into all lanes."""
        none = ir.Constant(self.vector, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), None)
        element = self.builder.load(self.address(*index))
        first = self.builder.insert_element(none, element, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, none, lanes)


def _sums(rows: Sequence[Any], builder: Any, out: _Rows) -> tuple[list[Any], Callable[..., None]]:
    """Return a sum per row, 0 at first, and a function that adds a product to one of them.

    The sums stay in registers.
    """
    sums = [build.alloca_once_value(builder, ir.Constant(out.vector, None)) for _ in rows]
    name = f"llvm.fmuladd.v{out.vector.count}f{8 * out.bytes}"
    kind = ir.FunctionType(out.vector, [out.vector] * 3)
    multiply_add = build.get_or_insert_function(builder.module, kind, name)

    def add(row: int, a: Any, b: Any) -> None:
        total = builder.call(multiply_add, [a, b, builder.load(sums[row])])
        builder.store(total, sums[row])

    return sums, add


def _product(rows: int, lanes: int) -> Any:
    """Make the tile out_t += x_s W_o, of `rows` pairs and `lanes` channels."""

    @intrinsic
    def tile(
        typing: Any, out: Any, x: Any, weight: Any, source: Any, target: Any, offset: Any,
        pair: Any, channel: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(out, x, weight, source, target, *[types.intp] * 3)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            out, x, weight, source, target = _arrays(context, builder, signature, given, lanes)
            offset, pair, channel = given[5:]
            pairs = [builder.add(pair, WORD(row)) for row in range(rows)]
            sources, targets = [source.index(p) for p in pairs], [target.index(p) for p in pairs]
            sums, add = _sums(pairs, builder, out)
            with build.for_range(builder, x.shape[1]) as loop:
                values = weight.load(offset, loop.index, channel)
                for row, site in enumerate(sources):
                    add(row, x.spread(site, loop.index), values)
            for site, total in zip(targets, sums, strict=True):
                out.add(builder.load(total), site, channel)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _outer(rows: int, lanes: int) -> Any:
    """Make the tile out_o += x_s^T y_t over pairs, of `rows` inputs and `lanes` channels."""

    @intrinsic
    def tile(
        typing: Any, out: Any, x: Any, y: Any, source: Any, target: Any, offset: Any,
        first: Any, last: Any, row: Any, channel: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(out, x, y, source, target, *[types.intp] * 5)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            out, x, y, source, target = _arrays(context, builder, signature, given, lanes)
            offset, first, last, row, channel = given[5:]
            inputs = [builder.add(row, WORD(number)) for number in range(rows)]
            sums, add = _sums(inputs, builder, out)
            with build.for_range_slice(builder, first, last, WORD(1), inc=True) as (pair, _):
                site, values = source.index(pair), y.load(target.index(pair), channel)
                for number, column in enumerate(inputs):
                    add(number, x.spread(site, column), values)
            for column, total in zip(inputs, sums, strict=True):
                out.add(builder.load(total), offset, column, channel)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _arrays(context: Any, builder: Any, signature: Any, given: Any, lanes: int) -> list[_Rows]:
    """Return the first five arguments of a tile."""
    kinds = zip(signature.args[:5], given[:5], strict=True)
    return [_Rows(context, builder, kind, value, lanes) for kind, value in kinds]


def _columns(lanes: int) -> tuple[Any, Any]:
    """Make the products and their gradients of pairs `first` to `last` for `lanes` channels."""
    many, some, single = (_product(rows, lanes) for rows in (ROWS, SOME, 1))
    many_outer, some_outer, single_outer = (_outer(rows, lanes) for rows in (ROWS, SOME, 1))

    def products(out, x, weight, source, target, offset, first, last, channel):  # type: ignore[no-untyped-def]
        while first + ROWS <= last:
            many(out, x, weight, source, target, offset, first, channel)
            first += ROWS
        if first + SOME <= last:
            some(out, x, weight, source, target, offset, first, channel)
            first += SOME
        while first < last:
            single(out, x, weight, source, target, offset, first, channel)
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
            single_outer(out, x, y, source, target, offset, first, last, row, channel)
            row += 1

    return njit(nogil=True)(products), njit(nogil=True)(outers)


def _all_columns(narrow: Any, wide: Any) -> Any:
    """Make the loop over all channels, a multiple of LANES."""

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
    """Compute the targets from `first` to `last`."""
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
    """Compute the offsets from `first` to `last`."""
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
        source, target: (pair,) the site to read and the site to write, both ascending within an
            offset.
        edges: the first pair of each offset, and the end of the last offset.
        sources, targets: numbers of sites.
    """

    source: Int32[np.ndarray, " pair"]
    target: Int32[np.ndarray, " pair"]
    edges: Int[np.ndarray, " edge"]
    sources: int
    targets: int

    def convolve(
        self, x: Float[Tensor, "source in"], weight: Float[Tensor, offset in out]
    ) -> Float[Tensor, "target out"]:
        """Compute out_t = sum over pairs (s, t) of offset o of x_s W_o.

        Half precision is summed in float32.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        if (len(x), len(weight), x.shape[1]) != (self.sources, self._offsets, weight.shape[1]):
            raise ValueError(
                f"x {tuple(x.shape)}, weight {tuple(weight.shape)}: for {self.sources} sites and "
                f"{self._offsets} offsets"
            )
        kind, x, weight = x.dtype, _full(x), _full(weight)
        _same_type(x, weight)
        channels = weight.shape[2]
        weight = _filled(weight)
        out = x.new_empty(self.targets, weight.shape[2])
        rows = out.numpy(), x.contiguous().numpy(), weight.numpy()
        pairs = self.source, self.target, self.edges
        parts = min(torch.get_num_threads(), 1 + self.targets // SHARE)
        _in_parts(lambda first, last: _convolve(*rows, *pairs, first, last), self.targets, parts)
        return out[:, :channels].to(kind).contiguous()

    def weight_gradient(
        self, x: Float[Tensor, "source in"], grad: Float[Tensor, "target out"]
    ) -> Float[Tensor, offset in out]:
        """Compute out_o = sum over pairs (s, t) of offset o of x_s^T grad_t; float32 at least.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        if (len(x), len(grad)) != (self.sources, self.targets):
            raise ValueError(
                f"{len(x)}, {len(grad)} rows: for {self.sources}, {self.targets} sites"
            )
        x, grad = _full(x), _full(grad)
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
        """Return the same pairs in the opposite direction."""
        return KernelTable(self.target, self.source, self.edges, self.targets, self.sources)


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _same_type(a: Tensor, b: Tensor) -> None:
    if a.dtype != b.dtype:
        raise ValueError(f"{a.dtype} and {b.dtype}: must be one type")


def _filled(x: Tensor) -> Tensor:
    """Append zeros to the channels, up to a multiple of LANES."""
    missing = -x.shape[-1] % LANES
    return (functional.pad(x, (0, missing)) if missing else x).contiguous()


def _in_parts(work: Callable[[int, int], None], count: int, parts: int) -> None:
    """Work from 0 to `count` in parts, on as many threads as torch has."""
    ends = [count * part // parts for part in range(parts + 1)]
    together(lambda part: work(ends[part], ends[part + 1]), parts)


def together(work: Callable[[int], Result], count: int) -> list[Result]:
    """Return the work of each number below `count`, done on as many threads as torch has."""
    threads = min(torch.get_num_threads(), count)
    if threads < 2 or getattr(_thread, "helps", False):
        return [work(number) for number in range(count)]
    helpers = _pool(os.getpid(), torch.get_num_threads() - 1)
    others = {n: helpers.submit(work, n) for n in range(count) if n % threads}
    own = {n: work(n) for n in range(0, count, threads)}  # this thread works too
    return [own[n] if n in own else others[n].result() for n in range(count)]


_thread = threading.local()


def _helps() -> None:
    """Mark a helper thread: it works alone, because helpers would wait for each other."""
    _thread.helps = True


@cache
def _pool(process: int, helpers: int) -> ThreadPoolExecutor:
    """Make the threads of this process; a fork does not inherit threads."""
    return ThreadPoolExecutor(helpers, f"tiles-{process}", _helps)
