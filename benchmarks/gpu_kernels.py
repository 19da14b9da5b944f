"""Time the native engine's kernels of Triton against its operations of torch, layer by layer."""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from engines import SIDE, Voxels, interleaved

from lartpc_ray.sparse import SparseTensor, engine


def kernels(
    voxels: Voxels, depth: int, filters: int, precisions: list[torch.dtype], repeats: int
) -> dict[str, Any]:
    """Time forward and all gradients of a submanifold layer per level, by torch and by Triton.

    Without a GPU, Triton's interpreter runs its kernels: these times mean nothing.
    """
    if find_spec("triton") is None:
        return {"triton": "not installed; `make triton` installs it"}
    if not voxels[0].is_cuda:
        os.environ["TRITON_INTERPRET"] = "1"  # before the first import of triton
    engines = {
        kind: engine("native", cpu_kernels="torch", gpu_kernels=kind)
        for kind in ("torch", "triton")
    }
    none = torch.zeros(len(voxels[0]), 1, device=voxels[0].device)
    levels = {
        kind: it.sites(voxels[0], none, (SIDE,) * 3, voxels[1]) for kind, it in engines.items()
    }
    rows: dict[str, Any] = {}
    for number in range(depth):
        for dtype in precisions:
            calls = {
                kind: layer(it, levels[kind], filters * (number + 1), dtype)
                for kind, it in engines.items()
            }
            rows[f"level {number}, {str(dtype).removeprefix('torch.')}"] = row(calls, repeats)
        down = torch.zeros(8, 1, 1, device=none.device)
        levels = {kind: it.down(levels[kind], down) for kind, it in engines.items()}
    return {"rows": rows}


def row(calls: dict[str, Callable[[], list[torch.Tensor]]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of both, and the largest difference of their results."""
    both = zip(*(call() for call in calls.values()), strict=True)
    apart = [float((a.float() - b.float()).abs().max() / a.float().abs().max()) for a, b in both]
    times = interleaved(dict(calls), repeats)
    return {
        **{f"{kind}_ms": 1e3 * seconds for kind, seconds in times.items()},
        "difference": max(apart),
    }


def layer(
    it: Any, level: SparseTensor, width: int, dtype: torch.dtype
) -> Callable[[], list[torch.Tensor]]:
    """Return a call of a layer of `width` channels that returns its output and gradients."""
    torch.manual_seed(0)
    random = partial(torch.randn, device=level.features.device)
    x = random(len(level.features), width).to(dtype).requires_grad_()
    weight = random(27, width, width).to(dtype).requires_grad_()
    upstream = random(len(level.features), width).to(dtype)

    def call() -> list[torch.Tensor]:
        out = it.submanifold(level.with_features(x), weight).features
        return [out.detach(), *torch.autograd.grad(out, (x, weight), upstream)]

    return call
