"""Sparse convolutions behind one small door."""

from lartpc_ray.sparse.engine import Engine, SparseTensor, available, engine

__all__ = ["Engine", "SparseTensor", "available", "engine"]
