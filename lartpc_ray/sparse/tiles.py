"""Tiles: targets of a convolution that are computed together, for the kernels of Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, Int32
from torch import Tensor
from torch.nn import functional

ROWS = 64
"""Targets of a tile, and pairs of a step of the weights' gradient."""
SIDES = (64, 32, 16)
"""Channels of a block: powers of two, as Triton requires, and at least 16, as its products do."""
WIDE = 32
"""Largest block of float64, whose sums take two registers each."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The targets of a convolution in groups of ROWS, and the sites that each group reads.

    Targets with the same neighbours stand together, so a tile has few offsets: in Geant4 events 70
    of 100 gathered rows exist at the finest level, and 24 if the sites keep their order.

    Attributes:
        order: (tile · ROWS) the targets; -1 behind the last one.
        edges: (tile + 1) the first entry of each tile, and the end of the last tile.
        offsets: (entry,) the offsets of a tile, each once.
        sources: (entry, ROWS) the site that each target reads at the offset; -1 for none.
        targets: number of targets.
    """

    order: Int32[Tensor, " row"]
    edges: Int[Tensor, " edge"]
    offsets: Int32[Tensor, " entry"]
    sources: Int32[Tensor, "entry row"]
    targets: int

    def mirrored(self, offsets: int) -> Tiles:
        """Return the tiles of the opposite direction of neighbours: a - b is -(b - a)."""
        return replace(self, offsets=offsets - 1 - self.offsets)


def make_tiles(
    source: Int[Tensor, " pair"], target: Int[Tensor, " pair"], edges: Sequence[int], targets: int
) -> Tiles:
    """Group the targets of pairs, which stand offset by offset between `edges`.

    Targets are sorted by their offsets, rare ones first: few tiles have a rare offset.
    """
    offsets, device = len(edges) - 1, source.device
    sizes = torch.tensor(edges, device=device).diff()
    offset = torch.repeat_interleave(torch.arange(offsets, device=device), sizes)
    table = torch.full((offsets, targets), -1, dtype=torch.int32, device=device)
    table[offset, target.long()] = source.int()
    key = torch.zeros(targets, dtype=torch.int64, device=device)
    for rank, number in enumerate(torch.argsort(sizes, stable=True).tolist()):
        key += (table[number] >= 0).long() << (offsets - 1 - rank)
    order = torch.argsort(key, stable=True)
    tiles = -(-targets // ROWS)
    rows = torch.full((offsets + 1, tiles * ROWS), -1, dtype=torch.int32, device=device)
    rows[0, :targets] = order.int()
    rows[1:, :targets] = table[:, order]
    by_tile = rows[1:].view(offsets, tiles, ROWS)
    occurs = (by_tile >= 0).any(2).T
    tile, number = torch.nonzero(occurs, as_tuple=True)
    ends = functional.pad(torch.cumsum(occurs.sum(1), 0), (1, 0))
    return Tiles(rows[0], ends, number.int(), by_tile[number, tile], targets)


def block_side(channels: int, kind: torch.dtype) -> int:
    """Return the block size with the fewest blocks, then with the fewest zeros.

    Each block of outputs gathers the rows again. By the counts of benchmarks/roofline.py that takes
    longer than zeros do: fewest zeros first (40 channels as 3 blocks of 16) moved 1.7 times the
    bytes in the public benchmark's network.
    """
    sides = [side for side in SIDES if kind != torch.float64 or side <= WIDE]
    return min(sides, key=lambda side: (-(-channels // side), side))
