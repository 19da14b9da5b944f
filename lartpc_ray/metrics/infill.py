"""Scores of filled dead regions: the voxels of each crossing track, and whole regions.

A track crosses a region if it has voxels inside and two seen voxels outside that do not lie beyond
the same face of the region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from lartpc_ray.data.dead_regions import TRACKS, distance_to_box, region_of
from lartpc_ray.data.event import Event, voxel_keys

NEAR = 3
"""Largest distance, in voxels, from a region to the seen voxels of a track on both sides."""
CORRIDOR = 5.0
"""Largest distance, in voxels, of a track's voxel to the line between its ends.

False voxels further away belong to no track and count in the scores of whole regions only.
"""
SHAPES = ("f1", "iou", "precision", "recall")
Counts = Float[np.ndarray, "crossing point"]
Places = Int[np.ndarray, "place axis"]
PerPlace = Float[np.ndarray, " place"]
Box = Int[np.ndarray, "2 axis"]


@dataclass(frozen=True, eq=False)
class Crossing:
    """A track that crosses a dead region.

    Attributes:
        region: number of the region.
        name: class of the track.
        ends: (2, axis) the nearest seen voxels on the two sides.
        energy: mean energy of its seen voxels near the region, MeV.
        truth: the track's voxels in the region.
    """

    region: int
    name: str
    ends: Box
    energy: float
    truth: Event


def crossings(event: Event) -> list[Crossing]:
    """Find the tracks that cross the dead regions of an event, by their true clusters."""
    if event.regions is None:
        return []
    seen, hidden = event.select(~event.dead), event.regions.truth
    lies_in = region_of(hidden.coords, event.regions.corners)
    crossing = []
    for region, box in enumerate(event.regions.corners):
        near = seen.select(distance_to_box(seen.coords, box) <= NEAR)
        for particle in TRACKS:
            inside = (lies_in == region) & (hidden.semantic == particle) & (hidden.cluster >= 0)
            for cluster in np.unique(hidden.cluster[inside]):
                track = near.select((near.semantic == particle) & (near.cluster == cluster))
                ends = _ends(track.coords, box)
                if ends is not None:
                    truth = hidden.select(inside & (hidden.cluster == cluster))
                    energy = float(track.energy.mean())
                    crossing.append(Crossing(region, particle.name, ends, energy, truth))
    return crossing


def _ends(coords: Places, box: Box) -> Box | None:
    """Return the nearest two voxels that do not lie beyond one face of the box; None without."""
    side = np.where(coords < box[0], -1, np.where(coords >= box[1], 1, 0))
    apart = ~((side[:, None] == side[None]) & (side[:, None] != 0)).any(axis=2)
    if not apart.any():
        return None
    far = distance_to_box(coords, box)
    gap = np.linalg.norm(coords[:, None] - coords[None], axis=2)
    cost = np.where(apart, far[:, None] + far[None] + 1e-3 * gap, np.inf)
    return coords[list(np.unravel_index(cost.argmin(), cost.shape))]


def to_segment(coords: Places, ends: Box) -> PerPlace:
    """Compute the distance of each voxel to the straight line between two ends.

    Example:
        >>> to_segment(np.array([[1, 2], [5, 0]]), np.array([[0, 0], [3, 0]])).tolist()
        [2.0, 2.0]
    """
    along = (ends[1] - ends[0]).astype(float)
    share = np.clip((coords - ends[0]) @ along / (along @ along), 0, 1)
    return np.asarray(np.linalg.norm(coords - ends[0] - share[:, None] * along, axis=1))


def assign_crossings(
    event: Event, tracks: Sequence[Crossing], coords: Places
) -> Int[np.ndarray, " place"]:
    """Return the crossing track that each voxel in a dead region belongs to; -1 none.

    A voxel belongs to the track of its region with the nearest line, up to `CORRIDOR`. A true voxel
    of a crossing track always belongs to that track; any other true voxel belongs to no crossing
    track, because it is not wrong.
    """
    assert event.regions is not None
    owner = np.full(len(coords), -1)
    nearest = np.full(len(coords), CORRIDOR + 1e-9)
    lies_in = region_of(coords, event.regions.corners)
    for number, crossing in enumerate(tracks):
        distance = to_segment(coords, crossing.ends)
        closer = (lies_in == crossing.region) & (distance < nearest)
        owner[closer], nearest[closer] = number, distance[closer]
    own_keys = voxel_keys(coords, event.shape)
    owner[np.isin(own_keys, voxel_keys(event.regions.truth.coords, event.shape))] = -1
    for number, crossing in enumerate(tracks):
        owner[np.isin(own_keys, voxel_keys(crossing.truth.coords, event.shape))] = number
    return owner


def crossing_voxels(
    event: Event, tracks: Sequence[Crossing], coords: Places, score: PerPlace
) -> dict[str, np.ndarray]:
    """Return the voxels that the scores of the crossing tracks count.

    Args:
        event: with dead regions.
        tracks: its crossing tracks.
        coords: candidate voxels.
        score: of each candidate, 0 or more.

    Returns:
        `owner`: number of the track; `truth`: whether the voxel is a true voxel of it; `score`: -1,
        below any threshold, for a true voxel that is no candidate.
    """
    owner = assign_crossings(event, tracks, coords)
    owned, own_keys = owner >= 0, voxel_keys(coords, event.shape)
    truth = [voxel_keys(crossing.truth.coords, event.shape) for crossing in tracks]
    right = np.isin(own_keys, np.concatenate([own_keys[:0], *truth]))
    parts = [(owner[owned], right[owned], score[owned])]
    for number, wanted in enumerate(truth):
        lost = int((~np.isin(wanted, own_keys)).sum())
        parts.append((np.full(lost, number), np.ones(lost, bool), np.full(lost, -1.0)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(("owner", "truth", "score"), columns, strict=True))


def counts(
    owner: Int[np.ndarray, " voxel"],
    active: Bool[np.ndarray, " voxel"],
    score: Float[np.ndarray, " voxel"],
    points: Float[np.ndarray, " point"],
) -> tuple[Counts, Counts, Counts]:
    """Count the hits, the found voxels and the true voxels of each crossing track and point.

    A voxel is found if its score is above the point.

    Example:
        >>> voxels = (np.zeros(3, int), np.array([True, True, False]), np.array([0.9, 0.2, 0.6]))
        >>> [table.tolist() for table in counts(*voxels, np.array([0.0, 0.5]))]
        [[[2.0, 1.0]], [[3.0, 2.0]], [[2.0, 2.0]]]
    """
    crossings = int(owner.max(initial=-1)) + 1
    passed = np.searchsorted(points, score, side="left")

    def above(mask: np.ndarray) -> np.ndarray:
        cell = owner[mask] * (len(points) + 1) + passed[mask]
        table = np.bincount(cell, minlength=crossings * (len(points) + 1)).astype(float)
        from_top = np.cumsum(table.reshape(crossings, -1)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(from_top[:, 1:])

    owned = owner >= 0
    true = np.bincount(owner[owned & active], minlength=crossings).astype(float)
    hits, found = above(owned & active), above(owned)
    return hits, found, np.broadcast_to(true[:, None], hits.shape)


def shape_scores(
    hits: np.ndarray, predicted: np.ndarray, true: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute F1, IoU, precision and recall of sets of voxels; NaN for a denominator of 0."""

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.asarray(part / np.where(whole > 0, whole, np.nan))

    return {
        "f1": ratio(2 * hits, predicted + true),
        "iou": ratio(hits, predicted + true - hits),
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, true),
    }


def distance_to_nearest(predicted: Places, truth: Places) -> PerPlace:
    """Compute the distance of each predicted voxel to the nearest true voxel, in voxels.

    Example:
        >>> distance_to_nearest(np.array([[0, 0], [3, 4]]), np.array([[0, 0]])).tolist()
        [0.0, 5.0]
    """
    distance, _ = cKDTree(truth).query(predicted)
    return np.asarray(distance)
