"""The contract of a sparse-convolution engine, and the door to the engines there are.

Weights have one layout in every engine: (offset, in, out), offsets counted with the first axis
fastest, so that a checkpoint does not know which engine wrote it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features over fixed sites; what the sites are is the engine's own business."""

    features: Float[Tensor, "site channel"]
    sites: Any

    def with_features(self, features: Float[Tensor, "site channel"]) -> SparseTensor:
        """Other features on the same sites."""
        return replace(self, features=features)


CHUNK = 2**16
"""17 MB of 64 channels: about what a GPU's second cache holds."""


class Engine(ABC):
    """Five operations; all that a sparse network needs.

    Args:
        chunk: neighbours that are gathered at a time, by an engine that gathers them: so many rows
            of features are in memory beside those of the sites. Results do not depend on it beyond
            rounding.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk

    @classmethod
    def unavailable_reason(cls) -> str | None:
        """Why the engine does not work here, and what to do; nothing if it works."""
        return None

    @abstractmethod
    def sites(
        self,
        coords: Int[Tensor, "voxel axis"],
        features: Float[Tensor, "voxel channel"],
        shape: tuple[int, ...],
        events: Int[Tensor, " voxel"],
    ) -> SparseTensor:
        """Make the sites of a batch: voxels of an image of `shape`, and whose event each is."""

    @abstractmethod
    def submanifold(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        """3^D convolution whose output has the sites of its input (Graham et al. 2018)."""

    @abstractmethod
    def down(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        """2^D convolution of stride 2: a coarse site wherever there is a fine one."""

    @abstractmethod
    def up(self, x: SparseTensor, weight: Float[Tensor, offset in out]) -> SparseTensor:
        """Transpose of `down`: back to the sites that `down` came from."""

    @abstractmethod
    def rows(self, x: SparseTensor) -> Float[Tensor, "voxel channel"]:
        """The features in the order in which the voxels were given to `sites`."""


EngineName = Literal["native", "minkowski", "spconv", "dense"]
"""One module each, with one class: `native.NativeEngine`."""


def available() -> tuple[str, ...]:
    """The names of the engines that work here.

    Example:
        >>> "native" in available()
        True
    """
    return tuple(name for name in get_args(EngineName) if _class(name).unavailable_reason() is None)


def unavailable_engines() -> dict[str, str]:
    """The engines that do not work here, and why not."""
    why = {name: _class(name).unavailable_reason() for name in get_args(EngineName)}
    return {name: reason for name, reason in why.items() if reason}


def resolve_name(name: str) -> str:
    """The name of an engine; of `auto` that of the fastest that works everywhere, `native`."""
    return "native" if name == "auto" else name


def engine(name: str, chunk: int = CHUNK) -> Engine:
    """The engine of that name, or `auto`; `chunk` as `Engine` has it.

    Raises:
        ValueError: for a name that is not known, or an engine that does not work here.

    Example:
        >>> type(engine("auto")).__name__
        'NativeEngine'
    """
    known = get_args(EngineName)
    name = resolve_name(name)
    if name not in known:
        raise ValueError(f"engine {name!r}: known are auto, {', '.join(known)}")
    made = _class(name)
    reason = made.unavailable_reason()
    if reason:
        raise ValueError(f"engine {name!r}: {reason}")
    return made(chunk)


def _class(name: str) -> type[Engine]:
    module = importlib.import_module(f"lartpc_ray.sparse.{name}")
    found: type[Engine] = getattr(module, f"{name.title()}Engine")
    return found
