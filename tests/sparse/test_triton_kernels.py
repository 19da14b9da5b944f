"""Triton's kernels of the native engine against torch, in Triton's interpreter or on a GPU."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from interpreted import KERNELS, TORCH, TRITON, interpret

from lartpc_ray.sparse import engine, tiles
from lartpc_ray.sparse.native import Level

if not interpret():  # before Triton is imported: its own functions are compiled or interpreted, too
    pytest.skip("Triton is not installed; `make triton`", allow_module_level=True)
from lartpc_ray.sparse import triton_kernels

Leaves = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        yield


def level(name: str, side: int = 5, share: float = 0.3, seed: int = 0) -> Level:
    """Return the sites of two events and those of half the resolution."""
    torch.manual_seed(seed)
    index = torch.nonzero(torch.rand(2, side, side, side) < share)
    it = engine("native", **KERNELS[name])
    made: Level = it.sites(index[:, 1:], torch.zeros(len(index), 1), (side,) * 3, index[:, 0]).sites
    return made


def found(name: str, way: str, leaves: Leaves, upstream: torch.Tensor | None) -> list[torch.Tensor]:
    """Return the output of a convolution, and the gradients to its input and weights."""
    it, fine = engine("native", **KERNELS[name]), level(name)
    x, weight = (leaf.clone().requires_grad_() for leaf in leaves)
    sites = fine.coarse[0] if way == "up" else fine
    tensor = it.sites(fine.coords, fine.event[:, None].float(), fine.shape, fine.event)
    given = type(tensor)(x, sites)
    out = getattr(it, way)(given, weight).features
    gradients = torch.autograd.grad(out, (x, weight), upstream if len(out) else out)
    return [out.detach(), *gradients]


def leaves_of(way: str, widths: tuple[int, int], kind: torch.dtype) -> tuple[Leaves, torch.Tensor]:
    """Return random features and weights, and a gradient of the output."""
    fine = level(TORCH)
    coarse = len(fine.coarse[0].event)
    sources = coarse if way == "up" else len(fine.event)
    targets = coarse if way == "down" else len(fine.event)
    torch.manual_seed(1)
    x = torch.randn(sources, widths[0]).to(kind)
    weight = torch.randn(27 if way == "submanifold" else 8, *widths).to(kind)
    return (x, weight), torch.randn(targets, widths[1]).to(kind)


@pytest.mark.parametrize("way", ["submanifold", "down", "up"])
@pytest.mark.parametrize("widths", [(1, 5), (3, 17), (33, 3), (17, 33), (5, 1), (64, 96)])
def test_any_number_of_channels(way: str, widths: tuple[int, int]) -> None:
    leaves, upstream = leaves_of(way, widths, torch.float32)
    wanted = found(TORCH, way, leaves, upstream)
    for mine, theirs in zip(found(TRITON, way, leaves, upstream), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("way", ["submanifold", "down", "up"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_rounded_once(way: str, kind: torch.dtype) -> None:
    leaves, upstream = leaves_of(way, (17, 33), kind)
    full = (leaves[0].float(), leaves[1].float())
    wanted = found(TORCH, way, full, upstream.float())
    half = torch.finfo(kind).eps / 2  # rounding to the nearest number
    for mine, theirs in zip(found(TRITON, way, leaves, upstream), wanted, strict=True):
        assert mine.dtype == kind
        torch.testing.assert_close(mine.float(), theirs, rtol=1.01 * half, atol=1e-4)


@pytest.mark.parametrize("way", ["submanifold", "down", "up"])
def test_the_same_input_gives_the_same_bits(way: str) -> None:
    leaves, upstream = leaves_of(way, (5, 17), torch.float32)
    once, twice = (found(TRITON, way, leaves, upstream) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


@pytest.mark.parametrize("way", ["submanifold", "down", "up"])
def test_many_tiles_and_many_parts_give_the_same(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    leaves, upstream = leaves_of(way, (3, 5), torch.float64)
    wanted = found(TORCH, way, leaves, upstream)
    monkeypatch.setattr(triton_kernels, "ROWS", 4)
    monkeypatch.setattr(tiles, "ROWS", 4)
    for mine, theirs in zip(found(TRITON, way, leaves, upstream), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("way", ["submanifold", "down", "up"])
@pytest.mark.parametrize("widths", [(3, 5), (3, 0), (0, 5)])
def test_no_site_and_no_channel(way: str, widths: tuple[int, int]) -> None:
    empty, one = (level(TRITON, side=2, share=share) for share in (0.0, 1.0))
    for fine in (empty, one):
        table = fine.pairs.tile_table if way == "submanifold" else fine.children.tile_table
        table = table.reverse if way == "up" else table
        x = torch.ones(table.back.targets, widths[0])
        weight = torch.ones(27 if way == "submanifold" else 8, *widths)
        out = table.convolve(x, weight)
        assert out.shape == (table.tiles.targets, widths[1])
        gradient = table.weight_gradient(x, torch.ones_like(out))
        assert gradient.shape == weight.shape
        pairs = torch.tensor(
            [int(last - first) for first, last in zip(table.edges, table.edges[1:], strict=False)]
        )
        assert gradient.sum() == pairs.sum() * widths[0] * widths[1]


def test_tables_refuse_what_does_not_fit() -> None:
    table = level(TRITON).pairs.tile_table
    x, weight = torch.randn(table.back.targets, 4), torch.randn(27, 4, 6)
    for wrong in ((x[:, :3], weight), (x[:-1], weight), (x, weight[:9])):
        with pytest.raises(ValueError, match="sites and 27 offsets"):
            table.convolve(*wrong)
    with pytest.raises(ValueError, match="rows: for"):
        table.weight_gradient(x, x[:-1])
    with pytest.raises(ValueError, match="must be one type"):
        table.convolve(x, weight.double())
    with pytest.raises(ValueError, match="must be one type"):
        table.weight_gradient(x, x.double())


@pytest.mark.parametrize("kind", ["bf16", "fp16", "fp32", "fp64"])
def test_kernels_compile_for_an_h100_without_spilled_registers(kind: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("compiled_kernels.py")), kind]
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    made = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    rows: list[dict[str, Any]] = [json.loads(line) for line in made.stdout.splitlines()]
    assert len(rows) == 4
    for row in rows:
        assert (row["stack"], row["local"]) == (0, 0), f"spilled registers: {row}"
        assert row["shared"] <= 48 * 1024, row
        if row["channels"].endswith("even"):
            assert row["asynchronous"], f"loads do not overlap: {row}"
            assert bool(row["matrix"]) == (kind != "fp32"), f"matrix instructions: {row}"
