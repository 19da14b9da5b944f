"""The native engine's sums on GPUs, fused by Triton: out_t = sum over pairs (s, t) of x_s W_o.

Separate steps that gather rows, multiply them and add the products send each of them through the
GPU's memory. Here one program computes some targets and channels. It keeps their sums in registers,
loops over the offsets that these targets have, gathers the rows of an offset and multiplies them
with the weights of that offset (an implicit matrix product; spconv and WarpConvNet have it, too).
It writes each target once, so nothing is added atomically and the same input gives the same bits.

Products are `tl.dot`s of at least 16 x 16 numbers. Half precision is summed in float32. A float32
product has `input_precision="ieee"`: Triton's default, TF32, keeps 10 bits of each factor, so
gradients would differ from those of torch, of a CPU and of the other engines by 1 in 1,000.

No GPU has run this file: Triton's interpreter ran it, and Triton's compiler compiled it for an
H100 (tests/sparse/test_triton_kernels.py).
"""
# Without `from __future__ import annotations`: Triton reads the annotations of a kernel.

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, Int32
from torch import Tensor

from lartpc_ray.sparse.tiles import ROWS, Tiles, block_side, make_tiles

PROGRAMS = 4096
"""Programs of the weights' gradient at most, beyond one per offset and block: 31 per
multiprocessor of an H100."""
LAUNCH = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}


@triton.jit
def _convolve(
    out, x, weight, order, edges, offsets, sources, inputs, outputs,
    in_blocks: tl.constexpr, tile_rows: tl.constexpr, in_side: tl.constexpr,
    out_side: tl.constexpr, sum_type: tl.constexpr,
):  # fmt: skip
    """Compute `out_side` channels of the targets of a tile, by `in_blocks` products per entry."""
    out_blocks = tl.cdiv(outputs, out_side)  # of each tile: only axis 0 has over 65,535 programs
    tile = tl.program_id(0) // out_blocks
    column = tl.program_id(0) % out_blocks * out_side + tl.arange(0, out_side)
    row, inner = tl.arange(0, tile_rows), tl.arange(0, in_side)
    total = tl.zeros((tile_rows, out_side), dtype=sum_type)
    begin, end = tl.load(edges + tile), tl.load(edges + tile + 1)
    for step in range(begin * in_blocks, end * in_blocks):  # one loop: its loads are overlapped
        entry = step // in_blocks
        k = step % in_blocks * in_side + inner
        source = tl.load(sources + entry * tile_rows + row)
        offset = tl.load(offsets + entry).to(tl.int64)
        a = tl.load(
            x + source.to(tl.int64)[:, None] * inputs + k[None, :],
            mask=(source >= 0)[:, None] & (k < inputs)[None, :],
            other=0.0,
        )
        b = tl.load(
            weight + (offset * inputs + k)[:, None] * outputs + column[None, :],
            mask=(k < inputs)[:, None] & (column < outputs)[None, :],
            other=0.0,
        )
        total = tl.dot(a, b, total, input_precision="ieee", out_dtype=sum_type)
    target = tl.load(order + tile.to(tl.int64) * tile_rows + row)
    tl.store(
        out + target.to(tl.int64)[:, None] * outputs + column[None, :],
        total.to(out.dtype.element_ty),
        mask=(target >= 0)[:, None] & (column < outputs)[None, :],
    )


@triton.jit
def _weight_gradient(
    out, x, grad, source, target, edges, inputs, outputs, parts,
    tile_rows: tl.constexpr, in_side: tl.constexpr, out_side: tl.constexpr,
    sum_type: tl.constexpr,
):  # fmt: skip
    """Sum `in_side` x `out_side` numbers of x_s^T grad_t over a part of the pairs of an offset."""
    out_blocks = tl.cdiv(outputs, out_side)
    k = tl.program_id(0) // out_blocks * in_side + tl.arange(0, in_side)
    column = tl.program_id(0) % out_blocks * out_side + tl.arange(0, out_side)
    offset, part = tl.program_id(1), tl.program_id(2)
    begin, last = tl.load(edges + offset), tl.load(edges + offset + 1)
    length = tl.cdiv(tl.cdiv(last - begin, parts), tile_rows) * tile_rows
    begin += part * length
    end = tl.minimum(begin + length, last)
    total = tl.zeros((in_side, out_side), dtype=sum_type)
    for first in range(begin, end, tile_rows):
        pair = first + tl.arange(0, tile_rows)
        site = tl.load(source + pair, mask=pair < end, other=0).to(tl.int64)
        to = tl.load(target + pair, mask=pair < end, other=0).to(tl.int64)
        a = tl.load(
            x + site[:, None] * inputs + k[None, :],
            mask=(pair < end)[:, None] & (k < inputs)[None, :],
            other=0.0,
        )
        b = tl.load(
            grad + to[:, None] * outputs + column[None, :],
            mask=(pair < end)[:, None] & (column < outputs)[None, :],
            other=0.0,
        )
        total = tl.dot(tl.trans(a), b, total, input_precision="ieee", out_dtype=sum_type)
    place = (offset.to(tl.int64) * parts + part) * inputs
    tl.store(
        out + (place + k)[:, None] * outputs + column[None, :],
        total,
        mask=(k < inputs)[:, None] & (column < outputs)[None, :],
    )


@dataclass(frozen=True, eq=False)
class TileTable:
    """The pairs of a convolution.

    Attributes:
        source, target: (pair,) the site to read and the site to write, offset by offset.
        edges: (offset + 1) the first pair of each offset, and the end of the last offset.
        most: the largest number of pairs of an offset.
        tiles, back: of the targets, and of the sources, which the opposite direction writes.
    """

    source: Int32[Tensor, " pair"]
    target: Int32[Tensor, " pair"]
    edges: Int[Tensor, " edge"]
    most: int
    tiles: Tiles
    back: Tiles

    @property
    def reverse(self) -> "TileTable":
        """Return the same pairs in the opposite direction."""
        return replace(
            self, source=self.target, target=self.source, tiles=self.back, back=self.tiles
        )

    def convolve(
        self, x: Float[Tensor, "source in"], weight: Float[Tensor, "offset in out"]
    ) -> Float[Tensor, "target out"]:
        """Compute out_t = sum over pairs (s, t) of offset o of x_s W_o.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        offsets, inputs, outputs = weight.shape
        if x.shape != (self.back.targets, inputs) or offsets != len(self.edges) - 1:
            raise ValueError(
                f"x {tuple(x.shape)}, weight {tuple(weight.shape)}: for {self.back.targets} sites "
                f"and {len(self.edges) - 1} offsets"
            )
        _same_type(x, weight)
        tiles, rows = self.tiles, self.tiles.sources.shape[1]
        k, n = block_side(inputs, x.dtype), block_side(outputs, x.dtype)
        out = x.new_empty(tiles.targets, outputs)
        programs = (len(tiles.edges) - 1) * triton.cdiv(outputs, n)
        if programs:
            with torch.cuda.device_of(x):
                _convolve[(programs,)](
                    out, x.contiguous(), weight.contiguous(),
                    tiles.order, tiles.edges, tiles.offsets, tiles.sources, inputs, outputs,
                    triton.cdiv(inputs, k), rows, k, n, _sum_type(x.dtype), **LAUNCH,
                )  # fmt: skip
        return out

    def weight_gradient(
        self, x: Float[Tensor, "source in"], grad: Float[Tensor, "target out"]
    ) -> Float[Tensor, "offset in out"]:
        """Compute out_o = sum over pairs (s, t) of offset o of x_s^T grad_t.

        The pairs of an offset are summed in parts, and the parts afterwards.

        Raises:
            ValueError: for sizes or types that do not fit.
        """
        if (len(x), len(grad)) != (self.back.targets, self.tiles.targets):
            raise ValueError(
                f"{len(x)}, {len(grad)} rows: for {self.back.targets}, {self.tiles.targets} sites"
            )
        _same_type(x, grad)
        offsets, (inputs, outputs) = len(self.edges) - 1, (x.shape[1], grad.shape[1])
        k, n = block_side(inputs, x.dtype), block_side(outputs, x.dtype)
        blocks = triton.cdiv(inputs, k) * triton.cdiv(outputs, n)
        parts = max(1, min(PROGRAMS // max(1, offsets * blocks), triton.cdiv(self.most, 4 * ROWS)))
        full = torch.promote_types(x.dtype, torch.float32)
        out = x.new_empty(offsets, parts, inputs, outputs, dtype=full)
        if blocks:
            with torch.cuda.device_of(x):
                _weight_gradient[(blocks, offsets, parts)](
                    out, x.contiguous(), grad.contiguous(), self.source, self.target, self.edges,
                    inputs, outputs, parts, ROWS, k, n, _sum_type(x.dtype), **LAUNCH,
                )  # fmt: skip
        return out.sum(1)


def make_table(
    read: Sequence[Int[Tensor, " _"]],
    written: Sequence[Int[Tensor, " _"]],
    sources: int,
    targets: int,
    *,
    mirrored: bool,
) -> TileTable:
    """Make the table of pairs.

    Args:
        read, written: (pair,) sources and targets of each offset.
        sources, targets: numbers of sites.
        mirrored: the pairs are those of neighbours, so both directions have the same tiles.
    """
    edges = (0, *accumulate(len(part) for part in read))
    source, target = (torch.cat(list(parts)).int() for parts in (read, written))
    tiles = make_tiles(source, target, edges, targets)
    back = tiles.mirrored(len(read)) if mirrored else make_tiles(target, source, edges, sources)
    most = max(len(part) for part in read)
    on_device = torch.tensor(edges, device=source.device)
    return TileTable(source, target, on_device, most, tiles, back)


def _same_type(a: Tensor, b: Tensor) -> None:
    if a.dtype != b.dtype:
        raise ValueError(f"{a.dtype} and {b.dtype}: must be one type")


def _sum_type(kind: torch.dtype) -> tl.dtype:
    return tl.float64 if kind == torch.float64 else tl.float32
