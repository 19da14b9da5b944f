"""Compare dense and sparse inference.

Usage: python benchmarks/dense.py [--sides 64 128 192] [--plane]

An event in a cube of growing side (5 levels, 16 filters, batch 1), or with `--plane` one whole wire
plane of 3456 x 1008 pixels (5 levels, 32 filters: SparseSSNet), on the engines `dense` and
`native`. Every measurement runs in a new process, so its peak memory is its own; the
engines take turns. Training, batch sizes, depths and filters: `python -m lartpc_ray.tune
dense_vs_sparse`.
"""

import argparse
import json
import statistics
import subprocess
import sys

import torch

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.splits import Splits
from lartpc_ray.networks.uresnet import NetworkSettings, UResNet
from lartpc_ray.runtime.resources import Meter
from lartpc_ray.sparse import EngineName

ENGINES: tuple[EngineName, ...] = ("dense", "native")


def measure(
    engine: EngineName, side: int, filters: int, threads: int, repeats: int
) -> dict[str, float]:
    """Return seconds (median) and GiB of one inference in this process; side 0 is the plane."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    splits = Splits(box=side) if side else Splits(plane="Y")
    event = max((splits.events("test")[index] for index in range(20)), key=len)
    batch = VoxelBatch.of([event])
    settings = NetworkSettings(engine=engine, depth=5, filters=filters, blocks=2)
    network = UResNet(settings, {"classes": 5}, axes=splits.axes).eval()
    features = torch.log1p(batch.energy)[:, None]
    times, peaks = [], []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            with Meter("cpu") as meter:
                network(batch.coords, features, batch.shape, batch.event)
            times.append(meter.seconds)
            peaks.append(meter.peak_gib)
    return {"seconds": statistics.median(times[1:]), "gib": max(peaks), "voxels": len(event)}


def apart(**settings: object) -> dict[str, float] | str:
    """Run `measure` in a new process; return the error if it fails."""
    call = f"import sys; sys.path[:0] = {sys.path!r}; import dense, json; "
    call += f"print(json.dumps(dense.measure(**{settings!r})))"
    ended = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1]
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96, 128, 192])
    parser.add_argument("--plane", action="store_true", help="one whole wire plane instead")
    parser.add_argument("--filters", type=int, help="at the first level; 16, of a plane 32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'image':<14}{'engine':<9}{'voxels':>8}{'seconds':>10}{'GiB':>8}   dense / native")
    for side in [0] if options.plane else options.sides:
        image = f"{side} ^ 3" if side else "3456 x 1008"
        settings = {"side": side, "filters": options.filters or (16 if side else 32)}
        settings |= {"threads": options.threads, "repeats": options.repeats}
        results = {engine: apart(engine=engine, **settings) for engine in ENGINES}
        for engine, result in results.items():
            if isinstance(result, str):
                print(f"{image:<14}{engine:<9}{result}", flush=True)
                continue
            cells = f"{result['voxels']:>8.0f}{result['seconds']:>10.3f}{result['gib']:>8.3f}"
            dense = results["dense"]
            if engine == "native" and not isinstance(dense, str):
                time, memory = (dense[name] / result[name] for name in ("seconds", "gib"))
                cells += f"   {time:.1f} x the time, {memory:.1f} x the memory"
            print(f"{image:<14}{engine:<9}{cells}", flush=True)


if __name__ == "__main__":
    main()
