"""Cuts: the thresholds of a reconstruction, and the scores of every point of their grid.

What tunes a cut (thresholds/tuning.py) knows only its axes and its scores; another reconstruction
with other thresholds is another class here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import AliasChoices, Field

from lartpc_ray.metrics.clustering import SCORES, many_scores
from lartpc_ray.metrics.infill import SHAPES, counts, shape_scores
from lartpc_ray.metrics.michel import michel_counts
from lartpc_ray.reconstruct.clusters import cluster
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.links import (
    absorb_small,
    cluster_by_links,
    find_links,
    merge_overlapping,
    nearest_voxels,
    split,
)
from lartpc_ray.reconstruct.michels import Candidate, MichelSettings, find_candidates, find_tracks
from lartpc_ray.reconstruct.sweep import sweep
from lartpc_ray.settings import Settings

Voxels = dict[str, np.ndarray]
"""Of one class of one event, (voxel, ...) each: `coords`, `truth`, and a network's outputs."""
Points = dict[str, Float[np.ndarray, " point"]]
Labels = Int[np.ndarray, " voxel"]


class SeedClustering(Settings):
    """s0 and p0 of the seeds (Koh et al. 2020, II.C)."""

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["seeds"] = "seeds"
    grid_points: int = Field(
        default=21, ge=2, le=1001, description="points of s0 and of p0, evenly from 0 to 1"
    )
    extra_p0: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(1e-6, 1e-4, 1e-3, 1e-2),
        description="further points of p0: between 0 and 0.05 the kernel's reach grows most",
    )
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")

    def axes(self) -> Points:
        """0 to 1 for both thresholds, p0 finer near 0."""
        points = np.linspace(0, 1, self.grid_points)
        return {"s0": points, "p0": np.union1d(points, self.extra_p0)}

    def refined(self, around: Iterable[float], between: int) -> SeedClustering:
        """The same cut with `between` further points of p0 on both sides of some."""
        points = self.axes()["p0"]
        extra = set(self.extra_p0)
        for p0 in around:
            place = int(np.searchsorted(points, p0))
            for low, high in pairwise(points[max(0, place - 1) : place + 2]):
                extra |= {float(point) for point in np.linspace(low, high, between + 2)[1:-1]}
        return self.model_copy(update={"extra_p0": tuple(sorted(extra))})

    def scores(self, voxels: Voxels, metrics: Sequence[str] = SCORES) -> dict[str, np.ndarray]:
        """Metric to (s0, p0)."""
        return sweep(
            voxels["position"],
            voxels["margin"],
            voxels["seediness"],
            voxels["truth"],
            **self.axes(),
            min_voxels=self.min_voxels,
            metrics=metrics,
        )

    def labels(self, voxels: Voxels, *, s0: float, p0: float) -> Labels:
        return cluster(voxels["position"], voxels["margin"], voxels["seediness"], s0, p0)


LINKED_AXES = (
    "s0",
    "p0",
    "kernel_overlap",
    "max_voxel_distance",
    "max_embedding_distance",
    "min_cluster_voxels",
)


class LinkedClustering(Settings):
    """The voxels of seeds (s0, p0), of whose kernels some are one, that links hold together.

    Three steps follow the seeds. Clusters whose kernels overlap by more than `kernel_overlap` are
    merged. A cluster is split where no link of at most `max_voxel_distance` and
    `max_embedding_distance` joins its voxels. A cluster of fewer than `min_cluster_voxels` voxels
    goes to the nearest larger one. Each step can be switched off. With p0 = 0 the first seed takes
    all voxels and the links alone decide; without a limit in the embedding too, the method is
    DBSCAN with min_points 1. So on the events it is tuned on, it is at least as good as either.
    """

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["linked"] = "linked"
    s0: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.0, 0.8, 0.9), description="points of the seeds' s0"
    )
    p0: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.0, 0.05, 0.15, 0.4),
        description="points of the seeds' p0; 0: the first seed takes all voxels",
    )
    kernel_overlap: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        validation_alias=AliasChoices("kernel_overlap", "overlap"),
        default=(0.3, 1.0),
        description="points of the overlap above which two kernels are one cluster; 1: none are",
    )
    max_voxel_distance: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        validation_alias=AliasChoices("max_voxel_distance", "eps"),
        default=(0.0, 2.8, 6.0, 20.0, 40.0),
        description="points of the longest link in the image, voxels; 0: nothing is split",
    )
    max_embedding_distance: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        validation_alias=AliasChoices("max_embedding_distance", "reach"),
        default=(0.3, 0.5, 0.65, 1000.0),
        description="points of the longest link in the embedding, margins; the last one: no limit",
    )
    min_cluster_voxels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        validation_alias=AliasChoices("min_cluster_voxels", "least"),
        default=(1, 6),
        description="voxels of a cluster; smaller ones go to the nearest larger",
    )
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")

    def axes(self) -> Points:
        """Distances in the image in voxels, in the embedding in margins."""
        return {name: np.array(getattr(self, name), float) for name in LINKED_AXES}

    def scores(self, voxels: Voxels, metrics: Sequence[str] = SCORES) -> dict[str, np.ndarray]:
        """Metric to an array with one axis per entry of `LINKED_AXES`."""
        coords, outputs = voxels["coords"], (voxels["position"], voxels["margin"])
        linking = [
            max_voxel_distance
            for max_voxel_distance in self.max_voxel_distance
            if max_voxel_distance
        ]
        forest = dict(zip(linking, find_links(coords, *outputs, linking), strict=True))
        pieces = [
            forest[max_voxel_distance].labels(max_embedding_distance)
            if max_voxel_distance
            else _unsplit(coords)
            for max_voxel_distance, max_embedding_distance in product(
                self.max_voxel_distance, self.max_embedding_distance
            )
        ]
        near = nearest_voxels(coords)
        seeds = (
            cluster(*outputs, voxels["seediness"], *point) for point in product(self.s0, self.p0)
        )
        joined = (
            merge_overlapping(each, *outputs, kernel_overlap)
            for each in seeds
            for kernel_overlap in self.kernel_overlap
        )
        whole = (split(each, piece) for each in joined for piece in pieces)
        labels = (
            absorb_small(each, coords, near, min_cluster_voxels)
            for each in whole
            for min_cluster_voxels in self.min_cluster_voxels
        )
        shape = tuple(len(points) for points in self.axes().values())
        return _scores(voxels, labels, shape, self.min_voxels, metrics)

    def labels(
        self,
        voxels: Voxels,
        *,
        s0: float,
        p0: float,
        kernel_overlap: float,
        max_voxel_distance: float,
        max_embedding_distance: float,
        min_cluster_voxels: float,
    ) -> Labels:
        coords, outputs = voxels["coords"], (voxels["position"], voxels["margin"])
        found = merge_overlapping(
            cluster(*outputs, voxels["seediness"], s0, p0), *outputs, kernel_overlap
        )
        pieces = (
            cluster_by_links(coords, *outputs, max_voxel_distance, max_embedding_distance)
            if max_voxel_distance
            else _unsplit(coords)
        )
        return absorb_small(
            split(found, pieces), coords, nearest_voxels(coords), int(min_cluster_voxels)
        )


def _unsplit(coords: np.ndarray) -> Labels:
    """All voxels in one piece."""
    return np.zeros(len(coords), np.int64)


class DbscanClustering(Settings):
    """eps and min_points of DBSCAN: needs no network."""

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["dbscan"] = "dbscan"
    eps: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.1, 1.5, 1.8, 2.3, 2.8, 3.7, 5.0, 7.0, 10.0),
        description="points of the reach, voxels",
    )
    min_points: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 2, 3, 5, 10),
        description="points of the neighbours, the voxel itself included, that make a core",
    )
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")

    def axes(self) -> Points:
        """eps in voxels; neighbours, the voxel itself included, that make a core."""
        return {"eps": np.array(self.eps), "min_points": np.array(self.min_points, float)}

    def scores(self, voxels: Voxels, metrics: Sequence[str] = SCORES) -> dict[str, np.ndarray]:
        """Metric to (eps, min_points)."""
        points = product(self.eps, self.min_points)
        labels = (self.labels(voxels, eps=eps, min_points=least) for eps, least in points)
        shape = (len(self.eps), len(self.min_points))
        return _scores(voxels, labels, shape, self.min_voxels, metrics)

    def labels(self, voxels: Voxels, *, eps: float, min_points: float) -> Labels:
        return dbscan(voxels["coords"], eps=eps, min_points=int(min_points))


def _scores(
    voxels: Voxels,
    labels: Iterable[Labels],
    shape: tuple[int, ...],
    min_voxels: int,
    metrics: Sequence[str],
) -> dict[str, np.ndarray]:
    """Metric to the score of the labels of every point."""
    found = many_scores(voxels["truth"], labels, min_voxels=min_voxels, metrics=metrics)
    return {name: values.reshape(shape) for name, values in found.items()}


MICHEL_AXES = ("eps", "min_points_mip", "min_points", "attached", "edge_radius")


class MichelReconstruction(Settings):
    """What makes a cluster of Michel voxels a Michel electron (Dominé & Terao 2020, VII)."""

    metrics: ClassVar[tuple[str, ...]] = ("matched",)
    name: Literal["michel"] = "michel"
    eps: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.8, 2.8, 3.7), description="points of DBSCAN's reach for both classes, voxels"
    )
    min_points_mip: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 5, 10), description="points of DBSCAN's core of a track"
    )
    min_points: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 5, 10), description="points of DBSCAN's core of a Michel cluster"
    )
    attached: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.8, 2.83, 5.0, 10.0),
        description="points of the largest distance to the track, voxels",
    )
    edge_radius: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(10.0, 15.0, 20.0, 30.0),
        description="points of the ball around the contact that is cut from the track, voxels",
    )
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")

    def axes(self) -> Points:
        """All in voxels but the neighbours that make a core."""
        return {name: np.array(getattr(self, name), float) for name in MICHEL_AXES}

    def scores(self, voxels: Voxels, metrics: Sequence[str] = metrics) -> dict[str, np.ndarray]:
        """`matched`: share of the candidates and the true clusters that belong to each other.

        1 where there is neither. The F1 of identification, were all events one.
        """
        shape = [len(points) for points in self.axes().values()]
        found = np.empty(shape)
        coords, semantic = voxels["coords"], voxels["semantic"]
        for row, column in np.ndindex(len(self.eps), len(self.min_points_mip)):
            eps = self.eps[row]
            tracks = find_tracks(coords, semantic, eps, self.min_points_mip[column])
            for layer, points in enumerate(self.min_points):
                each = find_candidates(coords, semantic, *tracks, eps=eps, min_points=points)
                found[row, column, layer] = self._matched(each, voxels["truth"], eps)
        return dict.fromkeys(metrics, found)

    def _matched(self, each: Sequence[Candidate], truth: np.ndarray, eps: float) -> np.ndarray:
        """(attached, edge_radius) of `matched`, from the clusters of one (eps, min_points)."""
        ends = [[one.at_end(radius, eps) for radius in self.edge_radius] for one in each]
        found = np.empty((len(self.attached), len(self.edge_radius)))
        for row, column in np.ndindex(found.shape):
            labels = np.full(len(truth), -1, np.int64)
            for number, one in enumerate(each):
                if one.distance <= self.attached[row] and ends[number][column]:
                    labels[one.voxels] = number
            found[row, column] = michel_counts(truth, labels, self.min_voxels).matched
        return found


def michel_settings(at: dict[str, float]) -> MichelSettings:
    """A point of the grid as settings."""
    whole = {name: int(at[name]) for name in ("min_points_mip", "min_points")}
    return MichelSettings.model_validate({**at, **whole})


class ActiveVoxels(Settings):
    """What makes a candidate voxel of a dead region active: its probability, or its energy."""

    metrics: ClassVar[tuple[str, ...]] = SHAPES
    name: Literal["infill"] = "infill"
    grid_points: int = Field(default=50, ge=2, le=1001, description="evenly from 0 to below 1")

    def axes(self) -> Points:
        """A probability or, where the network gives none, MeV."""
        return {"threshold": np.arange(self.grid_points) / self.grid_points}

    def scores(self, voxels: Voxels, metrics: Sequence[str] = metrics) -> dict[str, np.ndarray]:
        """Metric to (threshold): the mean over the tracks that cross; nothing found gives 0."""
        rows = (voxels["owner"], voxels["truth"], voxels["score"])
        found = shape_scores(*counts(*rows, self.axes()["threshold"]))
        return {name: np.nan_to_num(found[name]).mean(axis=0) for name in metrics}


Clustering = SeedClustering | LinkedClustering | DbscanClustering
"""What makes clusters of the voxels of a class."""
Reconstruction = Annotated[
    Clustering | MichelReconstruction | ActiveVoxels, Field(discriminator="name")
]
