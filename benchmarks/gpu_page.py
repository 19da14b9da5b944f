"""Print docs/gpu.md from the results of benchmarks/gpu.py."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Result = dict[str, Any]

HEAD = """\
# GPU

<!-- made by `python benchmarks/gpu.py --page > docs/gpu.md`; measure again, do not edit -->

`make gpu` measures these parts. Each part prints a line when it ends and writes a file, so a
stopped run goes on with the missing parts. Without a GPU the command runs the same code on the CPU
with batches of a hundredth of the size. This shows that the code runs, and nothing about a GPU.
"Not measured" stands where no GPU was at hand; `make gpu` measures it on a machine with a GPU.
The times of an H100 at the end of this page are computed from counts, not measured.
"""
TITLES = {
    "conformance": "The conformance suite of the engines",
    "paper": "Batch and network of Koh et al. 2020",
    "public": "The public benchmark's shape",
    "layers": "One submanifold layer per level",
    "kernels": "The kernels of Triton against torch's operations",
    "loader": "Waiting for the loader",
    "communication": "One process through DDP",
    "training": "A short training",
    "events": "Inference event by event",
    "profile": "The operations of one training step",
    "roofline": "Computed times: batch and network of Koh et al. 2020",
    "roofline_public": "Computed times: the public benchmark's shape",
}
ABOUT = {
    "paper": "32 events of 512³ with 18,000 voxels each, depth 6, 32 filters. Published: 9.82 s "
    "per iteration and 10.87 GB on a V100.",
    "public": "56,700 voxels, bfloat16. Published for an H200 and a network of 10.6 million "
    "weights: WarpConvNet 16.2 ms and 410 MB, spconv 26.1 ms, MinkowskiEngine 30.0 ms, torchsparse "
    "47.5 ms.",
    "events": "Published: 0.73 s per event (poster of Koh et al.).",
    "communication": "nccl on a GPU, gloo on a CPU; one process sums its gradients with itself.",
    "profile": "Shares of one operation in the time of the device.",
    "kernels": "One submanifold layer per level, forward and all gradients: `network.gpu_kernels` "
    "`torch` and `triton`, and the largest difference as a share of the largest number. On a CPU "
    "Triton's interpreter runs a few voxels: its times mean nothing.",
    "roofline": "Computed, not measured, for an H100 SXM5 with 80 GB: 3.35 TB/s, 989.4 TFLOP/s in "
    "bfloat16 and 66.9 TFLOP/s in float32 (NVIDIA's data sheet, dense; float32 without TF32, as "
    "torch and the kernels compute it). The counts are exact, of the neighbours of a whole batch. "
    "A time is the larger of bytes / bandwidth and operations / rate. Each number read or written "
    "counts as one from memory, so rows that stay in the cache make both times shorter. The time "
    "to start an operation is not included: at 5 µs each (assumed), 1,000 starts add 5 ms. The "
    "table has one forward pass of each layer in bfloat16; *useful rows* is the share of the rows "
    "that the fused kernel multiplies which exist, and *FLOP per byte* that of its useful "
    "operations.",
    "roofline_public": "Computed in the same way.",
}
COMPUTED = ("roofline", "roofline_public")
SKIP = {"device", "scale", "torch", "seconds", "columns", "table"}


def page(results: Path) -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for name, title in TITLES.items():
        parts.append(f"## {title}\n")
        if name in ABOUT:
            parts.append(ABOUT[name] + "\n")
        kinds = ("cpu",) if name in COMPUTED else ("cuda", "cpu")
        parts += [_section(results / kind / f"{name}.json", kind) for kind in kinds]
    return "\n".join(parts)


def _section(file: Path, kind: str) -> str:
    if not file.exists():
        return f"{'GPU' if kind == 'cuda' else 'CPU'}: not measured.\n"
    result = json.loads(file.read_text())
    about = f"{result['device']}, torch {result['torch']}, scale {result['scale']:g}"
    about = "Computed on a CPU" if file.stem in COMPUTED else about
    lines = [f"{about} ({result['seconds']} s):\n", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in _rows(result)]
    if "table" in result:
        columns = result["columns"]
        lines += ["", _line(columns), _line(["---"] * len(columns))]
        lines += [_line(map(_text, row)) for row in result["table"]]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(result: Result) -> list[tuple[str, str]]:
    rows = []
    for name, value in result.items():
        if name in SKIP:
            continue
        if name in ("rows", "shares"):
            rows += [(label, _text(inner)) for label, inner in value.items()]
        elif name == "curve":
            rows += [(f"step {point['step']:.0f}", _text(point)) for point in value]
        else:
            rows.append((name.replace("_", " "), _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
