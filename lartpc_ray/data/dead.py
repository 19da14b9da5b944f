"""Dead regions: boxes in which nothing was seen, and the voxels that may be active in them.

A plane of dead wires is a slab: all of the image between two positions on one axis.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Int, Int32
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import PER_VOXEL, DeadRegions, Event
from lartpc_ray.settings import Settings

TRACKS = (ParticleClass.HIP, ParticleClass.MIP)
PITCH = 0.3
"""cm a voxel."""
LOOK = 10
"""Voxels over which the direction of what enters a dead region is taken."""
LONGEST = 4
"""Rays end after so many times the least side of a dead region: 75 degrees from straight across."""
Corners = Int32[np.ndarray, "region 2 axis"]
Places = Int[np.ndarray, "place axis"]


class Slab(Settings):
    """All of the image from `position` on along an axis, as far as `width`."""

    axis: int = Field(ge=0, le=2, description="the one that the slab lies across")
    position: NonNegativeFloat = Field(description="of its near side, cm")
    width: PositiveFloat = Field(description="cm")


class Box(Settings):
    """A box between two corners, cm along each axis."""

    low: tuple[NonNegativeFloat, ...]
    high: tuple[PositiveFloat, ...]


class DeadMap(Settings):
    """The dead regions of a detector."""

    pitch: PositiveFloat = Field(default=PITCH, description="cm a voxel")
    slabs: tuple[Slab, ...] = ()
    boxes: tuple[Box, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> DeadMap:
        if not self.slabs and not self.boxes:
            raise ValueError("no dead region in the map; give slabs or boxes")
        return self

    def corners(self, shape: tuple[int, ...]) -> Corners:
        """The regions as voxels of an image of this shape.

        Raises:
            ValueError: for a region that is not in the image.
        """
        found = []
        for slab in self.slabs:
            low, high = np.zeros(len(shape)), np.array(shape, float)
            if slab.axis < len(shape):
                low[slab.axis] = slab.position / self.pitch
                high[slab.axis] = (slab.position + slab.width) / self.pitch
                found.append((low, high))
        for box in self.boxes:
            if len(box.low) == len(box.high) == len(shape):
                found.append((np.array(box.low) / self.pitch, np.array(box.high) / self.pitch))
        if len(found) < len(self.slabs) + len(self.boxes):
            raise ValueError(f"dead regions: an image of {shape} has {len(shape)} axes, not others")
        corners = np.round(np.array(found)).astype(np.int32)
        ends = np.clip(corners, 0, np.array(shape, np.int32)).astype(np.int32)
        empty = (ends[:, 0] >= ends[:, 1]).any(axis=1)
        if empty.any():
            where = corners[np.argmax(empty)].tolist()
            raise ValueError(f"dead region {where}: no voxel of it is in the image {shape}")
        return ends


class RandomRegions(Settings):
    """Regions of a given width at random places."""

    kind: Literal["slab", "box"] = "slab"
    width: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(3.0, 3.0), description="cm, from and to; of a box each side"
    )
    number: PositiveInt = Field(default=2, description="of an event")
    aimed: float = Field(
        default=0.8, ge=0, le=1, description="share of them laid on a voxel of a track"
    )
    pitch: PositiveFloat = Field(default=PITCH, description="cm a voxel")

    @model_validator(mode="after")
    def _ascending(self) -> RandomRegions:
        if self.width[0] > self.width[1]:
            raise ValueError(f"width {self.width}: give the smaller one first")
        return self

    def corners(self, event: Event, rng: np.random.Generator) -> Corners:
        """Regions for an event, cut off at the image's faces."""
        found = np.zeros((self.number, 2, len(event.shape)), np.int32)
        track = np.flatnonzero(np.isin(event.semantic, TRACKS))
        for low, high in found:
            centre = rng.integers(0, event.shape)
            if rng.random() < self.aimed and len(track):
                centre = event.coords[rng.choice(track)]
            side = max(1, round(rng.uniform(*self.width) / self.pitch))
            low[:] = centre - side // 2
            high[:] = low + side
            if self.kind == "slab":
                others = np.arange(len(event.shape)) != rng.integers(len(event.shape))
                low[others], high[others] = 0, np.array(event.shape)[others]
        return np.clip(found, 0, np.array(event.shape, np.int32)).astype(np.int32)


def fixed_rng(event: Event) -> np.random.Generator:
    """Random numbers that depend on the event alone: the same in every evaluation."""
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(event.coords).tobytes()))


def dead_region(event: Event, corners: Corners, *, margin: int, limit: int) -> Event:
    """Take away what lies in dead regions and put candidates there.

    All voxels of a plane of dead wires would be millions. The candidates are those that what
    enters the region may reach if it goes straight on: from each voxel that touches the region a
    ray is drawn away from the mean of the voxels within `LOOK` of it on its side of the region, up
    to `LONGEST` times the region's least side, and all voxels within `margin` of the ray are
    candidates. Nothing inside is looked at. Candidates have energy 0; their `truth`, `semantic`
    and `cluster` are of what was there.

    Args:
        event: without dead regions.
        corners: the regions; they may overlap.
        margin: voxels, along each axis.
        limit: candidates of all regions together.

    Raises:
        ValueError: for more candidates than the limit.

    Example:
        >>> track = np.array([[0, 1], [1, 1], [2, 1], [3, 1]])
        >>> event = Event.of(track, np.array([1.0, 1.0, 0.5, 1.0]), (4, 3))
        >>> box = np.array([[[2, 0], [3, 3]]], np.int32)
        >>> found = dead_region(event, box, margin=0, limit=9)
        >>> found.coords[found.dead].tolist(), found.truth[found.dead].tolist()
        ([[2, 1]], [0.5])
    """
    dead = region_of(event.coords, corners) >= 0
    seen, truth = event.keep(~dead), event.keep(dead)
    parts = [_candidates(seen.coords, box, margin) for box in corners]
    places = np.unique(np.concatenate([np.zeros((0, len(event.shape)), int), *parts]), axis=0)
    if len(places) > limit:
        raise ValueError(
            f"{len(places)} candidate voxels in {len(corners)} dead regions, more than "
            f"max_candidates {limit}: make regions fewer or narrower, the margin less, or raise it"
        )
    filled = replace(_with_truth(places, truth), dead=np.ones(len(places), bool))
    return replace(joined(seen, filled), regions=DeadRegions(corners, truth))


def region_of(coords: Places, corners: Corners) -> Int[np.ndarray, " place"]:
    """Number of the first region that a voxel lies in; -1 none.

    Example:
        >>> region_of(np.array([[1, 1], [5, 5]]), np.array([[[4, 4], [6, 6]]], np.int32)).tolist()
        [-1, 0]
    """
    found = np.full(len(coords), -1)
    for number, (low, high) in reversed(list(enumerate(corners))):
        found[((coords >= low) & (coords < high)).all(axis=1)] = number
    return found


def keys(coords: Places, shape: tuple[int, ...]) -> Int[np.ndarray, " place"]:
    """One number a place of the image."""
    found: np.ndarray = np.ravel_multi_index(tuple(np.asarray(coords).T), shape)
    return found


def joined(first: Event, second: Event) -> Event:
    """The voxels of two events of one image, none of which both have."""
    both = [np.concatenate([getattr(first, name), getattr(second, name)]) for name in PER_VOXEL]
    return replace(first, **dict(zip(PER_VOXEL, both, strict=True)))


def beyond(coords: Places, box: Int32[np.ndarray, "2 axis"]) -> Int[np.ndarray, " place"]:
    """Voxels from each place to the box along the axis where it is furthest; 0 or less inside."""
    low, high = box
    found: np.ndarray = np.maximum(low - coords, coords - (high - 1)).max(axis=1)
    return found


def _candidates(seen: Places, box: Int32[np.ndarray, "2 axis"], margin: int) -> Places:
    near = seen[beyond(seen, box) <= LOOK]
    found = [near[:0].astype(int)]
    for axis in range(seen.shape[1]):
        for outside in (near[:, axis] < box[0, axis], near[:, axis] >= box[1, axis]):
            found.append(_rays(near[outside], box))
    return _spread(np.unique(np.concatenate(found), axis=0), box, margin)


def _rays(near: Places, box: Int32[np.ndarray, "2 axis"]) -> Places:
    """The places on the rays from voxels beyond one face of the box."""
    start = near[beyond(near, box) == 1].astype(float)
    if not len(start):
        return start.astype(int)
    around = cKDTree(near).query_ball_point(start, LOOK)
    direction = start - np.array([near[rows].mean(axis=0) for rows in around])
    length = np.linalg.norm(direction, axis=1)
    start, direction = start[length > 0], direction[length > 0] / length[length > 0, None]
    steps = np.arange(1, LONGEST * int((box[1] - box[0]).min()) + 1)
    places = np.rint(start[:, None] + steps[None, :, None] * direction[:, None]).astype(int)
    return places.reshape(-1, near.shape[1])


def _spread(near: Places, box: Int32[np.ndarray, "2 axis"], reach: int) -> Places:
    """The places of the box with one of `near` at most `reach` away on every axis."""
    near = near[beyond(near, box) <= reach]
    steps = np.arange(-reach, reach + 1)
    for axis, (low, high) in enumerate(box.T):
        shifted = np.repeat(near, len(steps), axis=0)
        shifted[:, axis] += np.tile(steps, len(near)).astype(shifted.dtype)
        inside = (shifted[:, axis] >= low) & (shifted[:, axis] < high)
        near = np.unique(shifted[inside], axis=0)
    return near


def _with_truth(places: Places, truth: Event) -> Event:
    """Voxels of energy 0 at these places, with the truth of what is there."""
    empty = Event.of(places, np.zeros(len(places)), truth.shape)
    here = (keys(places, truth.shape), keys(truth.coords, truth.shape))
    _, place, of = np.intersect1d(*here, assume_unique=True, return_indices=True)

    def taken(name: str) -> np.ndarray:
        values: np.ndarray = getattr(empty, name).copy()
        values[place] = getattr(truth, name)[of]
        return values

    return replace(empty, **{name: taken(name) for name in ("truth", "semantic", "cluster")})
