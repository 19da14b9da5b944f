"""Sparse convolutions behind one small door."""

from lartpc_ray.sparse.engine import (
    CHUNK,
    Engine,
    EngineName,
    SparseTensor,
    available,
    engine,
    known_as,
    obstacles,
)

__all__ = [
    "CHUNK",
    "Engine",
    "EngineName",
    "SparseTensor",
    "available",
    "engine",
    "known_as",
    "obstacles",
]
