"""Sparse convolutions by any of several engines."""

from lartpc_ray.sparse.engine import (
    CHUNK,
    CpuKernels,
    Engine,
    EngineName,
    GpuKernels,
    SparseTensor,
    available,
    engine,
    engine_class,
    resolve_name,
    unavailable_engines,
)

__all__ = [
    "CHUNK", "CpuKernels", "Engine", "EngineName", "GpuKernels",
    "SparseTensor", "available", "engine", "engine_class", "resolve_name", "unavailable_engines",
]  # fmt: skip
