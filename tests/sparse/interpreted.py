"""Where spconv-triton is installed without a GPU, Triton's interpreter runs its kernels here."""

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch

from lartpc_ray.sparse.spconv import SpconvEngine


def interpret() -> None:
    """Let the library take CPU tensors, and each kernel its first configuration, untimed."""
    if torch.cuda.is_available() or not (find_spec("spconv_triton") and find_spec("triton")):
        return
    os.environ["TRITON_INTERPRET"] = "1"
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
