"""Sparse convolutions behind one small door."""

from lartpc_ray.sparse.engine import (
    CHUNK,
    Engine,
    EngineName,
    SparseTensor,
    available,
    engine,
    resolve_name,
    unavailable_engines,
)

__all__ = [
    "CHUNK",
    "Engine",
    "EngineName",
    "SparseTensor",
    "available",
    "engine",
    "resolve_name",
    "unavailable_engines",
]
