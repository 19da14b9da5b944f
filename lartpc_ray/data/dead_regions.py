"""Dead regions: boxes in which nothing was seen, and the voxels that may be active in them.

A plane of dead wires is a slab: all of the image between two positions on one axis.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Int32, Real
from pydantic import (
    AliasChoices,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import PER_VOXEL, DeadRegions, Event
from lartpc_ray.data.transforms import pieces
from lartpc_ray.settings import Settings

TRACKS = (ParticleClass.HIP, ParticleClass.MIP)
POINTS_TO = 0.6
"""Least cosine between a direction and the line to what it points to: 53 degrees."""
PITCH = 0.3
"""cm a voxel."""
LOOK = 10
"""Voxels over which the direction of what enters a dead region is taken."""
LONGEST = 4
"""Rays end after so many times the least side of a dead region: 75 degrees from straight across."""
Candidates = Literal["near", "dense"]
Corners = Int32[np.ndarray, "region 2 axis"]
Places = Int[np.ndarray, "place axis"]
Found = Int[np.ndarray, "found axis"]


class Slab(Settings):
    """All of the image from `position` on along an axis, as far as `width`."""

    axis: int = Field(ge=0, le=2, description="the one that the slab lies across")
    position: NonNegativeFloat = Field(description="of its near side, cm")
    width: PositiveFloat = Field(description="cm")


class Box(Settings):
    """A box between two corners, cm along each axis."""

    low: tuple[NonNegativeFloat, ...] = Field(description="the corner at the low ends, cm")
    high: tuple[PositiveFloat, ...] = Field(description="the opposite one, cm")


class DeadMap(Settings):
    """The dead regions of a detector."""

    pitch: PositiveFloat = Field(default=PITCH, description="cm a voxel")
    slabs: tuple[Slab, ...] = Field(default=(), description="across the whole image")
    boxes: tuple[Box, ...] = Field(default=(), description="anywhere in it")

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
        axes = len(shape)
        for box in self.boxes:
            if not len(box.low) == len(box.high) == axes:
                raise ValueError(f"dead box {box.low} to {box.high}: the image has {axes} axes")
        ends = [(np.array(box.low), np.array(box.high)) for box in self.boxes]
        for slab in self.slabs:
            if slab.axis >= axes:
                raise ValueError(f"dead slab across axis {slab.axis}: the image has {axes} axes")
            low, high = np.zeros(axes), np.array(shape) * self.pitch
            low[slab.axis], high[slab.axis] = slab.position, slab.position + slab.width
            ends.append((low, high))
        voxels = np.round(np.array(ends) / self.pitch).astype(np.int32)
        corners = np.clip(voxels, 0, np.array(shape, np.int32)).astype(np.int32)
        empty = (corners[:, 0] >= corners[:, 1]).any(axis=1)
        if empty.any():
            where = voxels[np.argmax(empty)].tolist()
            raise ValueError(f"dead region {where}: no voxel of it is in the image {shape}")
        return corners


class RandomRegions(Settings):
    """Regions of a given width at random places."""

    kind: Literal["slab", "box"] = Field(
        default="slab", description="slab: across the whole image; box: with equal sides"
    )
    width: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(3.0, 3.0), description="cm, from and to; of a box each side"
    )
    number: PositiveInt = Field(default=2, description="of an event")
    on_track_fraction: float = Field(
        validation_alias=AliasChoices("on_track_fraction", "aimed"),
        default=0.8,
        ge=0,
        le=1,
        description="share of them laid on a voxel of a track",
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
            if rng.random() < self.on_track_fraction and len(track):
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


def dead_region(
    event: Event,
    corners: Corners,
    *,
    margin: int,
    limit: int,
    candidates: Candidates = "near",
) -> Event:
    """Take away what lies in dead regions and put candidates there.

    With `dense` all voxels of the regions are candidates, as in LArDRIP. Of a plane of dead wires
    these would be millions, so with `near` they are those that what enters the region may reach if
    it goes straight on: from the middle of each group of voxels that touch the region and each
    other a ray is drawn away from the voxels within `LOOK` on that side of the region, up to
    `LONGEST` times the region's least side. Where two such groups beyond two faces point to each
    other, a straight line is drawn between them. All voxels within `margin` of a ray or a line are
    candidates. Those on a line have the mean energy of its two groups, all others 0, either way.
    Nothing inside is looked at. `truth`, `semantic` and `cluster` are of what was there.

    Args:
        event: without dead regions.
        corners: the regions; they may overlap.
        margin: voxels, along each axis, around what is near.
        limit: candidates of all regions together.
        candidates: which voxels of the regions are.

    Raises:
        ValueError: for more candidates than the limit.

    Example:
        >>> track = np.array([[0, 1], [1, 1], [2, 1], [3, 1]])
        >>> event = Event.of(track, np.array([1.0, 1.0, 0.5, 1.0]), (4, 3))
        >>> box = np.array([[[2, 0], [3, 3]]], np.int32)
        >>> found = dead_region(event, box, margin=0, limit=9)
        >>> found.coords[found.dead].tolist(), found.truth[found.dead].tolist()
        ([[2, 1]], [0.5])
        >>> dense = dead_region(event, box, margin=0, limit=9, candidates="dense")
        >>> dense.coords[dense.dead].tolist()
        [[2, 0], [2, 1], [2, 2]]
    """
    if candidates == "dense":
        _refuse_large(corners, limit)
    dead = region_of(event.coords, corners) >= 0
    seen, truth = event.select(~dead), event.select(dead)
    each = [_entries(seen, box) for box in corners]
    links = [_links(entries) for entries in each]
    parts = [
        _inside(box)
        if candidates == "dense"
        else _around(np.concatenate([_rays(one, box), *(on for on, _ in lines)]), box, margin)
        for one, lines, box in zip(each, links, corners, strict=True)
    ]
    at = np.unique(keys(np.concatenate(parts), event.shape))
    places = np.stack(np.unravel_index(at, event.shape), axis=1)
    if len(places) > limit:
        less = "the margin less" if candidates == "near" else "take candidates near"
        raise ValueError(
            f"{len(places)} candidate voxels in {len(corners)} dead regions, more than "
            f"max_candidates {limit}: make regions fewer or narrower, {less}, or raise it"
        )
    energy = np.zeros(len(places), np.float32)
    for places_on, mean in chain.from_iterable(links):
        energy[np.isin(at, keys(places_on, event.shape))] = mean
    filled = _with_truth(places, truth)
    filled = replace(filled, energy=energy, dead=np.ones(len(places), bool))
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
    return np.asarray(np.ravel_multi_index(tuple(np.asarray(coords).T), shape))


def joined(first: Event, second: Event) -> Event:
    """The voxels of two events of one image, none of which both have."""
    both: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in PER_VOXEL
    }
    return replace(first, **both)


def beyond(coords: Places, box: Int32[np.ndarray, "2 axis"]) -> Int[np.ndarray, " place"]:
    """Voxels from each place to the box along the axis where it is furthest; 0 or less inside."""
    low, high = box
    return np.asarray(np.maximum(low - coords, coords - (high - 1)).max(axis=1))


def _refuse_large(corners: Corners, limit: int) -> None:
    """Refuse a region of too many voxels before they are listed: they may not fit into memory."""
    for low, high in corners:
        sides = (high - low).tolist()
        if math.prod(sides) > limit:
            raise ValueError(
                f"a dead region of {' x '.join(map(str, sides))} voxels, more than max_candidates "
                f"{limit}: make regions smaller, take candidates near instead of dense, or raise it"
            )


def _inside(box: Int32[np.ndarray, "2 axis"]) -> Found:
    """All places of a box."""
    places = np.indices(tuple(box[1] - box[0])).reshape(box.shape[1], -1)
    return np.asarray(places.T + box[0])


def _around(places: Places, box: Int32[np.ndarray, "2 axis"], margin: int) -> Found:
    """What lies in the box within `margin` of a place."""
    found = np.asarray(places[beyond(places, box) <= margin])
    for axis, (low, high) in enumerate(box.T):
        found = _distinct(found, box, margin)
        steps = np.tile(np.arange(-margin, margin + 1), len(found))
        found = np.repeat(found, 2 * margin + 1, axis=0)
        found[:, axis] += steps
        found = found[(found[:, axis] >= low) & (found[:, axis] < high)]
    return found


def _distinct(places: Places, box: Int32[np.ndarray, "2 axis"], margin: int) -> Found:
    """Each place once; all are within `margin` of the box. By one number each: rows sort slowly."""
    low, sides = box[0] - margin, tuple((box[1] - box[0] + 2 * margin).tolist())
    once = np.unique(keys(places - low, sides))
    return np.asarray(np.stack(np.unravel_index(once, sides), axis=1) + low)


@dataclass(frozen=True, eq=False)
class _Entries:
    """What enters a region: groups of voxels that touch it and each other, beyond one face.

    `start` and `direction` are means of the voxels, weighted by energy: the middle of a track some
    voxels wide is known better than to a voxel. A voxel's direction is away from the mean of those
    within `LOOK` beyond the same face.
    """

    start: Float[np.ndarray, "entry axis"]
    direction: Float[np.ndarray, "entry axis"]
    energy: Float[np.ndarray, " entry"]
    face: Int[np.ndarray, " entry"]


def _entries(seen: Event, box: Int32[np.ndarray, "2 axis"]) -> _Entries:
    close = beyond(seen.coords, box) <= LOOK
    coords, energy = seen.coords[close], seen.energy[close].astype(float)
    outside = [coords[:, axis] < low for axis, low in enumerate(box[0])]
    outside += [coords[:, axis] >= high for axis, high in enumerate(box[1])]
    touching = beyond(coords, box) == 1
    none = np.zeros((0, coords.shape[1]))
    columns: list[tuple[np.ndarray, ...]] = [(none, none, none[:, 0], np.zeros(0, int))]
    for face, there in enumerate(outside):
        rows = np.flatnonzero(there & touching)
        if not len(rows):
            continue
        around = cKDTree(coords[there]).query_ball_point(coords[rows], LOOK)
        away = coords[rows] - np.array([coords[there][each].mean(axis=0) for each in around])
        length = np.linalg.norm(away, axis=1)
        rows, away = rows[length > 0], away[length > 0] / length[length > 0, None]
        if not len(rows):
            continue
        group = pieces(coords[rows])
        weight = energy[rows] / np.bincount(group, energy[rows])[group]
        start, direction = (
            np.stack([np.bincount(group, weight * column) for column in values.T], axis=1)
            for values in (coords[rows], away)
        )
        length = np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
        mean = np.bincount(group, energy[rows]) / np.bincount(group)
        columns.append((start, direction / length, mean, np.full(len(start), face)))
    return _Entries(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _rays(entries: _Entries, box: Int32[np.ndarray, "2 axis"]) -> Found:
    """The places where each entry goes straight on."""
    steps = np.arange(1, LONGEST * int((box[1] - box[0]).min()) + 1)
    places = entries.start[:, None] + steps[None, :, None] * entries.direction[:, None]
    return np.asarray(np.rint(places).astype(int).reshape(-1, box.shape[1]))


def _links(entries: _Entries) -> list[tuple[Found, float]]:
    """The lines between entries through two faces that point to each other, and their mean energy.

    Two are linked if each is the one that the other points to best, there and back.
    """
    if not len(entries.start):
        return []
    to = entries.start[None] - entries.start[:, None]
    to /= np.maximum(np.linalg.norm(to, axis=2, keepdims=True), 1e-9)
    there = (to * entries.direction[:, None]).sum(axis=2)
    apart = entries.face[:, None] != entries.face[None]
    fit = np.where(apart, np.minimum(there, there.T), -1.0)
    best = fit.argmax(axis=1)
    rows = np.arange(len(best))
    first = (best[best] == rows) & (fit.max(axis=1) >= POINTS_TO) & (rows < best)
    pairs = np.stack([rows, best], axis=1)[first]
    return [(line(*entries.start[pair]), float(entries.energy[pair].mean())) for pair in pairs]


def line(start: Real[np.ndarray, " axis"], end: Real[np.ndarray, " axis"]) -> Found:
    """The voxels that the straight line between two places passes; whole numbers are the middles
    of voxels.

    Example:
        >>> line(np.array([0.0, 0.0]), np.array([3.0, 1.0])).tolist()
        [[0, 0], [1, 0], [2, 1], [3, 1]]
    """
    steps = 10 * math.ceil(np.abs(end - start).max()) + 1
    points = start + np.linspace(0, 1, steps)[:, None] * (end - start)
    return np.asarray(np.unique(np.floor(points + 0.5).astype(int), axis=0))


def _with_truth(places: Places, truth: Event) -> Event:
    """Voxels of energy 0 at these places, with the truth of what is there."""
    empty = Event.of(places, np.zeros(len(places)), truth.shape)
    here = (keys(places, truth.shape), keys(truth.coords, truth.shape))
    _, place, of = np.intersect1d(*here, assume_unique=True, return_indices=True)

    def taken(name: str) -> np.ndarray:
        values: np.ndarray = getattr(empty, name).copy()
        values[place] = getattr(truth, name)[of]
        return values

    return replace(
        empty, truth=taken("truth"), semantic=taken("semantic"), cluster=taken("cluster")
    )
