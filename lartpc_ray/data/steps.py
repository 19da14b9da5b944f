"""Event -> Event: what may be done to an image before a network sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lartpc_ray.data.event import Event


def above(event: Event, threshold: float) -> Event:
    """Only the voxels of more than `threshold` (MeV; ADC in 2D)."""
    return event.keep(event.energy > threshold)


def crop(event: Event, side: int, rng: np.random.Generator) -> Event:
    """The voxels in a box of this side around a random voxel; the image keeps its size."""
    if not len(event) or side >= max(event.shape):
        return event
    centre = event.coords[rng.integers(len(event))]
    low = np.clip(centre - side // 2, 0, np.maximum(np.array(event.shape) - side, 0))
    inside = (event.coords >= low) & (event.coords < low + side)
    return event.keep(inside.all(axis=1))


def overlay(first: Event, second: Event) -> Event:
    """Two events in one image, as pile-up is; where both have a voxel, energies add.

    Crowded images teach kernels to be no wider than they must (docs/notes.md).
    """
    if first.shape != second.shape:
        raise ValueError(f"an image of {first.shape} over one of {second.shape}")
    beyond = first.cluster.max(initial=-1) + 1
    shifted = np.where(second.cluster < 0, second.cluster, second.cluster + beyond)
    return Event.of(
        np.concatenate([first.coords, second.coords]),
        np.concatenate([first.energy, second.energy]),
        first.shape,
        semantic=np.concatenate([first.semantic, second.semantic]),
        cluster=np.concatenate([first.cluster, shifted]),
        merge=True,
    )


def augment(event: Event, rng: np.random.Generator) -> Event:
    """One of the rotations and flips of the cube (48 in 3D, 8 in 2D), each as likely.

    Only axes of equal length are exchanged, so the image keeps its shape.

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
    return replace(event, coords=coords)
