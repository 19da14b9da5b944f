"""Transforms of events, each from `Event` to `Event`."""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.settings import Settings
from lartpc_ray.sparse.keys import key_strides, voxel_keys
from lartpc_ray.sparse.neighbours import neighbours, offset_rows

Plane = Literal["U", "V", "Y"]
PLANE_SHAPE = (3456, 1008)
"""Wires and (six-fold summed) ticks of a plane image (SparseSSNet)."""


class Wires(Settings):
    """Wire planes of a detector; the defaults are MicroBooNE's at 3 mm per voxel."""

    U: float = Field(default=60.0, description="angle of the U wires from the vertical, degrees")
    V: float = Field(default=-60.0, description="angle of the V wires from the vertical, degrees")
    Y: float = Field(default=0.0, description="angle of the Y wires from the vertical, degrees")
    pitch: float = Field(default=1.0, gt=0, description="distance between wires, voxels")
    adc_per_mev: float = Field(
        default=80.0,
        gt=0,
        description="ADC counts per MeV; 0.6 MeV in 3 mm give about 50",
    )


def above(event: Event, threshold: float) -> Event:
    """Keep the voxels of more than `threshold` (MeV; ADC counts in 2D)."""
    return event.select(event.energy > threshold)


def window(event: Event, low: float, high: float) -> Event:
    """Keep voxels of at least `low`, and limit energies to `high` (SparseSSNet: 10, 300 ADC)."""
    kept = event.select(event.energy >= low)
    return replace(kept, energy=np.minimum(kept.energy, np.float32(high)))


def project(event: Event, plane: Plane, wires: Wires | None = None) -> Event:
    """Project a 3D image on a wire plane: positions (wire, tick), energies as ADC counts.

    The axes of the image are drift, height and beam direction; a voxel is as long as a tick. Wires
    at an angle t measure z cos t + y sin t, in units of their pitch. Deposits on one pixel are
    added; class and cluster are those of the largest deposit. The image is centred on the plane.

    Raises:
        ValueError: for an image that is not 3D, or is larger than the plane.
    """
    if len(event.shape) != 3:
        raise ValueError(f"a plane needs a 3D image, not an image of {len(event.shape)} axes")
    wires = wires or Wires()
    angle = radians(getattr(wires, plane))
    along, up = cos(angle) / wires.pitch, sin(angle) / wires.pitch
    depth, height, width = event.shape
    across = (width - 1) * along + abs((height - 1) * up) + 1
    if across > PLANE_SHAPE[0] or depth > PLANE_SHAPE[1]:
        raise ValueError(f"an image of {event.shape} voxels does not fit a plane of {PLANE_SHAPE}")
    low = min(0.0, (height - 1) * up)
    x, y, z = event.coords.T
    wire = z * along + y * up - low + (PLANE_SHAPE[0] - across) / 2
    tick = x + (PLANE_SHAPE[1] - depth) // 2
    return Event.of(
        np.stack([np.floor(wire), tick], axis=1).astype(np.int32),
        event.energy * np.float32(wires.adc_per_mev),
        PLANE_SHAPE,
        semantic=event.semantic,
        cluster=event.cluster,
        merge=True,
    )


def box(event: Event, side: int) -> Event:
    """Cut out the box of this side around the median voxel as a new image."""
    if not len(event):
        return replace(event, shape=(side,) * len(event.shape))
    low = np.median(event.coords, axis=0).astype(np.int32) - side // 2
    low = np.clip(low, 0, np.maximum(np.array(event.shape) - side, 0)).astype(np.int32)
    inside = ((event.coords >= low) & (event.coords < low + side)).all(axis=1)
    kept = event.select(inside)
    return replace(kept, coords=kept.coords - low, shape=(side,) * len(event.shape))


def poster_classes(event: Event) -> Event:
    """Convert to the four classes of Koh et al.'s poster.

    HIP becomes MIP, which then means track. Each connected piece of a shower becomes a cluster.
    """
    semantic = np.where(event.semantic == ParticleClass.HIP, ParticleClass.MIP, event.semantic)
    cluster = event.cluster.copy()
    shower = event.semantic == ParticleClass.SHOWER
    for number in np.unique(cluster[shower & (cluster >= 0)]):
        rows = np.flatnonzero(shower & (event.cluster == number))
        cluster[rows] = cluster.max() + 1 + pieces(event.coords[rows])
    return replace(event, semantic=semantic.astype(np.int32), cluster=cluster)


def primary_ionisation(event: Event) -> Event:
    """Limit Michel and delta electrons to their primary ionisation (Dominé & Terao 2020, VI).

    The connected piece of most energy keeps the class of the cluster. The other pieces, from
    converted photons, become shower.
    """
    semantic = event.semantic.copy()
    for particle in (ParticleClass.MICHEL, ParticleClass.DELTA):
        for cluster in np.unique(event.cluster[event.semantic == particle]):
            rows = np.flatnonzero((event.semantic == particle) & (event.cluster == cluster))
            piece = pieces(event.coords[rows])
            largest = np.bincount(piece, event.energy[rows]).argmax()
            semantic[rows[piece != largest]] = ParticleClass.SHOWER
    return replace(event, semantic=semantic)


def pieces(coords: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Return the number (voxel,) of each voxel's connected piece; neighbours share a corner.

    Voxels of different `label` (voxel,), from 0, are not connected.

    Example:
        >>> pieces(np.array([[0, 0], [1, 1], [5, 5]])).tolist()
        [0, 0, 1]
        >>> pieces(np.array([[0, 0], [1, 1]]), np.array([0, 1])).tolist()
        [0, 1]
    """
    count, axes = coords.shape
    if not count:
        return np.zeros(0, np.int32)
    near = coords.astype(np.int64) - coords.min(axis=0)
    shape = tuple((near.max(axis=0) + 1).tolist())
    keys = voxel_keys(near, shape, 0 if label is None else label, margin=1)
    order = np.argsort(keys, kind="stable")
    pairs = [
        (other, one)
        for lead in offset_rows(axes)
        for _, other, one in neighbours(keys[order], key_strides(shape, margin=1), lead)
    ]
    rows, columns = (order[np.concatenate(side)] for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def crop(event: Event, side: int, rng: np.random.Generator) -> Event:
    """Keep the voxels in a box around a random voxel; the image keeps its size."""
    if not len(event) or side >= max(event.shape):
        return event
    centre = event.coords[rng.integers(len(event))]
    low = np.clip(centre - side // 2, 0, np.maximum(np.array(event.shape) - side, 0))
    inside = (event.coords >= low) & (event.coords < low + side)
    return event.select(inside.all(axis=1))


def overlay(first: Event, second: Event) -> Event:
    """Put two events into one image, as pile-up does; energies of a common voxel add.

    Crowded images train narrow kernels (docs/notes.md).
    """
    if first.shape != second.shape:
        raise ValueError(f"an image of {first.shape} over one of {second.shape}")
    if first.dead.any() or second.dead.any():
        raise ValueError("data.overlay: events with dead regions share no image; set it to 0")
    next_free = int(first.cluster.max(initial=-1)) + 1
    cluster = np.concatenate([first.cluster, second.cluster]).astype(np.int64)
    cluster[len(first) :][second.cluster >= 0] += next_free
    if cluster.max(initial=-1) >= 2**31:  # renumber: an event has 32-bit clusters
        known = cluster >= 0
        cluster[known] = np.unique(cluster[known], return_inverse=True)[1]
    return Event.of(
        np.concatenate([first.coords, second.coords]),
        np.concatenate([first.energy, second.energy]),
        first.shape,
        semantic=np.concatenate([first.semantic, second.semantic]),
        cluster=cluster,
        merge=True,
    )


def augment(event: Event, rng: np.random.Generator) -> Event:
    """Apply a random rotation or flip of the cube (48 in 3D, 8 in 2D), all equally likely.

    An image of unequal sides is only flipped, so that it keeps its shape. The result has no
    `regions`: hidden voxels serve scores, and no score is taken of an augmented event.

    Example:
        >>> event = Event.of(np.array([[0, 1]]), np.array([1.0]), (4, 4))
        >>> sorted(augment(event, np.random.default_rng(1)).coords[0].tolist()) in ([0, 1], [0, 2],
        ...     [1, 3], [2, 3])
        True
    """
    axes = rng.permutation(len(event.shape))
    shape = np.array(event.shape)
    if not (shape[axes] == shape).all():
        axes = np.arange(len(shape))
    coords = event.coords[:, axes]
    flip = rng.random(len(shape)) < 0.5
    coords = np.where(flip, shape - 1 - coords, coords).astype(np.int32)
    return replace(event, coords=coords, regions=None)


def shift(event: Event, most: int, rng: np.random.Generator) -> Event:
    """Move the event by up to `most` voxels along each axis, within the image."""
    if not len(event):
        return event
    low = np.maximum(-event.coords.min(axis=0), -most)
    high = np.minimum(np.array(event.shape) - 1 - event.coords.max(axis=0), most)
    step = rng.integers(low, high, endpoint=True)
    return replace(event, coords=(event.coords + step).astype(np.int32), regions=None)


def rescale(event: Event, spread: float, rng: np.random.Generator) -> Event:
    """Multiply all energies by one random factor around 1, as an error of calibration does."""
    factor = np.float32(max(0.0, rng.normal(1.0, spread)))
    return replace(event, energy=event.energy * factor, truth=event.truth * factor)
