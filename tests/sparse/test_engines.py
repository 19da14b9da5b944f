"""One conformance suite for every engine that works here."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from interpreted import KERNELS, TORCH, TRITON, interpret
from torch.nn import functional

from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.sparse import CHUNK, Engine, available, engine, engine_class, unavailable_engines
from lartpc_ray.sparse import cpu_kernels as tiles
from lartpc_ray.sparse.native import _coarsen, _coarsen_compiled, _search
from lartpc_ray.sparse.neighbours import neighbours, offset_rows

INTERPRETED = interpret()
NAMES = (*available(), TORCH, *INTERPRETED)
CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def grid_weight(weight: torch.Tensor, side: int, axes: int) -> torch.Tensor:
    """(offset, in, out), first axis fastest -> (out, in, *offsets) of torch's convolutions."""
    shaped = weight.reshape(*[side] * axes, *weight.shape[1:])
    shaped = shaped.permute(*range(axes - 1, -1, -1), axes, axes + 1)
    return shaped.permute(axes + 1, axes, *range(axes))


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make the tensors of a test on the GPU, if one is here and the engine has GPU code."""
    name = request.getfixturevalue("name") if "name" in request.fixturenames else "native"
    gpu = torch.cuda.is_available() and (name in KERNELS or engine_class(name).needs_gpu)
    torch.backends.cudnn.allow_tf32 = False  # the dense reference in full float32
    with torch.device("cuda" if gpu else "cpu"):
        yield


def made(name: str, chunk: int = CHUNK) -> Engine:
    return engine("native" if name in KERNELS else name, chunk, **KERNELS.get(name, {}))


def sites(axes: int, side: int, share: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(axes + side)
    index = torch.nonzero(torch.rand(2, *[side] * axes) < share)
    index = index[torch.randperm(len(index))]
    return index[:, 1:], index[:, 0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("share", [0.1, 0.9], ids=["thin", "crowded"])
def test_equals_dense_convolutions_and_their_gradients(
    name: str, axes: int, side: int, share: float
) -> None:
    coords, events = sites(axes, side, share)
    shape = (side,) * axes
    kind = torch.float32 if name == "spconv" else torch.float64  # it sums in float32 in any case
    leaf: dict[str, Any] = {"dtype": kind, "requires_grad": True}
    x = torch.randn(len(coords), 3, **leaf)
    same = torch.randn(3**axes, 3, 4, **leaf)
    down = torch.randn(2**axes, 4, 5, **leaf)
    up = torch.randn(2**axes, 5, 2, **leaf)
    it = made(name)
    fine = it.submanifold(it.sites(coords, x, shape, events), same)
    output = it.rows(it.up(it.down(fine, down), up))

    index = (events, slice(None), *coords.T)
    dense = torch.zeros(2, 3, *shape, dtype=kind)
    dense[index] = x
    active = torch.zeros(2, 1, *shape, dtype=kind)
    active[index] = 1
    wanted = CONVOLVE[axes](dense, grid_weight(same, 3, axes), padding=1) * active
    wanted = functional.pad(wanted, (0, side % 2) * axes)
    wanted = CONVOLVE[axes](wanted, grid_weight(down, 2, axes), stride=2)
    wanted = TRANSPOSE[axes](wanted, grid_weight(up, 2, axes).transpose(0, 1), stride=2)[index]
    upstream = torch.randn_like(output)
    pairs = [(output, wanted)]
    pairs += zip(
        torch.autograd.grad(output, (x, same, down, up), upstream),
        torch.autograd.grad(wanted, (x, same, down, up), upstream),
        strict=True,
    )
    for value, reference in pairs:
        if name == "spconv":  # float32 rounds as large as the largest summand, not as each sum
            near: dict[str, Any] = {"rtol": 0, "atol": 1e-6 * float(reference.detach().abs().max())}
        else:
            near = {}
        torch.testing.assert_close(value, reference, **near)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("share", [0.1, 0.9], ids=["thin", "crowded"])
def test_half_precision_of_torch_is_near_full_precision(axes: int, share: float) -> None:
    coords, events = sites(axes, 7, share)
    leaves = [torch.randn(len(coords), 4, requires_grad=True)]
    leaves.append(torch.randn(3**axes, 4, 4, requires_grad=True))
    it = made(TORCH)

    def found(kind: torch.dtype) -> list[torch.Tensor]:
        x, weight = (leaf.to(kind) for leaf in leaves)
        out = it.rows(it.submanifold(it.sites(coords, x, (7,) * axes, events), weight))
        assert out.dtype == kind
        return [out.float(), *torch.autograd.grad(out.float().sum(), leaves)]

    for kind in (torch.bfloat16, torch.float16):
        for half, full in zip(found(kind), found(torch.float32), strict=True):
            torch.testing.assert_close(half, full, rtol=0.05, atol=0.3)


def convolved(chunk: int, axes: int, share: float) -> list[torch.Tensor]:
    """All three convolutions in a row by torch's operations, and the gradients."""
    coords, events = sites(axes, 9, share)
    sizes = [(len(coords), 3), (3**axes, 3, 4), (2**axes, 4, 5), (2**axes, 5, 2)]
    x, same, down, up = (torch.randn(size, requires_grad=True) for size in sizes)
    it = made(TORCH, chunk)
    fine = it.submanifold(it.sites(coords, x, (9,) * axes, events), same)
    out = it.rows(it.up(it.down(fine, down), up))
    return [out, *torch.autograd.grad(out.square().sum(), (x, same, down, up))]


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("share", [0.1, 0.9], ids=["thin", "crowded"])
def test_the_chunk_bounds_memory_and_changes_nothing_but_rounding(axes: int, share: float) -> None:
    wanted = convolved(CHUNK, axes, share)
    for chunk in (1, 7, 40):
        for mine, theirs in zip(convolved(chunk, axes, share), wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
        again = zip(convolved(chunk, axes, share), convolved(chunk, axes, share), strict=True)
        assert all(torch.equal(a, b) for a, b in again), "the same bits twice"
    coords, events = sites(axes, 9, share)
    level = engine("native").sites(coords, torch.ones(len(coords), 1), (9,) * axes, events).sites
    assert level.pairs.is_dense == (share > 0.5)
    for pairs in (level.pairs, level.children, level.children.reverse):
        parts = list(pairs.parts(2))
        assert max(len(source) for _, source, _ in parts) == 2
        assert all((target.diff() > 0).all() for _, _, target in parts), "each place once"
        assert torch.cat([source for _, source, _ in parts]).tolist() == pairs.source.tolist()
        assert torch.cat([target for _, _, target in parts]).tolist() == pairs.target.tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("widths", [(1, 5), (7, 12), (24, 36), (16, 63)])
def test_all_widths_of_tiles_and_any_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, widths: tuple[int, int]
) -> None:
    monkeypatch.setattr(tiles, "SHARE", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    coords, events = sites(3, 14, 0.3)
    assert len(coords) > tiles.BLOCK
    x = torch.randn(len(coords), widths[0], requires_grad=True)
    weight = torch.randn(27, *widths, requires_grad=True)
    upstream = torch.randn(len(coords), widths[1])

    def found(name: str) -> list[torch.Tensor]:
        it = made(name)
        out = it.rows(it.submanifold(it.sites(coords, x, (14,) * 3, events), weight))
        return [out, *torch.autograd.grad(out, (x, weight), upstream)]

    for mine, theirs in zip(found("native"), found("dense"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_events_do_not_mix_and_rows_keep_their_order(name: str) -> None:
    coords, events = sites(3, 6)
    x = torch.randn(len(coords), 2)
    weight = torch.randn(27, 2, 2)
    it = made(name)
    both = it.rows(it.submanifold(it.sites(coords, x, (6, 6, 6), events), weight))
    for event in (0, 1):
        mine = events == event
        alone = it.sites(coords[mine], x[mine], (6, 6, 6), torch.zeros_like(events[mine]))
        torch.testing.assert_close(it.rows(it.submanifold(alone, weight)), both[mine])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("count", [0, 1])
def test_no_voxel_and_one_voxel(name: str, axes: int, count: int) -> None:
    it = made(name)
    coords = torch.zeros(count, axes, dtype=torch.int64)
    x = torch.ones(count, 1)
    weight = torch.arange(3.0**axes).reshape(-1, 1, 1)
    y = it.submanifold(
        it.sites(coords, x, (4,) * axes, torch.zeros(count, dtype=torch.int64)), weight
    )
    assert it.rows(y).flatten().tolist() == [3**axes // 2] * count
    up = it.up(it.down(y, torch.ones(2**axes, 1, 1)), torch.ones(2**axes, 1, 1))
    assert len(it.rows(up)) == count


@pytest.mark.parametrize("name", [name for name in NAMES if name != "spconv"])
@pytest.mark.parametrize(("axes", "side"), [(2, 5), (3, 3)])
@pytest.mark.parametrize("share", [0.3, 0.9], ids=["thin", "crowded"])
@pytest.mark.parametrize(
    "fast_mode", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["random", "each"]
)
def test_gradcheck(name: str, axes: int, side: int, share: float, fast_mode: bool) -> None:
    """Compare the gradients along random directions, or each element of the Jacobian."""
    if name == TRITON and not fast_mode:
        pytest.skip("Triton's interpreter takes minutes")
    coords, events = sites(axes, side, share)
    it = made(name)

    def chain(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        y = it.submanifold(it.sites(coords, x, (side,) * axes, events), weights[0])
        return it.rows(it.up(it.submanifold(it.down(y, weights[1]), weights[2]), weights[3]))

    same, half = 3**axes, 2**axes
    sizes = [(len(coords), 2), (same, 2, 2), (half, 2, 2), (same, 2, 2), (half, 2, 1)]
    leaves = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(chain, leaves, fast_mode=fast_mode)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
def test_permuted_voxels_give_permuted_rows(name: str, axes: int) -> None:
    network, shape = small_network(name, axes), (8,) * axes
    coords, events = sites(axes, 8)
    x = torch.rand(len(coords), 1)
    order = torch.randperm(len(coords))
    plain = network(coords, x, shape, events)["out"]
    mixed = network(coords[order], x[order], shape, events[order])["out"]
    torch.testing.assert_close(mixed, plain[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
def test_an_empty_event_and_a_larger_image_change_nothing(name: str, axes: int) -> None:
    network, shape = small_network(name, axes), (8,) * axes
    coords, events = sites(axes, 8)
    x = torch.rand(len(coords), 1)
    plain = network(coords, x, shape, events)["out"]
    apart = network(coords, x, shape, events * 2)["out"]
    larger = network(coords, x, (31, 20, 9)[:axes], events)["out"]
    torch.testing.assert_close(apart, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(larger, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
def test_one_checkpoint_gives_the_same_outputs_in_every_engine(name: str, axes: int) -> None:
    coords, events = sites(axes, 9, 0.3)
    x = torch.rand(len(coords), 1)
    shape = (9,) * axes
    wanted = small_network("native", axes)(coords, x, shape, events)["out"]
    found = small_network(name, axes)(coords, x, shape, events)["out"]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def small_network(name: str, axes: int = 3) -> UResNet:
    """Make a network with the same weights for every engine, and averages as after a training."""
    torch.manual_seed(7)
    settings = NetworkSettings(engine="native", depth=3, filters=4, blocks=1)
    weights = UResNet(settings, {"out": 2}, axes=axes)
    coords, events = sites(axes, 8)
    weights(coords, torch.rand(len(coords), 1), (8,) * axes, events)
    other = KERNELS.get(name, {"engine": name})
    network = UResNet(settings.model_copy(update=other), {"out": 2}, axes=axes)
    network.load_state_dict(weights.state_dict())
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_up_and_rows_refuse_sites_they_cannot_serve(name: str) -> None:
    it = made(name)
    one = torch.zeros(1, 3, dtype=torch.int64)
    x = it.sites(one, torch.ones(1, 1), (4, 4, 4), one[:, 0])
    with pytest.raises(ValueError, match="did not come from down"):
        it.up(x, torch.ones(8, 1, 1))
    with pytest.raises(ValueError, match="finest"):
        it.rows(it.down(x, torch.ones(8, 1, 1)))


def test_native_gives_the_same_bits_twice() -> None:
    coords, events = sites(3, 12, 0.5)
    weight, x = torch.randn(27, 8, 8), torch.randn(len(coords), 8)

    def once() -> list[torch.Tensor]:
        w, y = weight.clone().requires_grad_(), x.clone().requires_grad_()
        it = engine("native")
        out = it.rows(it.submanifold(it.sites(coords, y, (12,) * 3, events), w))
        return [out, *torch.autograd.grad(out.square().sum(), (w, y))]

    assert all(torch.equal(a, b) for a, b in zip(once(), once(), strict=True))


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'nativ': known are auto, native"):
        engine("nativ")


@pytest.mark.skipif("spconv" in available(), reason="spconv-triton works here")
def test_spconv_wants_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'spconv': spconv-triton needs a GPU"):
        engine("spconv")


@pytest.mark.skipif("minkowski" in available(), reason="MinkowskiEngine is installed")
def test_a_missing_engine_says_how_to_get_it() -> None:
    assert "make minkowski" in unavailable_engines()["minkowski"]
    with pytest.raises(ValueError, match=r"'minkowski': .* not installed; `make minkowski`"):
        engine("minkowski")


def test_dense_refuses_what_does_not_fit() -> None:
    it, one = engine("dense"), torch.zeros(1, dtype=torch.int64)
    images = it.sites(torch.full((1, 3), 4095), torch.zeros(1, 2), (4096,) * 3, one + 63)
    with pytest.raises(MemoryError, match="64 images of 4096 x 4096 x 4096 voxels, 32 channels"):
        it.submanifold(images, torch.zeros(27, 2, 15))


def test_dense_counts_the_result_of_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    it, one = engine("dense"), torch.zeros(1, dtype=torch.int64)
    monkeypatch.setattr("lartpc_ray.sparse.dense._free_bytes", lambda _: 4 * 8**3 * 10)
    image = it.sites(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 1), (8,) * 3, one)
    it.submanifold(image, torch.zeros(27, 1, 4))
    with pytest.raises(MemoryError, match="11 channels"):
        it.submanifold(image, torch.zeros(27, 1, 5))
    coarse = it.down(image, torch.zeros(8, 1, 32))
    it.up(coarse, torch.zeros(8, 32, 2))
    with pytest.raises(MemoryError, match="4 x 4 x 4 voxels, 112 channels"):
        it.up(coarse, torch.zeros(8, 32, 5))


@pytest.mark.parametrize("count", [0, 1, 200])
def test_what_a_gpu_does_with_torch_is_what_a_cpu_walks(count: int) -> None:
    keys = torch.unique(torch.randint(0, 600, (count,)))
    strides = [40, 6, 1]
    for lead in offset_rows(3):
        for offset, *mine in neighbours(keys.numpy(), strides, lead):
            theirs = _search(keys, offset, strides)
            assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_gpu_halves_sites_as_a_cpu_does(axes: int, count: int) -> None:
    shape = (9, 12, 7)[:axes]
    coords = torch.stack([torch.randint(0, side, (count,)) for side in shape], 1)
    rows = torch.unique(torch.cat([torch.randint(0, 3, (count, 1)), coords], 1), dim=0)
    half = tuple((side + 1) // 2 for side in shape)
    mine, theirs = (
        halves(rows[:, 1:], rows[:, 0], half) for halves in (_coarsen_compiled, _coarsen)
    )
    assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]


def test_keys_that_come_twice_are_refused_and_overrun_nothing() -> None:
    keys = np.repeat(np.arange(5), 40)
    assert all(len(one) <= len(keys) for _, _, one in neighbours(keys, [7, 1], (1,)))
    twice = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="two voxels of one event are in the same place"):
        engine("native").sites(twice, torch.ones(2, 1), (4, 4, 4), twice[:, 0])


def test_tiles_refuse_what_does_not_fit() -> None:
    coords, events = sites(3, 6)
    x, weight = torch.randn(len(coords), 4), torch.randn(27, 4, 6)
    at = engine("native").sites(coords, x, (6,) * 3, events)
    table = at.sites.pairs.kernel_table
    for wrong in ((x[:, :3], weight), (x[:-1], weight), (x, weight[:9])):
        with pytest.raises(ValueError, match="sites and 27 offsets"):
            table.convolve(*wrong)
    with pytest.raises(ValueError, match="rows: for"):
        table.weight_gradient(x, x[:-1])
    with pytest.raises(ValueError, match="must be one type"):
        table.convolve(x, weight.double())


def test_work_that_is_shared_keeps_its_order_and_its_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    squares = tiles.together(lambda n: sum(tiles.together(lambda k: k + n, 9)), 20)
    assert squares == [36 + 9 * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        tiles.together(lambda n: 1 // (n - 4), 9)


@pytest.mark.slow
def test_torch_kernels_need_no_llvmlite() -> None:
    """A change of llvmlite or of numba must not stop the engine."""
    code = """
import sys
sys.modules["llvmlite"] = sys.modules["numba"] = None
import torch
from lartpc_ray.sparse import available, engine
assert "native" in available()
it = engine("native", cpu_kernels="torch")
coords, weight = torch.tensor([[0, 0], [1, 1], [5, 5]]), torch.ones(4, 1, 1, requires_grad=True)
fine = it.sites(coords, torch.ones(3, 1), (8, 8), torch.zeros(3, dtype=torch.int64))
x = it.submanifold(fine, torch.ones(9, 1, 1))
rows = it.rows(it.up(it.down(x, weight), weight))
rows.sum().backward()
print(rows.flatten().tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[4.0, 4.0, 1.0]\n", done.stderr
