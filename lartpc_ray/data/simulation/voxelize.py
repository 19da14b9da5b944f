"""Paths -> Event: energies into voxels, and which instance a voxel belongs to.

The conventions are the Geant4 sample's. What a Michel electron radiates away is shower. Pieces of a
shower of fewer than ten voxels that are not where it starts, and tracks of fewer than five voxels,
are low-energy deposits with neither class nor cluster.
"""

from __future__ import annotations

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.simulation.physics import Particles, Steps
from lartpc_ray.data.transforms import pieces

PRIORITY = 1e6 * np.array([3, 3, 1, 0, 2])
"""A voxel of several instances is the track's, the Michel electron's, the shower's, the delta's in
this order, and the one's that left most energy among equals."""
SHOWER_PIECE = 10
"""Voxels of a piece that is more than a low-energy deposit."""
TRACK_VOXELS = 5
"""Voxels of a track that is more than a low-energy deposit."""


def image(particles: Particles, steps: Steps, side: int, pitch: float, threshold: float) -> Event:
    """The image of some paths: what falls into a voxel is added, its truth is one instance's.

    Args:
        particles: whose paths they are.
        steps: of at most one voxel each, cm from the corner of the image.
        side: voxels along each axis.
        pitch: side of a voxel, cm.
        threshold: voxels of less energy are left out, MeV.
    """
    shape = (side,) * 3
    begin, end = steps.begin / pitch, steps.end / pitch
    touches = (np.maximum(begin, end) > 0) & (np.minimum(begin, end) < side)
    near = np.flatnonzero(touches.all(axis=1))
    step, coords, share = cut_at_faces(begin.take(near, axis=0), end.take(near, axis=0))
    inside = np.flatnonzero(((coords >= 0) & (coords < side)).all(axis=1))
    coords, share = coords.take(inside, axis=0), share.take(inside)
    step = near.take(step.take(inside))
    particle = steps.particle.take(step)
    instances = int(particles.cluster.max(initial=0)) + 1
    both = np.ravel_multi_index(tuple(coords.T), shape) * instances
    both += particles.cluster.take(particle)
    order = np.argsort(both)
    both, particle = both.take(order), particle.take(order)
    part = _starts(both)
    energy = _over(np.add, (steps.deposit.take(step) * share).take(order), part)
    trunk = _over(np.maximum, particles.trunk.take(particle), part)
    semantic = particles.semantic.take(particle.take(part))
    place, cluster = np.divmod(both.take(part), instances)
    voxel = _starts(place)
    total = _over(np.add, energy, voxel)
    weight = energy + PRIORITY[semantic]
    number = np.repeat(np.arange(len(voxel)), np.diff(voxel, append=len(place)))
    largest = np.flatnonzero(weight == _over(np.maximum, weight, voxel)[number])
    main = np.zeros(len(voxel), np.int64)
    main[number[largest]] = largest
    main, total = main[total >= threshold], total[total >= threshold]
    coords = np.stack(np.unravel_index(place[main], shape), axis=1)
    semantic, cluster = _truth(coords, semantic[main], cluster[main], trunk[main])
    return Event.of(coords, total, shape, semantic=semantic, cluster=cluster)


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where a new value starts."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def _over(way: np.ufunc, values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`reduceat` that knows of nothing at all."""
    return np.asarray(way.reduceat(values, first)) if len(first) else values[:0]


def cut_at_faces(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut steps of at most one voxel where they pass from one voxel into another.

    Args:
        begin, end: (step, 3), in voxels.

    Returns:
        of each part its step, its voxel and the share of the step's length.

    Example:
        >>> step, voxel, share = cut_at_faces(np.array([[0.5, 0, 0]]), np.array([[1.25, 0, 0]]))
        >>> voxel.tolist(), share.round(2).tolist()
        ([[0, 0, 0], [1, 0, 0]], [0.67, 0.33])
    """
    low, high = np.floor(begin), np.floor(end)
    way = end - begin
    passes = low != high
    at = np.ones((len(begin), 5))
    at[:, 0] = 0
    np.divide(np.maximum(low, high) - begin, way, out=at[:, 1:4], where=passes)
    at[:, 1:4].sort(axis=1)
    share = np.diff(at, axis=1).ravel()
    part = np.flatnonzero(share > 0)
    step = part // 4
    middle = ((at[:, 1:] + at[:, :-1]) / 2).ravel().take(part)
    place = begin.take(step, axis=0) + middle[:, None] * way.take(step, axis=0)
    return step, np.floor(place).astype(np.int64), share.take(part)


def _truth(
    coords: np.ndarray, semantic: np.ndarray, cluster: np.ndarray, trunk: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Class and instance of each voxel: small pieces become low-energy deposits."""
    track = (semantic == ParticleClass.HIP) | (semantic == ParticleClass.MIP)
    small = track & (np.bincount(cluster).take(cluster) < TRACK_VOXELS)
    whole = np.bincount(cluster, ~trunk).take(cluster) == 0
    some = np.flatnonzero(~track & ~whole)
    if len(some):
        mine = cluster[some]
        main = trunk[some] | _first(mine) & (np.bincount(mine, trunk[some]).take(mine) == 0)
        piece = pieces(coords[some], mine)
        off = np.bincount(piece, main).take(piece) == 0
        small[some] = off & (np.bincount(piece).take(piece) < SHOWER_PIECE)
        semantic[some[off & (semantic[some] == ParticleClass.MICHEL)]] = ParticleClass.SHOWER
    named = (np.cumsum(np.bincount(cluster) > 0) - 1).take(cluster)
    return np.where(small, NO_CLASS, semantic), np.where(small, -1, named)


def _first(values: np.ndarray) -> np.ndarray:
    """Whether each value is the first of its kind."""
    rows = np.arange(len(values))
    first = np.zeros(int(values.max(initial=0)) + 1, np.int64)
    first[values[::-1]] = rows[::-1]
    return np.asarray(first.take(values) == rows)
