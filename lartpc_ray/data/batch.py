"""VoxelBatch: many events as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lartpc_ray.data.event import PER_VOXEL, Event


@dataclass(frozen=True, eq=False)
class VoxelBatch:
    """The voxels of several events, one event after the other.

    The fields are those of `Event` as tensors. `event` (voxel,) is the number of a voxel's event
    in the batch, `events` the number of events, empty events included.
    """

    coords: Int[Tensor, "voxel axis"]
    energy: Float[Tensor, " voxel"]
    truth: Float[Tensor, " voxel"]
    semantic: Int[Tensor, " voxel"]
    cluster: Int[Tensor, " voxel"]
    weight: Float[Tensor, " voxel"]
    dead: Bool[Tensor, " voxel"]
    event: Int[Tensor, " voxel"]
    shape: tuple[int, ...]
    events: int

    @staticmethod
    def of(events: Sequence[Event]) -> VoxelBatch:
        """Join events of one image shape.

        Raises:
            ValueError: for no event, or images of different shapes.
        """
        if not events:
            raise ValueError("a batch needs at least one event")
        shape = events[0].shape
        if any(event.shape != shape for event in events):
            shapes = sorted({event.shape for event in events})
            raise ValueError(f"one batch, images of several shapes: {shapes}; crop or pad them")

        def joined(name: str) -> Tensor:
            rows = np.concatenate([getattr(event, name) for event in events])
            return torch.from_numpy(rows.astype(np.int64) if rows.dtype.kind == "i" else rows)

        sizes = torch.tensor([len(event) for event in events])
        return VoxelBatch(
            **{name: joined(name) for name in PER_VOXEL},
            event=torch.repeat_interleave(torch.arange(len(events)), sizes),
            shape=shape,
            events=len(events),
        )

    def to(self, device: torch.device | str) -> VoxelBatch:
        """Copy the batch to a device."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name not in ("shape", "events")
        }
        return replace(self, **moved)

    def centred(self, span: int | None = None) -> Float[Tensor, "voxel axis"]:
        """Return positions from -1 to 1 along each axis (CoordConv, Liu et al. 2018).

        Args:
            span: voxels from -1 to 1; by default the side of the image.
        """
        shape = (span,) * len(self.shape) if span else self.shape
        half = torch.tensor(shape, device=self.coords.device) / 2
        return self.coords / half - 1

    def split(self, rows: Tensor) -> list[np.ndarray]:
        """Split rows (voxel, ...) into one numpy array per event."""
        sizes = torch.bincount(self.event, minlength=self.events).tolist()
        return [part.numpy(force=True) for part in torch.split(rows, sizes)]
