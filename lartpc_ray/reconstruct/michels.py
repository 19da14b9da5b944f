"""Michel electrons from classified voxels (Dominé & Terao 2020, arXiv:1903.05663, section VII).

A Michel electron is a cluster of Michel voxels that touches the end of a minimum-ionising track.
The paper calls a cluster attached if it is less than one pixel away. Two voxels are never nearer
than 1, so the distance is a setting; its default, 2√2, joins the voxels that DBSCAN joins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from pydantic import Field
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.settings import Settings

Labels = Int[np.ndarray, " voxel"]
Coords = Int[np.ndarray, "voxel axis"]
Members = Int[np.ndarray, "member axis"]
PerMember = Int[np.ndarray, " member"]


class MichelSettings(Settings):
    """The distances and sizes by which Michel electrons are found."""

    eps: float = Field(default=2.8, gt=0, description="DBSCAN's reach for both classes, voxels")
    min_points: int = Field(default=5, ge=1, description="DBSCAN's core of a Michel cluster")
    min_points_mip: int = Field(default=10, ge=1, description="DBSCAN's core of a track")
    attached: float = Field(
        default=2 * 2**0.5, gt=0, description="largest distance to the track, voxels"
    )
    edge_radius: float = Field(
        default=15.0, ge=0, description="ball around the contact that is cut from the track, voxels"
    )


@dataclass(frozen=True, eq=False)
class Candidate:
    """A cluster of Michel voxels and the track next to it.

    Attributes:
        voxels: rows of the cluster.
        distance: between the cluster and the track, voxels.
        contact: the track's voxel nearest to the cluster.
        track: the voxels of the track.
    """

    voxels: Int[np.ndarray, " row"]
    distance: float
    contact: Int[np.ndarray, " axis"]
    track: Int[np.ndarray, "voxel axis"]

    def at_end(self, radius: float, eps: float) -> bool:
        """Return whether the track outside the ball around the contact is at most one piece."""
        outside = np.linalg.norm(self.track - self.contact, axis=1) > radius
        pieces = dbscan(self.track[outside], eps=eps, min_points=1)
        return int(pieces.max(initial=-1)) < 1


def find_michels(
    coords: Coords, semantic: Labels, settings: MichelSettings | None = None
) -> Labels:
    """Find the Michel electrons of one event.

    1. DBSCAN clusters the Michel voxels, and the MIP voxels.
    2. A Michel cluster is kept if a track is within `attached` of it.
    3. It must touch the track's end: without the ball of `edge_radius` around the voxel of contact
       the track is at most one piece.

    Args:
        coords: voxel indices.
        semantic: class of each voxel, predicted or true.
        settings: distances and sizes; those of the paper by default.

    Returns:
        number of the electron of each voxel, -1 none.
    """
    settings = settings or MichelSettings()
    eps, labels = settings.eps, np.full(len(coords), -1, np.int64)
    tracks = find_tracks(coords, semantic, eps, settings.min_points_mip)
    for candidate in find_candidates(
        coords, semantic, *tracks, eps=eps, min_points=settings.min_points
    ):
        near = candidate.distance <= settings.attached
        if near and candidate.at_end(settings.edge_radius, eps):
            labels[candidate.voxels] = labels.max() + 1
    return labels


def find_tracks(
    coords: Coords, semantic: Labels, eps: float, min_points: int
) -> tuple[Members, PerMember]:
    """Return the voxels of the MIP clusters, and the cluster of each."""
    mip = coords[semantic == ParticleClass.MIP]
    tracks = dbscan(mip, eps=eps, min_points=min_points)
    return mip[tracks >= 0], tracks[tracks >= 0]


def find_candidates(
    coords: Coords, semantic: Labels, track_voxels: Members, tracks: PerMember,
    *, eps: float, min_points: int,
) -> list[Candidate]:  # fmt: skip
    """Return the clusters of Michel voxels with their nearest tracks; empty without tracks."""
    michel = np.flatnonzero(semantic == ParticleClass.MICHEL)
    if not len(michel) or not len(tracks):
        return []
    tree = cKDTree(track_voxels)
    labels = dbscan(coords[michel], eps=eps, min_points=min_points)
    candidates = []
    for label in range(labels.max(initial=-1) + 1):
        voxels = michel[labels == label]
        distance, nearest = tree.query(coords[voxels])
        contact = nearest[distance.argmin()]
        track = track_voxels[tracks == tracks[contact]]
        candidates.append(Candidate(voxels, float(distance.min()), track_voxels[contact], track))
    return candidates
