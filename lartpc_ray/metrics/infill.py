"""How well dead regions are filled: the voxels of each track that crosses one, and the regions.

A track crosses a region when it is seen beyond two faces of it, none of which both voxels are
beyond, and has voxels inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from lartpc_ray.data.dead_regions import TRACKS, beyond, keys, region_of
from lartpc_ray.data.event import Event

NEAR = 3
"""Voxels from a region within which a track must be seen on both sides."""
CORRIDOR = 5.0
"""A voxel found at most so many voxels from the line between a track's ends counts as its own.

False voxels further away are no track's: they count in the scores of whole regions only.
"""
SHAPES = ("f1", "iou", "precision", "recall")
Counts = Float[np.ndarray, "crossing point"]
Places = Int[np.ndarray, "place axis"]


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
    ends: Int[np.ndarray, "2 axis"]
    energy: float
    truth: Event


def crossings(event: Event) -> list[Crossing]:
    """The tracks that cross the dead regions of an event, by their true clusters."""
    if event.regions is None:
        return []
    seen, hidden = event.select(~event.dead), event.regions.truth
    lies_in = region_of(hidden.coords, event.regions.corners)
    found = []
    for region, box in enumerate(event.regions.corners):
        near = seen.select(beyond(seen.coords, box) <= NEAR)
        for particle in TRACKS:
            inside = (lies_in == region) & (hidden.semantic == particle) & (hidden.cluster >= 0)
            for cluster in np.unique(hidden.cluster[inside]):
                mine = near.select((near.semantic == particle) & (near.cluster == cluster))
                ends = _ends(mine.coords, box)
                if ends is not None:
                    truth = hidden.select(inside & (hidden.cluster == cluster))
                    energy = float(mine.energy.mean())
                    found.append(Crossing(region, particle.name, ends, energy, truth))
    return found


def _ends(coords: Places, box: Int[np.ndarray, "2 axis"]) -> Int[np.ndarray, "2 axis"] | None:
    """The nearest pair of voxels that are not beyond the same face of the box; None without."""
    side = np.where(coords < box[0], -1, np.where(coords >= box[1], 1, 0))
    apart = ~((side[:, None] == side[None]) & (side[:, None] != 0)).any(axis=2)
    if not apart.any():
        return None
    far = beyond(coords, box)
    gap = np.linalg.norm(coords[:, None] - coords[None], axis=2)
    cost = np.where(apart, far[:, None] + far[None] + 1e-3 * gap, np.inf)
    return coords[list(np.unravel_index(cost.argmin(), cost.shape))]


def to_segment(
    coords: Int[np.ndarray, "place axis"], ends: Int[np.ndarray, "2 axis"]
) -> Float[np.ndarray, " place"]:
    """Distance of each place to the straight line between two ends.

    Example:
        >>> to_segment(np.array([[1, 2], [5, 0]]), np.array([[0, 0], [3, 0]])).tolist()
        [2.0, 2.0]
    """
    along = (ends[1] - ends[0]).astype(float)
    share = np.clip((coords - ends[0]) @ along / (along @ along), 0, 1)
    return np.asarray(np.linalg.norm(coords - ends[0] - share[:, None] * along, axis=1))


def assign_crossings(
    event: Event, each: Sequence[Crossing], coords: Places
) -> Int[np.ndarray, " place"]:
    """The crossing that each voxel found in a dead region belongs to; -1 none.

    The one of its region to whose line it is nearest, if not further than `CORRIDOR`. Voxels where
    something else than a crossing track left energy belong to none: they are not wrong. A track's
    own voxels are its own wherever they are.
    """
    assert event.regions is not None
    found = np.full(len(coords), -1)
    nearest = np.full(len(coords), CORRIDOR + 1e-9)
    lies_in = region_of(coords, event.regions.corners)
    for number, crossing in enumerate(each):
        distance = to_segment(coords, crossing.ends)
        mine = (lies_in == crossing.region) & (distance < nearest)
        found[mine], nearest[mine] = number, distance[mine]
    at = keys(coords, event.shape)
    found[np.isin(at, keys(event.regions.truth.coords, event.shape))] = -1
    for number, crossing in enumerate(each):
        found[np.isin(at, keys(crossing.truth.coords, event.shape))] = number
    return found


def crossing_voxels(
    event: Event, each: Sequence[Crossing], coords: Places, score: Float[np.ndarray, " place"]
) -> dict[str, np.ndarray]:
    """The voxels by which the crossings of an event are judged.

    Args:
        event: with dead regions.
        each: its crossings.
        coords: of what may have been found.
        score: of each, 0 or more.

    Returns:
        `owner`: number of the crossing; `truth`: whether the voxel is the track's; `score`: -1 for
        voxels of the track that are not in `coords`, below any threshold.
    """
    owner = assign_crossings(event, each, coords)
    mine = owner >= 0
    at, truth = keys(coords, event.shape), [keys(one.truth.coords, event.shape) for one in each]
    parts = [(owner[mine], np.isin(at, np.concatenate([at[:0], *truth]))[mine], score[mine])]
    for number, wanted in enumerate(truth):
        lost = int((~np.isin(wanted, at)).sum())
        parts.append((np.full(lost, number), np.ones(lost, bool), np.full(lost, -1.0)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(("owner", "truth", "score"), columns, strict=True))


def counts(
    owner: Int[np.ndarray, " voxel"],
    active: Bool[np.ndarray, " voxel"],
    score: Float[np.ndarray, " voxel"],
    points: Float[np.ndarray, " point"],
) -> tuple[Counts, Counts, Counts]:
    """Hits, voxels found and true voxels of each crossing, found where the score is above a point.

    Example:
        >>> one = (np.zeros(3, int), np.array([True, True, False]), np.array([0.9, 0.2, 0.6]))
        >>> [table.tolist() for table in counts(*one, np.array([0.0, 0.5]))]
        [[[2.0, 1.0]], [[3.0, 2.0]], [[2.0, 2.0]]]
    """
    crossings = int(owner.max(initial=-1)) + 1
    passed = np.searchsorted(points, score, side="left")

    def above(mask: np.ndarray) -> np.ndarray:
        place = owner[mask] * (len(points) + 1) + passed[mask]
        table = np.bincount(place, minlength=crossings * (len(points) + 1)).astype(float)
        from_top = np.cumsum(table.reshape(crossings, -1)[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(from_top[:, 1:])

    mine = owner >= 0
    true = np.bincount(owner[mine & active], minlength=crossings).astype(float)
    hits, found = above(mine & active), above(mine)
    return hits, found, np.broadcast_to(true[:, None], hits.shape)


def shape_scores(hits: np.ndarray, found: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """F1, IoU, precision and recall of sets of voxels; NaN where there is nothing to divide by."""

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.asarray(part / np.where(whole > 0, whole, np.nan))

    return {
        "f1": ratio(2 * hits, found + true),
        "iou": ratio(hits, found + true - hits),
        "precision": ratio(hits, found),
        "recall": ratio(hits, true),
    }


def distance_to_nearest(found: Places, truth: Places) -> Float[np.ndarray, " place"]:
    """Distance of each voxel found to the nearest true one, voxels.

    Example:
        >>> distance_to_nearest(np.array([[0, 0], [3, 4]]), np.array([[0, 0]])).tolist()
        [0.0, 5.0]
    """
    distance, _ = cKDTree(truth).query(found)
    return np.asarray(distance)
