"""Michel electrons from classified voxels (Dominé & Terao 2020, arXiv:1903.05663, section VII).

Clusters of Michel voxels that touch the end of a minimum-ionising track. The paper writes that a
cluster is attached where it is less than one pixel away; two voxels are never nearer than 1, so the
distance is a setting, and its default, 2√2, joins voxels that DBSCAN would have joined.
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


class MichelSettings(Settings):
    """How Michel electrons are found."""

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
        """Is the track one piece at most without the ball of `radius` around the contact?"""
        far = np.linalg.norm(self.track - self.contact, axis=1) > radius
        rest = dbscan(self.track[far], eps=eps, min_points=1)
        return int(rest.max(initial=-1)) < 1


def find_michels(
    coords: Int[np.ndarray, "voxel axis"],
    semantic: Int[np.ndarray, " voxel"],
    settings: MichelSettings | None = None,
) -> Labels:
    """The Michel electrons of one event.

    1. DBSCAN over the Michel voxels, and over the MIP voxels.
    2. A Michel cluster is kept if a track is within `attached` of it.
    3. It must touch the track's end: without the ball of `edge_radius` around the voxel of contact
       the track is one piece at most.

    Args:
        coords: voxel indices.
        semantic: class of each voxel, predicted or true.
        settings: reach and sizes; those of the paper by default.

    Returns:
        number of the electron of each voxel, -1 none.
    """
    settings = settings or MichelSettings()
    found = np.full(len(coords), -1, np.int64)
    track_voxels, tracks = find_tracks(coords, semantic, settings.eps, settings.min_points_mip)
    each = find_candidates(
        coords, semantic, track_voxels, tracks, eps=settings.eps, min_points=settings.min_points
    )
    for one in each:
        if one.distance <= settings.attached and one.at_end(settings.edge_radius, settings.eps):
            found[one.voxels] = found.max() + 1
    return found


def find_tracks(
    coords: Int[np.ndarray, "voxel axis"],
    semantic: Int[np.ndarray, " voxel"],
    eps: float,
    min_points: int,
) -> tuple[Int[np.ndarray, "member axis"], Int[np.ndarray, " member"]]:
    """The voxels of the MIP clusters, and whose each is."""
    mine = coords[semantic == ParticleClass.MIP]
    tracks = dbscan(mine, eps=eps, min_points=min_points)
    return mine[tracks >= 0], tracks[tracks >= 0]


def find_candidates(
    coords: Int[np.ndarray, "voxel axis"],
    semantic: Int[np.ndarray, " voxel"],
    track_voxels: Int[np.ndarray, "member axis"],
    tracks: Int[np.ndarray, " member"],
    *,
    eps: float,
    min_points: int,
) -> list[Candidate]:
    """The clusters of Michel voxels, each with its nearest track; none without tracks."""
    mine = np.flatnonzero(semantic == ParticleClass.MICHEL)
    if not len(mine) or not len(tracks):
        return []
    tree = cKDTree(track_voxels)
    labels = dbscan(coords[mine], eps=eps, min_points=min_points)
    found = []
    for label in range(labels.max(initial=-1) + 1):
        cluster = mine[labels == label]
        distance, place = tree.query(coords[cluster])
        contact = place[distance.argmin()]
        track = track_voxels[tracks == tracks[contact]]
        found.append(Candidate(cluster, float(distance.min()), track_voxels[contact], track))
    return found
