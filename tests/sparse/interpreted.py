"""Where Triton is installed without a GPU, its interpreter runs the kernels of the engines here."""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from lartpc_ray.sparse.spconv import SpconvEngine

TORCH, TRITON = "native, cpu_kernels: torch", "native, gpu_kernels: triton"
KERNELS: dict[str, Any] = {TORCH: {"cpu_kernels": "torch"}, TRITON: {"gpu_kernels": "triton"}}


@cache
def interpret() -> tuple[str, ...]:
    """Let Triton's kernels take CPU tensors; return TRITON if Triton is installed."""
    if not find_spec("triton"):
        return ()
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
        mend_bfloat16()
        if find_spec("spconv_triton"):
            interpret_spconv()
    return (TRITON,)


def mend_bfloat16() -> None:
    """Multiply the numbers, not the bit patterns, of bfloat16, and round to the nearest number.

    Triton 3.9.0 holds bfloat16 as uint16. Its interpreter multiplies these integers in `tl.dot`,
    without an error, and cuts the last bits of a float32 instead of rounding them.
    """
    from triton import language
    from triton.runtime import interpreter

    dot, convert = interpreter.InterpreterBuilder.create_dot, interpreter._convert_float

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == language.bfloat16:
            a, b = (self.cast_impl(side, language.float32) for side in (a, b))
        return dot(self, a, b, *rest)

    def convert_float(values: Any, kind: Any, other: Any, rounding: Any) -> Any:
        if (kind, other) != (language.float32, language.bfloat16):
            return convert(values, kind, other, rounding)
        near = torch.from_numpy(np.array(values, np.float32)).bfloat16()
        return near.view(torch.int16).numpy().view(np.uint16)

    interpreter.InterpreterBuilder.create_dot = create_dot
    interpreter._convert_float = convert_float


def interpret_spconv() -> None:
    """Let spconv-triton take CPU tensors, and each kernel its first configuration, untimed."""
    from triton.runtime.autotuner import Autotuner

    first = Autotuner.__init__

    def begin(self: Autotuner, *arguments: object, **named: object) -> None:
        first(self, *arguments, **named)
        del self.configs[1:]

    Autotuner.__init__ = begin
    from spconv_triton.pytorch import ops
    from spconv_triton.pytorch._impl import gemm

    gemm._multiprocessor_count = lambda device: 16
    gemm.conv_forward = on_a_gpu(gemm.conv_forward)
    ops.get_indice_pairs_implicit_gemm = on_a_gpu(ops.get_indice_pairs_implicit_gemm)
    setattr(SpconvEngine, "unavailable_reason", classmethod(lambda cls: None))  # noqa: B010


def on_a_gpu(function: Callable[..., object]) -> Callable[..., object]:
    """Let a function see all tensors on a GPU."""

    def call(*arguments: object, **named: object) -> object:
        setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))  # noqa: B010
        try:
            return function(*arguments, **named)
        finally:
            del torch.Tensor.is_cuda

    return call
