"""Compile each kernel of the native engine for a GPU that is not here, and print what it takes.

Usage: python tests/sparse/compiled_kernels.py [KIND ...]

Triton's compiler and ptxas need no GPU. The interpreter checks no types, block sizes, registers or
shared memory; the compiler does. Each line is JSON: kernel, number format, blocks, registers and
bytes of local memory per thread, bytes of shared memory, and the matrix instructions of the code.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lartpc_ray.sparse import triton_kernels as kernels
from lartpc_ray.sparse.tiles import ROWS, SIDES, WIDE

KINDS = ("bf16", "fp16", "fp32", "fp64")
TARGET = GPUTarget("cuda", 90, 32)
"""An H100 or H200."""
TABLES = {
    **dict.fromkeys(("order", "offsets", "sources", "source", "target"), "*i32"),
    "edges": "*i64",
}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
Constants = dict[str, Any]


def variants(kind: str) -> Iterator[tuple[Any, Constants, bool]]:
    """Yield (kernel, constants, channels divide by 16) of the smallest and the largest blocks."""
    sum_type = tl.float64 if kind == "fp64" else tl.float32
    largest = WIDE if kind == "fp64" else SIDES[0]
    for side, even in ((SIDES[-1], False), (largest, True)):
        blocks = {"tile_rows": ROWS, "in_side": side, "out_side": side}
        ones = {} if even else {"inputs": 1}  # Triton makes a constant of an argument that is 1
        yield kernels._convolve, {**ones, **blocks, "in_blocks": 3, "sum_type": sum_type}, even
        parts = {} if even else {"parts": 1}
        yield kernels._weight_gradient, {**ones, **parts, **blocks, "sum_type": sum_type}, even


def compiled(kernel: Any, kind: str, constants: Constants, even: bool) -> Any:
    """Compile as Triton does at a launch: it knows which addresses and sizes divide by 16."""
    sums = "*fp64" if kind == "fp64" else "*fp32"
    arrays = {"x": f"*{kind}", "weight": f"*{kind}", "grad": f"*{kind}"}
    arrays["out"] = f"*{kind}" if kernel is kernels._convolve else sums
    types = {**TABLES, **arrays, **dict.fromkeys(constants, "constexpr")}
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    divisible = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or (even and name in ("inputs", "outputs"))
    }
    source = ASTSource(kernel, signature, constants, divisible)
    return triton.compile(source, target=TARGET, options=kernels.LAUNCH)


def resources(binary: bytes) -> dict[str, int]:
    """Return the registers and the bytes of local memory (spilled registers) of each thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        text = subprocess.check_output([CUOBJDUMP, "-res-usage", file.name], text=True)
    names = {"registers": "REG", "stack": "STACK", "local": "LOCAL"}
    return {name: int(re.findall(rf"{code}:(\d+)", text)[-1]) for name, code in names.items()}


def main() -> None:
    for kind in sys.argv[1:] or KINDS:
        for kernel, constants, even in variants(kind):
            made = compiled(kernel, kind, constants, even)
            code = made.asm["ptx"]
            row = {
                "kernel": kernel.__name__,
                "kind": kind,
                "channels": f"{constants['in_side']}, {'even' if even else 'any'}",
                **resources(made.asm["cubin"]),
                "shared": made.metadata.shared,
                "matrix": sorted(set(re.findall(r"wgmma\.mma_async|mma\.sync", code))),
                "asynchronous": len(re.findall(r"cp\.async\.c[ag]", code)),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
