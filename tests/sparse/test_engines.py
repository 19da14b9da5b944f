"""One conformance suite for all engines: equal to masked dense convolutions, in 2D and 3D."""

import pytest
import torch
from torch.nn import functional

from lartpc_ray.sparse import available, engine

CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def grid_weight(weight: torch.Tensor, side: int, axes: int) -> torch.Tensor:
    """(offset, in, out), first axis fastest -> (out, in, *offsets) of torch's convolutions."""
    shaped = weight.reshape(*[side] * axes, *weight.shape[1:])
    shaped = shaped.permute(*range(axes - 1, -1, -1), axes, axes + 1)
    return shaped.permute(axes + 1, axes, *range(axes))


def sites(axes: int, side: int, share: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(axes + side)
    index = torch.nonzero(torch.rand(2, *[side] * axes) < share)
    index = index[torch.randperm(len(index))]
    return index[:, 1:], index[:, 0]


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("side", [6, 7])
def test_equals_dense_convolutions_and_their_gradients(name: str, axes: int, side: int) -> None:
    coords, events = sites(axes, side)
    shape = (side,) * axes
    leaf = {"dtype": torch.float64, "requires_grad": True}
    x = torch.randn(len(coords), 3, **leaf)
    same = torch.randn(3**axes, 3, 4, **leaf)
    down = torch.randn(2**axes, 4, 5, **leaf)
    up = torch.randn(2**axes, 5, 2, **leaf)
    it = engine(name)
    fine = it.submanifold(it.sites(coords, x, shape, events), same)
    found = it.rows(it.up(it.down(fine, down), up))

    at = (events, slice(None), *coords.T)
    dense = torch.zeros(2, 3, *shape, dtype=torch.float64)
    dense[at] = x
    active = torch.zeros(2, 1, *shape, dtype=torch.float64)
    active[at] = 1
    wanted = CONVOLVE[axes](dense, grid_weight(same, 3, axes), padding=1) * active
    wanted = functional.pad(wanted, (0, side % 2) * axes)
    wanted = CONVOLVE[axes](wanted, grid_weight(down, 2, axes), stride=2)
    wanted = TRANSPOSE[axes](wanted, grid_weight(up, 2, axes).transpose(0, 1), stride=2)[at]
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn_like(found)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, same, down, up), upstream),
        torch.autograd.grad(wanted, (x, same, down, up), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", available())
def test_events_do_not_mix_and_rows_keep_their_order(name: str) -> None:
    coords, events = sites(3, 6)
    x = torch.randn(len(coords), 2)
    weight = torch.randn(27, 2, 2)
    it = engine(name)
    both = it.rows(it.submanifold(it.sites(coords, x, (6, 6, 6), events), weight))
    for event in (0, 1):
        mine = events == event
        alone = it.sites(coords[mine], x[mine], (6, 6, 6), torch.zeros_like(events[mine]))
        torch.testing.assert_close(it.rows(it.submanifold(alone, weight)), both[mine])


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("count", [0, 1])
def test_no_voxel_and_one_voxel(name: str, count: int) -> None:
    it = engine(name)
    coords = torch.zeros(count, 3, dtype=torch.int64)
    x = torch.ones(count, 1)
    weight = torch.arange(27.0).reshape(27, 1, 1)
    y = it.submanifold(
        it.sites(coords, x, (4, 4, 4), torch.zeros(count, dtype=torch.int64)), weight
    )
    assert it.rows(y).flatten().tolist() == [13.0] * count
    up = it.up(it.down(y, torch.ones(8, 1, 1)), torch.ones(8, 1, 1))
    assert len(it.rows(up)) == count


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'nativ': known are native"):
        engine("nativ")


def test_up_and_rows_refuse_sites_they_cannot_serve() -> None:
    it = engine("native")
    one = torch.zeros(1, 3, dtype=torch.int64)
    x = it.sites(one, torch.ones(1, 1), (4, 4, 4), one[:, 0])
    with pytest.raises(ValueError, match="did not come from down"):
        it.up(x, torch.ones(8, 1, 1))
    with pytest.raises(ValueError, match="finest"):
        it.rows(it.down(x, torch.ones(8, 1, 1)))
