"""Dense convolutions over the whole image: the reference of the sparse ones, and of their cost.

Each convolution writes the features of the sites into a dense image and reads the result at the
sites. So the outputs equal those of every engine, at the cost of the image.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lartpc_ray.sparse.engine import Coords, Engine, Events, Rows, Shape, SparseTensor, Weight
from lartpc_ray.sparse.keys import voxel_keys

MEMORY = Path("/proc/meminfo")
CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@dataclass(frozen=True, eq=False)
class Grid:
    """The `voxel_keys` of the sites of one resolution in the dense images of a batch."""

    keys: Int[Tensor, " site"]
    events: int
    shape: tuple[int, ...]
    finer: Grid | None = None

    def fill(self, features: Float[Tensor, "site channel"], outputs: int) -> Tensor:
        """Return the image (event, channel, *shape), with zeros outside the sites.

        Args:
            features: of the sites.
            outputs: channels of the result, scaled to an image of this size.

        Raises:
            MemoryError: if this image, the result and its reordered copy do not fit into memory.
        """
        channels = features.shape[1]
        _fits(self, channels + 2 * outputs, features)
        flat = features.new_zeros(self.events * prod(self.shape), channels)
        flat = flat.index_copy(0, self.keys, features)
        return flat.view(self.events, *self.shape, channels).movedim(-1, 1)

    def read(self, images: Tensor) -> Float[Tensor, "site channel"]:
        """Return the values at the sites."""
        flat = images.movedim(1, -1).reshape(-1, images.shape[1])
        return flat.index_select(0, self.keys)


class DenseEngine(Engine):
    """Dense convolutions, masked to the sites."""

    def sites(self, coords: Coords, features: Rows, shape: Shape, events: Events) -> SparseTensor:
        count = int(events.max()) + 1 if len(events) else 0
        return SparseTensor(features, Grid(voxel_keys(coords, shape, events.long()), count, shape))

    def submanifold(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        grid: Grid = x.sites
        kernel = _kernel(weight, 3, len(grid.shape))
        images = CONVOLVE[len(grid.shape)](
            grid.fill(x.features, weight.shape[2]), kernel, padding=1
        )
        return x.with_features(grid.read(images))

    def down(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        grid: Grid = x.sites
        axes = len(grid.shape)
        images = grid.fill(x.features, weight.shape[2] // 2**axes)
        odd = [side % 2 for side in reversed(grid.shape)]
        images = functional.pad(images, [pad for side in odd for pad in (0, side)])
        images = CONVOLVE[axes](images, _kernel(weight, 2, axes), stride=2)
        coarse = _coarse(grid)
        return SparseTensor(coarse.read(images), coarse)

    def up(self, x: SparseTensor, weight: Weight) -> SparseTensor:
        grid, finer = x.sites, self._finer(x)
        axes = len(grid.shape)
        kernel = _kernel(weight, 2, axes).transpose(0, 1)
        images = grid.fill(x.features, weight.shape[2] * 2**axes)
        images = TRANSPOSE[axes](images, kernel, stride=2)
        inside = (slice(None), slice(None), *(slice(side) for side in finer.shape))
        return SparseTensor(finer.read(images[inside]), finer)


def _coarse(grid: Grid) -> Grid:
    """Return the grid of half the resolution, with a site for each finer site's parent."""
    rest = grid.keys
    coords: list[Tensor] = []
    for side in reversed(grid.shape):
        coords.insert(0, rest % side)
        rest = rest // side
    shape = tuple((side + 1) // 2 for side in grid.shape)
    keys = voxel_keys(torch.stack(coords, 1) >> 1, shape, rest)
    return Grid(torch.unique(keys), grid.events, shape, finer=grid)


def _kernel(weight: Tensor, side: int, axes: int) -> Tensor:
    """Reorder (offset, in, out), first axis fastest, to (out, in, *offsets)."""
    shaped = weight.reshape(*[side] * axes, *weight.shape[1:])
    shaped = shaped.permute(*range(axes - 1, -1, -1), axes, axes + 1)
    return shaped.permute(axes + 1, axes, *range(axes))


def _fits(grid: Grid, channels: int, features: Tensor) -> None:
    """Refuse an image that does not fit into memory, before the system ends the process."""
    need = grid.events * prod(grid.shape) * channels * features.element_size()
    free = _free_bytes(features.device)
    if need > free:
        sides = " x ".join(map(str, grid.shape))
        raise MemoryError(
            f"engine 'dense': {grid.events} images of {sides} voxels, {channels} channels, need "
            f"{need / 2**30:.1f} GiB, {free / 2**30:.1f} are free; crop, or take engine native"
        )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if MEMORY.is_file():  # available counts the file cache, which the system frees
        lines = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
