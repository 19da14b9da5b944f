"""Paths -> Event: the energy of each voxel, and the instance that it belongs to.

The conventions are the Geant4 sample's. The radiation of a Michel electron is shower. Pieces of a
shower of fewer than ten voxels away from its start, and tracks of fewer than five voxels, are
low-energy deposits with neither class nor cluster.
"""

from __future__ import annotations

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.simulation.physics import Array, Particles, Steps
from lartpc_ray.data.transforms import pieces

PRIORITY = 1e6 * np.array([3, 3, 1, 0, 2])
"""A voxel of several instances belongs to a track before a Michel electron, a shower and a delta
electron, and among equals to the instance of most energy."""
SHOWER_PIECE = 10
"""Fewer voxels of a shower's piece are a low-energy deposit."""
TRACK_VOXELS = 5
"""Fewer voxels of a track are a low-energy deposit."""


def image(particles: Particles, steps: Steps, side: int, pitch: float, threshold: float) -> Event:
    """Make the image of some paths: voxels sum energies, and their truth is one instance's.

    Args:
        particles: the particles of the paths.
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
    both = voxel_keys(coords, shape) * instances
    both += particles.cluster.take(particle)
    order = np.argsort(both)
    both, particle = both.take(order), particle.take(order)
    part = _starts(both)
    energy = _over(np.add, (steps.deposit.take(step) * share).take(order), part)
    first = _over(np.maximum, particles.first.take(particle), part)
    semantic = particles.semantic.take(particle.take(part))
    key, cluster = np.divmod(both.take(part), instances)
    voxel = _starts(key)
    total = _over(np.add, energy, voxel)
    weight = energy + PRIORITY[semantic]
    number = np.repeat(np.arange(len(voxel)), np.diff(voxel, append=len(key)))
    largest = np.flatnonzero(weight == _over(np.maximum, weight, voxel)[number])
    main = np.zeros(len(voxel), np.int64)
    main[number[largest]] = largest
    main, total = main[total >= threshold], total[total >= threshold]
    coords = np.stack(np.unravel_index(key[main], shape), axis=1)
    semantic, cluster = _truth(coords, semantic[main], cluster[main], first[main])
    return Event.of(coords, total, shape, semantic=semantic, cluster=cluster)


def _starts(ordered: Array) -> Array:
    """Return the index of each new value."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def _over(way: np.ufunc, values: Array, first: Array) -> Array:
    """Reduce values from each index to the next; unlike `reduceat`, allow no values."""
    return np.asarray(way.reduceat(values, first)) if len(first) else values[:0]


def cut_at_faces(begin: Array, end: Array) -> tuple[Array, Array, Array]:
    """Cut steps of at most one voxel where they pass from one voxel into another.

    Args:
        begin, end: (step, 3), in voxels.

    Returns:
        the step of each part, its voxel and its share of the step's length.

    Example:
        >>> step, voxel, share = cut_at_faces(np.array([[0.5, 0, 0]]), np.array([[1.25, 0, 0]]))
        >>> voxel.tolist(), share.round(2).tolist()
        ([[0, 0, 0], [1, 0, 0]], [0.67, 0.33])
    """
    low, high = np.floor(begin), np.floor(end)
    move, passes = end - begin, low != high
    cuts = np.ones((len(begin), 5))
    cuts[:, 0] = 0
    np.divide(np.maximum(low, high) - begin, move, out=cuts[:, 1:4], where=passes)
    cuts[:, 1:4].sort(axis=1)
    share = np.diff(cuts, axis=1).ravel()
    part = np.flatnonzero(share > 0)
    step = part // 4
    middle = ((cuts[:, 1:] + cuts[:, :-1]) / 2).ravel().take(part)
    point = begin.take(step, axis=0) + middle[:, None] * move.take(step, axis=0)
    return step, np.floor(point).astype(np.int64), share.take(part)


def _truth(coords: Array, semantic: Array, cluster: Array, first: Array) -> tuple[Array, Array]:
    """Return class and instance of each voxel; small pieces become low-energy deposits."""
    track = (semantic == ParticleClass.HIP) | (semantic == ParticleClass.MIP)
    small = track & (np.bincount(cluster).take(cluster) < TRACK_VOXELS)
    whole = np.bincount(cluster, ~first).take(cluster) == 0
    some = np.flatnonzero(~track & ~whole)
    if len(some):
        own = cluster[some]
        main = first[some] | _is_first(own) & (np.bincount(own, first[some]).take(own) == 0)
        piece = pieces(coords[some], own)
        off = np.bincount(piece, main).take(piece) == 0
        small[some] = off & (np.bincount(piece).take(piece) < SHOWER_PIECE)
        semantic[some[off & (semantic[some] == ParticleClass.MICHEL)]] = ParticleClass.SHOWER
    named = (np.cumsum(np.bincount(cluster) > 0) - 1).take(cluster)
    return np.where(small, NO_CLASS, semantic), np.where(small, -1, named)


def _is_first(values: Array) -> Array:
    """Return whether each value is the first of its kind."""
    rows = np.arange(len(values))
    first = np.zeros(int(values.max(initial=0)) + 1, np.int64)
    first[values[::-1]] = rows[::-1]
    return np.asarray(first.take(values) == rows)
