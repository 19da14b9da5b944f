"""Sparse convolutions behind one small door."""

from lartpc_ray.sparse.engine import (
    Engine,
    EngineName,
    SparseTensor,
    available,
    engine,
    known_as,
    obstacles,
)

__all__ = ["Engine", "EngineName", "SparseTensor", "available", "engine", "known_as", "obstacles"]
