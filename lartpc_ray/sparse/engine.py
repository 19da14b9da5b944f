"""The contract of a sparse-convolution engine, and the functions that find an engine by name.

Weights have one layout in every engine: (offset, in, out), offsets counted with the first axis
fastest, so that any engine reads a checkpoint of any other.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor, cuda

Coords = Int[Tensor, "voxel axis"]
Rows = Float[Tensor, "voxel channel"]
Events = Int[Tensor, " voxel"]
Shape = tuple[int, ...]
Weight = Float[Tensor, "offset in out"]


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features over fixed sites; only the engine reads the sites."""

    features: Float[Tensor, "site channel"]
    sites: Any

    def with_features(self, features: Float[Tensor, "site channel"]) -> SparseTensor:
        """Return other features on the same sites."""
        return replace(self, features=features)


CHUNK = 2**16
"""Gathered neighbours: 17 MB for 64 channels, about the size of a GPU's second cache."""
CpuKernels = Literal["llvm", "torch"]
"""Products on CPUs: compiled by LLVM, or by torch's operations."""
GpuKernels = Literal["torch", "triton"]
"""Products on GPUs: by torch's operations, or fused with the gathering by Triton."""


class Engine(ABC):
    """The five operations of a sparse network.

    Args:
        chunk: largest number of neighbours gathered at a time, by an engine that gathers them: the
            memory holds as many rows of features beside those of the sites. Results depend on it
            only by rounding.
        cpu_kernels: the products of the native engine on CPUs.
        gpu_kernels: the products of the native engine on GPUs.

    Attributes:
        needs_gpu: the engine works on GPUs only.
        precisions: the number formats in which it computes.
    """

    needs_gpu: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bfloat16", "float16")

    def __init__(
        self,
        chunk: int = CHUNK,
        cpu_kernels: CpuKernels = "llvm",
        gpu_kernels: GpuKernels = "torch",
    ) -> None:
        self.chunk = chunk
        self.cpu_kernels = cpu_kernels
        self.gpu_kernels = gpu_kernels

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Return the reason why the engine does not work here, and a remedy; None if it works."""
        return None

    @abstractmethod
    def sites(self, coords: Coords, features: Rows, shape: Shape, events: Events) -> SparseTensor:
        """Make the sites of a batch from voxels of an image of `shape`, and the event of each."""

    @abstractmethod
    def submanifold(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        """Apply a 3^D convolution; the output has the sites of the input (Graham et al. 2018)."""

    @abstractmethod
    def down(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        """Apply a 2^D convolution of stride 2; each fine site has a coarse site."""

    @abstractmethod
    def up(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        """Apply the transpose of `down`, back to the sites that `down` came from."""

    def rows(self, x: SparseTensor) -> Rows:
        """Return the features in the order of the voxels given to `sites`."""
        if x.sites.finer is not None:
            raise ValueError("rows: only the finest sites have the order of the voxels given")
        return self._in_order(x)

    def _in_order(self, x: SparseTensor) -> Rows:
        return x.features

    def _finer(self, x: SparseTensor) -> Any:
        """Return the sites that `down` started from."""
        if x.sites.finer is None:
            raise ValueError("up: these sites did not come from down")
        return x.sites.finer


EngineName = Literal["native", "minkowski", "spconv", "dense"]
"""One module each, with one class: `native.NativeEngine`."""


def available() -> tuple[str, ...]:
    """Return the names of the engines that work here.

    Example:
        >>> "native" in available()
        True
    """
    unavailable = unavailable_engines()
    return tuple(name for name in get_args(EngineName) if name not in unavailable)


def unavailable_engines() -> dict[str, str]:
    """Return the engines that do not work here, each with the reason."""
    reasons = {name: engine_class(name).unavailable_reason() for name in get_args(EngineName)}
    return {name: reason for name, reason in reasons.items() if reason}


def resolve_name(name: str) -> str:
    """Return the name of an engine; `auto` is `native`, the fastest that works everywhere."""
    return "native" if name == "auto" else name


def engine_class(name: str) -> type[Engine]:
    """Return the class of the engine of that name, or of `auto`.

    Raises:
        ValueError: for an unknown name.
    """
    name, known = resolve_name(name), get_args(EngineName)
    if name not in known:
        raise ValueError(f"engine {name!r}: known are auto, {', '.join(known)}")
    module = importlib.import_module(f"lartpc_ray.sparse.{name}")
    made: type[Engine] = getattr(module, f"{name.title()}Engine")
    return made


def engine(
    name: str,
    chunk: int = CHUNK,
    cpu_kernels: CpuKernels = "llvm",
    gpu_kernels: GpuKernels = "torch",
) -> Engine:
    """Make the engine of that name, or of `auto`; `Engine` explains the other arguments.

    Raises:
        ValueError: for an unknown name, an engine that does not work here, or kernels of Triton
            on a machine that has a GPU, but not Triton.

    Example:
        >>> type(engine("auto")).__name__
        'NativeEngine'
    """
    made = engine_class(name)
    reason = made.unavailable_reason()
    if reason:
        raise ValueError(f"engine {name!r}: {reason}")
    if gpu_kernels == "triton" and cuda.is_available() and find_spec("triton") is None:
        raise ValueError(
            "network.gpu_kernels: triton is not installed; pip install 'lartpc-ray[triton]', "
            "or take torch"
        )
    return made(chunk, cpu_kernels, gpu_kernels)
