"""Dead regions: hide their voxels, and propose the voxels that may be active in them.

A dead region is a box of the image in which the detector reads nothing. A plane of dead wires is a
slab: a box across the whole image.

The candidates of a region are all of its voxels (`dense`, as in LArDRIP) or, as a slab has
millions of voxels, those near the straight-line extrapolation of tracks that enter the region
(`near`). The extrapolation reads only voxels outside of the regions:

1. An entry is a connected group of voxels that touch one face of the region. Its start is the mean
   position of the group. Its direction is the mean direction to the group from the voxels within
   `DIRECTION_RANGE` voxels beyond the same face. Both means are weighted by energy.
2. A ray continues each entry along its direction, up to `MAX_RAY` times the region's least side.
3. A line links two entries through different faces that point to each other, if each of them is
   the best partner of the other.
4. Voxels of the region within `margin` voxels of a ray or a line, along each axis, are candidates.
5. A candidate on a line starts with the mean energy of the line's two entries, any other with 0.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
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
from lartpc_ray.data.event import PER_VOXEL, DeadRegions, Event, voxel_keys
from lartpc_ray.data.transforms import pieces
from lartpc_ray.settings import Settings

TRACKS = (ParticleClass.HIP, ParticleClass.MIP)
MIN_COSINE = 0.6
"""Least cosine between an entry's direction and the line to another entry: 53 degrees."""
PITCH = 0.3
"""cm per voxel."""
DIRECTION_RANGE = 10
"""Voxels over which the direction of an entry is measured."""
MAX_RAY = 4
"""Length of a ray, in least sides of the region: rays may enter at up to 75 degrees."""
Candidates = Literal["near", "dense"]
Corners = Int32[np.ndarray, "region 2 axis"]
Bounds = Int32[np.ndarray, "2 axis"]
Coords = Int[np.ndarray, "_ axis"]


class Slab(Settings):
    """A dead region across the whole image, from `position` to `position + width` on one axis."""

    axis: int = Field(ge=0, le=2, description="axis along which the slab is thin")
    position: NonNegativeFloat = Field(description="lower side of the slab, cm")
    width: PositiveFloat = Field(description="thickness of the slab, cm")


class Box(Settings):
    """A dead region between two corners."""

    low: tuple[NonNegativeFloat, ...] = Field(description="lower corner, cm along each axis")
    high: tuple[PositiveFloat, ...] = Field(description="upper corner, cm along each axis")


class DeadMap(Settings):
    """The dead regions of a detector."""

    pitch: PositiveFloat = Field(default=PITCH, description="cm per voxel")
    slabs: tuple[Slab, ...] = Field(default=(), description="regions across the whole image")
    boxes: tuple[Box, ...] = Field(default=(), description="regions between two corners")

    @model_validator(mode="after")
    def _not_empty(self) -> DeadMap:
        if not self.slabs and not self.boxes:
            raise ValueError("no dead region in the map; give slabs or boxes")
        return self

    def corners(self, shape: tuple[int, ...]) -> Corners:
        """Return the regions in voxels of an image of this shape.

        Raises:
            ValueError: for a region outside of the image, or with another number of axes.
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
            region = voxels[np.argmax(empty)].tolist()
            raise ValueError(f"dead region {region}: no voxel of it is in the image {shape}")
        return corners


class RandomRegions(Settings):
    """Dead regions at random positions."""

    kind: Literal["slab", "box"] = Field(
        default="slab", description="slab: across the whole image; box: with equal sides"
    )
    width: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(3.0, 3.0),
        description="least and largest thickness of a slab or side of a box, cm",
    )
    number: PositiveInt = Field(default=2, description="regions per event")
    on_track_fraction: float = Field(
        validation_alias=AliasChoices("on_track_fraction", "aimed"),
        default=0.8,
        ge=0,
        le=1,
        description="share of the regions that are centred on a voxel of a track",
    )
    pitch: PositiveFloat = Field(default=PITCH, description="cm per voxel")

    @model_validator(mode="after")
    def _ascending(self) -> RandomRegions:
        if self.width[0] > self.width[1]:
            raise ValueError(f"width {self.width}: give the smaller width first")
        return self

    def corners(self, event: Event, rng: np.random.Generator) -> Corners:
        """Draw the regions of an event, limited to the image."""
        corners = np.zeros((self.number, 2, len(event.shape)), np.int32)
        track = np.flatnonzero(np.isin(event.semantic, TRACKS))
        for low, high in corners:
            centre = rng.integers(0, event.shape)
            if rng.random() < self.on_track_fraction and len(track):
                centre = event.coords[rng.choice(track)]
            side = max(1, round(rng.uniform(*self.width) / self.pitch))
            low[:] = centre - side // 2
            high[:] = low + side
            if self.kind == "slab":
                others = np.arange(len(event.shape)) != rng.integers(len(event.shape))
                low[others], high[others] = 0, np.array(event.shape)[others]
        return np.clip(corners, 0, np.array(event.shape, np.int32)).astype(np.int32)


def fixed_rng(event: Event) -> np.random.Generator:
    """Return a generator seeded by the event alone: every evaluation hides the same regions."""
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(event.coords).tobytes()))


def dead_region(
    event: Event,
    corners: Corners,
    *,
    margin: int,
    limit: int,
    candidates: Candidates = "near",
) -> Event:
    """Hide the voxels in dead regions, and add candidates with their truth (see above).

    Args:
        event: an event without dead regions.
        corners: the regions; they may overlap.
        margin: voxels along each axis between a candidate and the nearest ray or line.
        limit: most candidates of all regions together.
        candidates: the rule that selects them.

    Raises:
        ValueError: for more candidates than the limit.

    Example:
        >>> track = np.array([[0, 1], [1, 1], [2, 1], [3, 1]])
        >>> event = Event.of(track, np.array([1.0, 1.0, 0.5, 1.0]), (4, 3))
        >>> box = np.array([[[2, 0], [3, 3]]], np.int32)
        >>> filled = dead_region(event, box, margin=0, limit=9)
        >>> filled.coords[filled.dead].tolist(), filled.truth[filled.dead].tolist()
        ([[2, 1]], [0.5])
    """
    if candidates == "dense":
        _refuse_large(corners, limit)
    dead = region_of(event.coords, corners) >= 0
    seen, truth = event.select(~dead), event.select(dead)
    keys, lines = _propose(seen, corners, margin, candidates)
    _refuse_many(len(keys), len(corners), limit, candidates)
    energy = np.zeros(len(keys), np.float32)
    for coords, mean in lines:
        energy[np.isin(keys, voxel_keys(coords, event.shape))] = mean
    filled = replace(_with_truth(keys, truth), energy=energy)
    return replace(concatenate(seen, filled), regions=DeadRegions(corners, truth))


def region_of(coords: Int[np.ndarray, "voxel axis"], corners: Corners) -> Int[np.ndarray, " voxel"]:
    """Return the number of the first region that contains each voxel, -1 for none.

    Example:
        >>> region_of(np.array([[1, 1], [5, 5]]), np.array([[[4, 4], [6, 6]]], np.int32)).tolist()
        [-1, 0]
    """
    region = np.full(len(coords), -1)
    for number, (low, high) in reversed(list(enumerate(corners))):
        region[((coords >= low) & (coords < high)).all(axis=1)] = number
    return region


def concatenate(first: Event, second: Event) -> Event:
    """Join two events of one image that have no voxel in common."""
    both: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in PER_VOXEL
    }
    return replace(first, **both)


def distance_to_box(
    coords: Int[np.ndarray, "voxel axis"], box: Bounds
) -> Int[np.ndarray, " voxel"]:
    """Return the distance to the box along the axis where it is largest; 0 or less inside."""
    low, high = box
    return np.asarray(np.maximum(low - coords, coords - (high - 1)).max(axis=1))


def line_voxels(start: Real[np.ndarray, " axis"], end: Real[np.ndarray, " axis"]) -> Coords:
    """Return the voxels on the straight line between two points; a voxel's centre is an integer.

    Example:
        >>> line_voxels(np.array([0.0, 0.0]), np.array([3.0, 1.0])).tolist()
        [[0, 0], [1, 0], [2, 1], [3, 1]]
    """
    steps = 10 * math.ceil(np.abs(end - start).max()) + 1
    points = start + np.linspace(0, 1, steps)[:, None] * (end - start)
    return np.asarray(np.unique(np.floor(points + 0.5).astype(int), axis=0))


def _refuse_large(corners: Corners, limit: int) -> None:
    """Refuse a region of too many voxels before its voxels fill the memory."""
    for low, high in corners:
        sides = (high - low).tolist()
        if math.prod(sides) > limit:
            raise ValueError(
                f"a dead region of {' x '.join(map(str, sides))} voxels, more than max_candidates "
                f"{limit}: make regions smaller, take candidates near instead of dense, or raise it"
            )


def _refuse_many(count: int, regions: int, limit: int, candidates: Candidates) -> None:
    if count > limit:
        less = "the margin less" if candidates == "near" else "take candidates near"
        raise ValueError(
            f"{count} candidate voxels in {regions} dead regions, more than "
            f"max_candidates {limit}: make regions fewer or narrower, {less}, or raise it"
        )


def _propose(
    seen: Event, corners: Corners, margin: int, candidates: Candidates
) -> tuple[Int[np.ndarray, " candidate"], list[Line]]:
    """Return the sorted keys of the candidates, and the lines between entries."""
    coords, lines = [], []
    for box in corners:
        entries = _find_entries(seen, box)
        links = _link(entries)
        if candidates == "dense":
            coords.append(_all_voxels(box))
        else:
            paths = [_ray_voxels(entries, box), *(on_line for on_line, _ in links)]
            coords.append(_within_margin(np.concatenate(paths), box, margin))
        lines += links
    return np.unique(voxel_keys(np.concatenate(coords), seen.shape)), lines


def _all_voxels(box: Bounds) -> Coords:
    offsets = np.indices(tuple(box[1] - box[0])).reshape(box.shape[1], -1)
    return np.asarray(offsets.T + box[0])


def _within_margin(paths: Coords, box: Bounds, margin: int) -> Coords:
    """Return the voxels of the box within `margin` of a voxel of a path."""
    near = np.asarray(paths[distance_to_box(paths, box) <= margin])
    for axis, (low, high) in enumerate(box.T):
        near = _unique(near, box, margin)
        steps = np.tile(np.arange(-margin, margin + 1), len(near))
        near = np.repeat(near, 2 * margin + 1, axis=0)
        near[:, axis] += steps
        near = near[(near[:, axis] >= low) & (near[:, axis] < high)]
    return near


def _unique(coords: Coords, box: Bounds, margin: int) -> Coords:
    """Remove repeated voxels within `margin` of the box; keys sort faster than rows."""
    low, sides = box[0] - margin, tuple((box[1] - box[0] + 2 * margin).tolist())
    keys = np.unique(voxel_keys(coords - low, sides))
    return np.asarray(np.stack(np.unravel_index(keys, sides), axis=1) + low)


@dataclass(frozen=True, eq=False)
class _Entries:
    """The groups of voxels that enter a region.

    Attributes:
        start: (entry, axis) mean position of the group, weighted by energy: the centre of a wide
            track is known to less than a voxel.
        direction: (entry, axis) unit vector into the region.
        energy: (entry,) mean energy of a voxel of the group, MeV.
        face: (entry,) face of the region, lower faces first.
    """

    start: Float[np.ndarray, "entry axis"]
    direction: Float[np.ndarray, "entry axis"]
    energy: Float[np.ndarray, " entry"]
    face: Int[np.ndarray, " entry"]


Line = tuple[Coords, float]
"""The voxels on the line between two entries, and the mean energy of the entries."""


def _find_entries(seen: Event, box: Bounds) -> _Entries:
    is_near = distance_to_box(seen.coords, box) <= DIRECTION_RANGE
    coords, energy = seen.coords[is_near], seen.energy[is_near].astype(float)
    beyond_face = [coords[:, axis] < low for axis, low in enumerate(box[0])]
    beyond_face += [coords[:, axis] >= high for axis, high in enumerate(box[1])]
    touching = distance_to_box(coords, box) == 1
    none = np.zeros((0, coords.shape[1]))
    columns: list[tuple[np.ndarray, ...]] = [(none, none, none[:, 0], np.zeros(0, int))]
    for face, outside in enumerate(beyond_face):
        rows = np.flatnonzero(outside & touching)
        if len(rows):
            around = cKDTree(coords[outside]).query_ball_point(coords[rows], DIRECTION_RANGE)
            means = [coords[outside][neighbours].mean(axis=0) for neighbours in around]
            away = coords[rows] - np.array(means)
            length = np.linalg.norm(away, axis=1)
            rows, away = rows[length > 0], away[length > 0] / length[length > 0, None]
        if len(rows):
            groups = _average_groups(coords[rows], away, energy[rows])
            columns.append((*groups, np.full(len(groups[0]), face)))
    return _Entries(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _average_groups(
    coords: np.ndarray, away: np.ndarray, energy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start, direction and mean energy of each connected group of voxels."""
    group = pieces(coords)
    weight = energy / np.bincount(group, energy)[group]
    start, direction = (
        np.stack([np.bincount(group, weight * column) for column in values.T], axis=1)
        for values in (coords, away)
    )
    length = np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    return start, direction / length, np.bincount(group, energy) / np.bincount(group)


def _ray_voxels(entries: _Entries, box: Bounds) -> Coords:
    steps = np.arange(1, MAX_RAY * int((box[1] - box[0]).min()) + 1)
    points = entries.start[:, None] + steps[None, :, None] * entries.direction[:, None]
    return np.asarray(np.rint(points).astype(int).reshape(-1, box.shape[1]))


def _link(entries: _Entries) -> list[Line]:
    """Draw the lines between entries through two faces that point to each other."""
    if not len(entries.start):
        return []
    to = entries.start[None] - entries.start[:, None]
    to /= np.maximum(np.linalg.norm(to, axis=2, keepdims=True), 1e-9)
    cosine = (to * entries.direction[:, None]).sum(axis=2)
    apart = entries.face[:, None] != entries.face[None]
    fit = np.where(apart, np.minimum(cosine, cosine.T), -1.0)
    best = fit.argmax(axis=1)
    rows = np.arange(len(best))
    mutual = (best[best] == rows) & (fit.max(axis=1) >= MIN_COSINE) & (rows < best)
    pairs = np.stack([rows, best], axis=1)[mutual]
    return [
        (line_voxels(*entries.start[pair]), float(entries.energy[pair].mean())) for pair in pairs
    ]


def _with_truth(keys: Int[np.ndarray, " candidate"], truth: Event) -> Event:
    """Make candidates of energy 0 with the truth of the hidden voxels."""
    coords = np.stack(np.unravel_index(keys, truth.shape), axis=1)
    filled = Event.of(coords, np.zeros(len(coords)), truth.shape)
    _, candidate, hidden = np.intersect1d(
        keys, voxel_keys(truth.coords, truth.shape), assume_unique=True, return_indices=True
    )
    known = {name: getattr(filled, name).copy() for name in ("truth", "semantic", "cluster")}
    for name, values in known.items():
        values[candidate] = getattr(truth, name)[hidden]
    return replace(filled, **known, dead=np.ones(len(coords), bool))
