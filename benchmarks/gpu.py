"""Measure training and inference on a GPU, part by part; on a CPU at a hundredth of the size.

Usage: make gpu, or python benchmarks/gpu.py [--part NAME] [--again] [--page]

Each part prints a line when it ends and writes OUT/DEVICE/PART.json, so a stopped run goes on with
the parts that are missing; `--again` measures them anew. `--page` prints docs/gpu.md from these
files. All parts together should take less than eight minutes on one H100 (not measured).
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from engines import SIDE, Voxels, images, inference, interleaved
from gpu_kernels import kernels
from gpu_page import page
from gpu_training import events, loader, training
from roofline import roofline
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.sparse import EngineName, available, engine_class

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "gpu_results"
PAPER = {"events": 32, "voxels": 18_000, "depth": 6, "filters": 32}
"""Batch and network of Koh et al. 2020: 9.82 s per iteration and 10.87 GB on a V100."""
PUBLIC = {"events": 8, "voxels": 7_088, "depth": 6, "filters": 20}
"""The public benchmark of 3D engines: 56,700 voxels, 10.6 million weights, bfloat16, one H200."""
REPEATS = 5
Result = dict[str, Any]


def engines(device: str) -> list[EngineName]:
    """Return the sparse engines that work on the device."""
    names: list[EngineName] = ["native"]
    if device == "cuda" and "spconv" in available():
        names.append("spconv")
    return names


def variants(device: str) -> list[str]:
    """Return the engines, and native with its kernels of Triton where these work."""
    triton = ["native with triton"] if device == "cuda" and find_spec("triton") else []
    return [*engines(device), *triton]


def precisions(device: str) -> list[torch.dtype]:
    return [torch.float32, torch.bfloat16] if device == "cuda" else [torch.float32]


def network_of(shape: dict[str, int], name: str, device: str) -> UResNet:
    """Return the same network for each of `variants`."""
    torch.manual_seed(0)
    engine, _, kind = name.partition(" with ")
    settings = NetworkSettings(
        engine=engine,  # type: ignore[arg-type]
        gpu_kernels=kind or "torch",  # type: ignore[arg-type]
        depth=shape["depth"],
        filters=shape["filters"],
        blocks=2,
    )
    return UResNet(settings, {"embedding": 4, "seediness": 1}).to(device)


def batch_of(shape: dict[str, int], scale: float, device: str) -> tuple[Voxels, torch.Tensor]:
    """Return thick tracks, as the paper's smeared images have; a smaller scale has fewer events."""
    events = max(1, round(shape["events"] * scale))
    voxels = round(shape["events"] * shape["voxels"] * scale / events)
    coords, event = images(True, events, voxels)
    order = torch.cat([torch.nonzero(event == number)[:voxels, 0] for number in range(events)])
    coords, event = coords[order], event[order]
    on_device = coords.to(device), event.to(device)
    return on_device, torch.rand(len(coords), 1, device=device)


def with_precision(
    call: Callable[[], object], device: str, dtype: torch.dtype
) -> Callable[[], object]:
    def run() -> None:
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            call()

    return run


def both_outputs(network: UResNet, voxels: Voxels, features: torch.Tensor) -> Callable[[], object]:
    """Return a call of forward and backward through both branches."""

    def call() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        outputs = network(voxels[0], features, (SIDE,) * 3, voxels[1])
        torch.cat(
            [values.float().flatten() for values in outputs.values()]
        ).square().mean().backward()

    return call


def timed(calls: dict[str, Callable[[], object]], device: str, repeats: int) -> dict[str, Result]:
    """Return the median milliseconds (interleaved) and the peak memory of each call."""
    seconds = interleaved(calls, repeats)
    rows = {}
    for name, call in calls.items():
        with Meter(device) as meter:
            call()
        rows[name] = {"ms": 1e3 * seconds[name], "peak_gib": meter.peak_gib}
    return rows


def compare(
    shape: dict[str, int], device: str, scale: float, *, dtypes: list[torch.dtype]
) -> Result:
    """Time training steps and inference of the engines and precisions on one batch."""
    voxels, features = batch_of(shape, scale, device)
    calls: dict[str, Callable[[], object]] = {}
    weights = 0
    for name in variants(device):
        network = network_of(shape, name, device)
        weights = sum(values.numel() for values in network.parameters())
        for dtype in dtypes:
            label = f"{name}, {str(dtype).removeprefix('torch.')}"
            calls[f"step, {label}"] = with_precision(
                both_outputs(network, voxels, features), device, dtype
            )
            calls[f"inference, {label}"] = with_precision(
                inference(network, voxels, features), device, dtype
            )
    rows = timed(calls, device, REPEATS)
    return {"voxels": len(features), "weights": weights, "rows": rows}


def conformance(device: str, scale: float) -> Result:
    """Run the conformance suite of the engines; on a GPU native's torch operations run there."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sparse"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = made.stdout.strip().splitlines()[-1:] or [made.stderr.strip()[-200:]]
    if made.returncode:
        raise RuntimeError(f"conformance: {last[0]}")
    return {"summary": last[0]}


def paper(device: str, scale: float) -> Result:
    """Time the batch and the network of Koh et al. 2020."""
    return compare(PAPER, device, scale, dtypes=precisions(device))


def public(device: str, scale: float) -> Result:
    """Time the shape of the public benchmark in bfloat16."""
    return compare(PUBLIC, device, scale, dtypes=[torch.bfloat16])


def layers(device: str, scale: float) -> Result:
    """Time one submanifold layer per level and engine."""
    rows = {}
    voxels, features = batch_of(PAPER, scale, device)
    for name in engines(device):
        engine = engine_class(name)()
        level = engine.sites(voxels[0], features, (SIDE,) * 3, voxels[1])
        for number in range(PAPER["depth"]):
            width = PAPER["filters"] * (number + 1)
            x = level.with_features(torch.rand(len(level.features), width, device=device))
            weight = torch.rand(27, width, width, device=device)
            layer: Callable[[], object] = partial(engine.submanifold, x, weight)
            rows[f"{name}, level {number}"] = {
                "sites": len(x.features),
                "channels": width,
                "ms": 1e3 * interleaved({"layer": layer}, REPEATS)["layer"],
            }
            down = torch.rand(8, 1, 1, device=device)
            level = engine.down(level.with_features(level.features[:, :1]), down)
    return {"rows": rows}


def computed(device: str, scale: float, *, shape: dict[str, int]) -> Result:
    """Count the bytes and the operations of a whole batch, whatever the scale of the other parts.

    A few voxels pass the network, to list its layers.
    """
    few = batch_of({**shape, "events": 1, "voxels": 300}, 1, "cpu")[0]
    voxels = batch_of(shape, 1, "cpu")[0]
    network = network_of(shape, "native", "cpu")
    return {"scale": 1.0, **roofline(network, few, voxels, shape["depth"])}


def fused(device: str, scale: float) -> Result:
    """Time torch against the kernels of Triton, on a GPU; on a CPU its interpreter runs a few."""
    shape = PAPER if device == "cuda" else {"events": 1, "voxels": 200, "depth": 2, "filters": 16}
    voxels, _ = batch_of(shape, 1, device)
    repeats = REPEATS if device == "cuda" else 1
    return kernels(voxels, shape["depth"], shape["filters"], precisions(device), repeats)


@contextmanager
def process_group(backend: str) -> Iterator[None]:
    """Open a process group of this process alone, on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group(backend, init_method=address, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def communication(device: str, scale: float) -> Result:
    """Step through DDP with one process: nccl on a GPU, gloo on a CPU."""
    backend = "nccl" if device == "cuda" else "gloo"
    voxels, features = batch_of(PAPER, scale, device)
    plain, wrapped = (network_of(PAPER, "native", device) for _ in range(2))
    with process_group(backend):
        parallel = DistributedDataParallel(wrapped)
        calls = {
            "one process": both_outputs(plain, voxels, features),
            f"DDP, {backend}": both_outputs(parallel, voxels, features),  # type: ignore[arg-type]
        }
        rows = timed(calls, device, 3)
        total = torch.ones(1, device=device)
        distributed.all_reduce(total)
    return {"backend": backend, "sum": float(total), "rows": rows}


def profile(device: str, scale: float) -> Result:
    """Record one training step as a trace for a browser (chrome://tracing or Perfetto)."""
    voxels, features = batch_of(PAPER, scale, device)
    call = both_outputs(network_of(PAPER, "native", device), voxels, features)
    call()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as recorded:
        call()
    field = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = sorted(recorded.key_averages(), key=lambda row: -getattr(row, field))
    total = sum(getattr(row, field) for row in rows)
    trace = Path(tempfile.gettempdir()) / f"lartpc-ray-step-{device}.json"
    recorded.export_chrome_trace(str(trace))
    shares = {row.key[:60]: round(getattr(row, field) / total, 4) for row in rows[:12]}
    return {"shares": shares, "trace_mb": round(trace.stat().st_size / 1e6, 1)}


PARTS: dict[str, Callable[[str, float], Result]] = {
    "conformance": conformance,
    "paper": paper,
    "public": public,
    "layers": layers,
    "kernels": fused,
    "roofline": partial(computed, shape=PAPER),
    "roofline_public": partial(computed, shape=PUBLIC),
    "loader": loader,
    "communication": communication,
    "training": training,
    "events": events,
    "profile": profile,
}


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} thread"


def run_part(name: str, device: str, scale: float, file: Path) -> bool:
    """Run a part and write its file; return whether it succeeded."""
    began = time.perf_counter()
    about = {
        "device": device_name(device),
        "scale": scale,
        "torch": torch.__version__,
    }
    try:
        result = PARTS[name](device, scale)
    except Exception as error:  # a part that fails does not take the others' time on the GPU
        print(f"{name}: failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return False
    seconds = round(time.perf_counter() - began, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**about, "seconds": seconds, **result}, indent=1) + "\n")
    print(f"{name}: {seconds} s", json.dumps(result)[:400], flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=kind)
    parser.add_argument("--scale", type=float, help="of the batches; 1 on a GPU, 0.01 on a CPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--part", choices=PARTS, help="this part only")
    parser.add_argument("--again", action="store_true", help="measure all parts anew")
    parser.add_argument("--page", action="store_true", help="print docs/gpu.md only")
    options = parser.parse_args()
    if options.page:
        print(page(options.out), end="")
        return
    scale = options.scale or (1.0 if options.device == "cuda" else 0.01)
    failed = []
    for name in [options.part] if options.part else PARTS:
        file = options.out / options.device / f"{name}.json"
        if file.exists() and not options.again:
            print(f"{name}: measured before ({file}); --again measures it anew", flush=True)
        elif not run_part(name, options.device, scale, file):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; run the command again for these parts")


if __name__ == "__main__":
    main()
