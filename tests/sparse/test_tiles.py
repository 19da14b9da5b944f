"""Tiles hold each pair and each target of a convolution once; they need no Triton."""

import pytest
import torch

from lartpc_ray.sparse import engine
from lartpc_ray.sparse.native import Level, Pairs
from lartpc_ray.sparse.tiles import ROWS, Tiles, block_side, make_tiles


def level(coords: torch.Tensor, side: int) -> Level:
    """Return the sites of voxels of two events, which alternate."""
    events = torch.arange(len(coords)) % 2
    order = torch.argsort(events, stable=True)
    made: Level = (
        engine("native")
        .sites(coords[order], torch.zeros(len(coords), 1), (side,) * 3, events[order])
        .sites
    )
    return made


def expected(pairs: Pairs) -> set[tuple[int, int, int]]:
    """Return (offset, source, target) of all pairs, each site's own included."""
    rows = {
        (offset, int(source), int(target))
        for offset, both in enumerate(zip(pairs.read, pairs.written, strict=True))
        for source, target in zip(*both, strict=True)
    }
    return rows | {(13, site, site) for site in range(pairs.targets) if pairs.includes_self}


def tiles_of(pairs: Pairs) -> Tiles:
    read, written = pairs._with_own()
    edges = [0]
    for part in read:
        edges.append(edges[-1] + len(part))
    return make_tiles(torch.cat(read), torch.cat(written), edges, pairs.targets)


def pairs_of(tiles: Tiles) -> set[tuple[int, int, int]]:
    """Return (offset, source, target) of all entries, and check that none comes twice."""
    order = tiles.order.view(-1, ROWS).tolist()
    rows = []
    for tile in range(len(order)):
        for entry in range(int(tiles.edges[tile]), int(tiles.edges[tile + 1])):
            both = zip(tiles.sources[entry].tolist(), order[tile], strict=True)
            offset = int(tiles.offsets[entry])
            rows += [(offset, source, target) for source, target in both if source >= 0]
            assert rows[-1][0] == offset, "no entry is empty"
    assert len(set(rows)) == len(rows)
    return set(rows)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
def test_tiles_hold_each_pair_and_each_target_once(share: float) -> None:
    torch.manual_seed(0)
    fine = level(torch.nonzero(torch.rand(8, 8, 8) < share), 8)
    for pairs in (fine.pairs, fine.children, fine.children.reverse):
        tiles = tiles_of(pairs)
        assert pairs_of(tiles) == expected(pairs)
        here = tiles.order[tiles.order >= 0].tolist()
        assert sorted(here) == list(range(pairs.targets)), "each target is written once"
        assert len(tiles.order) == -(-pairs.targets // ROWS) * ROWS
    mirrored = tiles_of(fine.pairs).mirrored(27)
    assert pairs_of(mirrored) == expected(fine.pairs.reverse)


def test_targets_with_the_same_offsets_stand_together() -> None:
    plane = torch.stack(torch.meshgrid(*[torch.arange(24)] * 2, indexing="ij"), -1).view(-1, 2)
    fine = level(torch.cat([plane, plane.sum(1, keepdim=True) // 5], 1), 24)
    slots = fine.coarse[1].split(ROWS)
    unsorted = sum(len(torch.unique(slot % 8)) for slot in slots)
    tiles = tiles_of(fine.children.reverse)
    assert len(tiles.offsets) <= len(slots) + 7 < unsorted


@pytest.mark.parametrize(
    ("channels", "side"), [(1, 16), (17, 32), (32, 32), (40, 64), (64, 64), (96, 64), (192, 64)]
)
def test_channels_have_few_blocks_and_then_few_zeros(channels: int, side: int) -> None:
    assert block_side(channels, torch.float32) == side
    assert block_side(channels, torch.float64) == min(side, 32)
