"""Reconstructions: their thresholds, and the scores at every point of the thresholds' grid.

thresholds/tuning.py uses only the axes and the scores; a new reconstruction is a new class here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, product
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import AliasChoices, Field

from lartpc_ray.metrics.clustering import SCORES, many_scores
from lartpc_ray.metrics.infill import SHAPES, counts, shape_scores
from lartpc_ray.metrics.michel import michel_counts
from lartpc_ray.reconstruct.clusters import cluster, distinct
from lartpc_ray.reconstruct.counted import cluster_counted, sweep_counted
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.first_come import cluster_first_come, sweep_first_come
from lartpc_ray.reconstruct.links import (
    absorb_small,
    cluster_by_links,
    linked_labels,
    merge_overlapping,
    nearest_voxels,
    split,
)
from lartpc_ray.reconstruct.michels import Candidate, MichelSettings, find_candidates, find_tracks
from lartpc_ray.reconstruct.names import ClusterRule
from lartpc_ray.reconstruct.pieces import joined
from lartpc_ray.reconstruct.sweep import sweep
from lartpc_ray.settings import Settings

Voxels = dict[str, np.ndarray]
"""`coords`, `truth` and a network's outputs, (voxel, ...) each, of one class of one event."""
Points = dict[str, Float[np.ndarray, " point"]]
Scores = dict[str, np.ndarray]
"""Metric to its value at every point."""
Labels = Int[np.ndarray, " voxel"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Value = TypeVar("Value")
NonEmpty = Annotated[tuple[Value, ...], Field(min_length=1)]
"""The points of an axis of thresholds: at least one."""
SWEEPS: dict[ClusterRule, Callable[..., Scores]] = {
    "argmax": sweep,
    "counted": sweep_counted,
    "first_come": sweep_first_come,
}
"""Rule to the function that scores it at every point (s0, p0)."""
CLUSTERERS: dict[ClusterRule, Callable[..., Labels]] = {
    "argmax": cluster,
    "counted": cluster_counted,
    "first_come": cluster_first_come,
}
"""Rule to the function that clusters by it."""


class SeedClustering(Settings):
    """Clusters around seeds, with the thresholds s0 and p0 (Koh et al. 2020, II.C)."""

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["seeds"] = "seeds"
    grid_points: int = Field(
        default=21, ge=2, le=1001, description="points of s0 and of p0, evenly from 0 to 1"
    )
    extra_p0: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(1e-6, 1e-4, 1e-3, 1e-2),
        description="further points of p0: between 0 and 0.05 the kernel's reach grows most",
    )

    rule: ClusterRule = Field(
        default="argmax",
        description="argmax: each voxel joins the seed of highest probability, as in Koh et al. "
        "2020; counted: the same, with a list of seeds that may end early, as in lartpc_mlreco3d; "
        "first_come: a seed keeps its members, as in SPINE 1.4",
    )

    def axes(self) -> Points:
        """Return 0 to 1 for both thresholds, p0 finer near 0; `counted` has no p0 of 1."""
        points = np.linspace(0, 1, self.grid_points)
        p0 = points[:-1] if self.rule == "counted" else points
        return {"s0": points, "p0": np.union1d(p0, self.extra_p0)}

    def refined(self, around: Iterable[float], between: int) -> SeedClustering:
        """Add `between` points of p0 on both sides of each of some."""
        points = self.axes()["p0"]
        extra = set(self.extra_p0)
        for p0 in around:
            index = int(np.searchsorted(points, p0))
            for low, high in pairwise(points[max(0, index - 1) : index + 2]):
                extra |= {float(point) for point in np.linspace(low, high, between + 2)[1:-1]}
        return self.model_copy(update={"extra_p0": tuple(sorted(extra))})

    def scores(
        self, voxels: Voxels, metrics: Sequence[str] = SCORES, *, min_voxels: int = 0
    ) -> Scores:
        """Return metric to (s0, p0)."""
        rows = [voxels[name] for name in ("position", "margin", "seediness", "truth")]
        return SWEEPS[self.rule](*rows, **self.axes(), min_voxels=min_voxels, metrics=metrics)

    def labels(self, voxels: Voxels, *, s0: float, p0: float) -> Labels:
        outputs = (voxels[name] for name in ("position", "margin", "seediness"))
        return CLUSTERERS[self.rule](*outputs, s0, p0)


LINKED_AXES = (
    "s0", "p0", "kernel_overlap", "max_voxel_distance", "max_embedding_distance",
    "min_cluster_voxels",
)  # fmt: skip


class LinkedClustering(Settings):
    """Clusters around seeds (s0, p0), then merged by kernels, split by links, and cleaned.

    Clusters with a kernel overlap of more than `kernel_overlap` are merged. A cluster is split
    where no link of at most `max_voxel_distance` and `max_embedding_distance` joins its voxels. A
    cluster of fewer than `min_cluster_voxels` voxels goes to the nearest larger cluster. Each step
    can be switched off. With p0 = 0 the first seed takes all voxels and the links alone decide;
    without a limit in the embedding too, the method is DBSCAN with min_points 1. So on the events
    of the tuning the method is at least as good as seeds alone and as DBSCAN.
    """

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["linked"] = "linked"
    s0: NonEmpty[Share] = Field(default=(0.0, 0.8, 0.9), description="points of the seeds' s0")
    p0: NonEmpty[Share] = Field(
        default=(0.0, 0.05, 0.15, 0.4),
        description="points of the seeds' p0; 0: the first seed takes all voxels",
    )
    kernel_overlap: NonEmpty[Share] = Field(
        validation_alias=AliasChoices("kernel_overlap", "overlap"),
        default=(0.3, 1.0),
        description="points of the overlap above which two kernels are one cluster; 1: none are",
    )
    max_voxel_distance: NonEmpty[Annotated[float, Field(ge=0)]] = Field(
        validation_alias=AliasChoices("max_voxel_distance", "eps"),
        default=(0.0, 2.8, 6.0, 20.0, 40.0),
        description="points of the longest link in the image, voxels; 0: nothing is split",
    )
    max_embedding_distance: NonEmpty[Positive] = Field(
        validation_alias=AliasChoices("max_embedding_distance", "reach"),
        default=(0.3, 0.5, 0.65, 1000.0),
        description="points of the longest link in the embedding, margins; the last one: no limit",
    )
    min_cluster_voxels: NonEmpty[Count] = Field(
        validation_alias=AliasChoices("min_cluster_voxels", "least"),
        default=(1, 6),
        description="voxels of a cluster; smaller ones go to the nearest larger",
    )

    def axes(self) -> Points:
        """Return the points; distances are in voxels in the image, in margins in the embedding."""
        return {name: np.array(getattr(self, name), float) for name in LINKED_AXES}

    def scores(
        self, voxels: Voxels, metrics: Sequence[str] = SCORES, *, min_voxels: int = 0
    ) -> Scores:
        """Return metric to an array with one axis per entry of `LINKED_AXES`."""
        coords, outputs = voxels["coords"], (voxels["position"], voxels["margin"])
        seeded = (
            cluster(*outputs, voxels["seediness"], *point) for point in product(self.s0, self.p0)
        )
        merged, of_merged = distinct(
            merge_overlapping(labels, *outputs, overlap)
            for labels in seeded
            for overlap in self.kernel_overlap
        )
        limits = self.max_voxel_distance, self.max_embedding_distance
        found = linked_labels(coords, *outputs, *limits)
        found[np.array(self.max_voxel_distance) == 0] = 0  # one piece
        pieces, of_piece = distinct(found.reshape(-1, len(coords)))
        near, sizes = nearest_voxels(coords), self.min_cluster_voxels
        labels = (
            absorb_small(split(whole, piece), coords, near, size)
            for whole, piece, size in product(merged, pieces, sizes)
        )
        shape = (len(merged), len(pieces), len(sizes))
        scores = _scores(voxels, labels, shape, min_voxels, metrics)
        grid = tuple(len(points) for points in self.axes().values())
        every = np.ix_(of_merged, of_piece)
        return {name: values[every].reshape(grid) for name, values in scores.items()}

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
        labels = cluster(*outputs, voxels["seediness"], s0, p0)
        labels = merge_overlapping(labels, *outputs, kernel_overlap)
        if max_voxel_distance:
            limits = (max_voxel_distance, max_embedding_distance)
            labels = split(labels, cluster_by_links(coords, *outputs, *limits))
        return absorb_small(labels, coords, nearest_voxels(coords), int(min_cluster_voxels))


class DbscanClustering(Settings):
    """Clusters by DBSCAN with the thresholds eps and min_points: needs no network."""

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["dbscan"] = "dbscan"
    eps: NonEmpty[Positive] = Field(
        default=(1.1, 1.5, 1.8, 2.3, 2.8, 3.7, 5.0, 7.0, 10.0),
        description="points of the reach, voxels",
    )
    min_points: NonEmpty[Count] = Field(
        default=(1, 2, 3, 5, 10),
        description="points of the neighbours, the voxel itself included, that make a core",
    )

    def axes(self) -> Points:
        """Return eps in voxels, and the neighbours, the voxel itself included, that make a core."""
        return {"eps": np.array(self.eps), "min_points": np.array(self.min_points, float)}

    def scores(
        self, voxels: Voxels, metrics: Sequence[str] = SCORES, *, min_voxels: int = 0
    ) -> Scores:
        """Return metric to (eps, min_points)."""
        points = product(self.eps, self.min_points)
        labels = (self.labels(voxels, eps=eps, min_points=count) for eps, count in points)
        shape = (len(self.eps), len(self.min_points))
        return _scores(voxels, labels, shape, min_voxels, metrics)

    def labels(self, voxels: Voxels, *, eps: float, min_points: float) -> Labels:
        return dbscan(voxels["coords"], eps=eps, min_points=int(min_points))


class PiecesClustering(Settings):
    """Pieces of the clusters of untuned seeds, joined by a trained network.

    Pieces join by average linkage in the order of their probability of one particle; those that
    join with at least `join_probability` are one cluster. Clusters of fewer than
    `min_cluster_voxels` voxels go to the nearest larger one.
    """

    metrics: ClassVar[tuple[str, ...]] = SCORES
    name: Literal["pieces"] = "pieces"
    join_probability: NonEmpty[Share] = Field(
        default=tuple(number / 20 for number in range(1, 20)),
        description="points of the probability from which groups of pieces are one cluster",
    )
    min_cluster_voxels: NonEmpty[Count] = Field(
        default=(1, 6), description="voxels of a cluster; smaller ones go to the nearest larger"
    )

    def axes(self) -> Points:
        """Return the points of the probability, and of the voxels of the smallest cluster."""
        names = ("join_probability", "min_cluster_voxels")
        return {name: np.array(getattr(self, name), float) for name in names}

    def scores(
        self, voxels: Voxels, metrics: Sequence[str] = SCORES, *, min_voxels: int = 0
    ) -> Scores:
        """Return metric to (join_probability, min_cluster_voxels)."""
        coords, near = voxels["coords"], nearest_voxels(voxels["coords"])
        labels = (
            absorb_small(whole, coords, near, min_size)
            for whole in (self._joined(voxels, limit) for limit in self.join_probability)
            for min_size in self.min_cluster_voxels
        )
        shape = tuple(len(points) for points in self.axes().values())
        return _scores(voxels, labels, shape, min_voxels, metrics)

    def labels(
        self, voxels: Voxels, *, join_probability: float, min_cluster_voxels: float
    ) -> Labels:
        labels, coords = self._joined(voxels, join_probability), voxels["coords"]
        return absorb_small(labels, coords, nearest_voxels(coords), int(min_cluster_voxels))

    @staticmethod
    def _joined(voxels: Voxels, limit: float) -> Labels:
        parent, probability = voxels["piece_parent"], voxels["piece_probability"]
        return joined(voxels["piece"], parent, probability, limit)


def _scores(
    voxels: Voxels,
    labels: Iterable[Labels],
    shape: tuple[int, ...],
    min_voxels: int,
    metrics: Sequence[str],
) -> Scores:
    """Return metric to the score of the labels of every point."""
    scores = many_scores(voxels["truth"], labels, min_voxels=min_voxels, metrics=metrics)
    return {name: values.reshape(shape) for name, values in scores.items()}


MICHEL_AXES = ("eps", "min_points_mip", "min_points", "attached", "edge_radius")


class MichelReconstruction(Settings):
    """Michel electrons among the clusters of Michel voxels (Dominé & Terao 2020, VII)."""

    metrics: ClassVar[tuple[str, ...]] = ("matched",)
    name: Literal["michel"] = "michel"
    eps: NonEmpty[Positive] = Field(
        default=(1.8, 2.8, 3.7), description="points of DBSCAN's reach for both classes, voxels"
    )
    min_points_mip: NonEmpty[Count] = Field(
        default=(1, 5, 10), description="points of DBSCAN's core of a track"
    )
    min_points: NonEmpty[Count] = Field(
        default=(1, 5, 10), description="points of DBSCAN's core of a Michel cluster"
    )
    attached: NonEmpty[Positive] = Field(
        default=(1.8, 2.83, 5.0, 10.0),
        description="points of the largest distance to the track, voxels",
    )
    edge_radius: NonEmpty[Annotated[float, Field(ge=0)]] = Field(
        default=(10.0, 15.0, 20.0, 30.0),
        description="points of the ball around the contact that is cut from the track, voxels",
    )

    def axes(self) -> Points:
        """Return the points: distances in voxels, and the neighbours that make a core."""
        return {name: np.array(getattr(self, name), float) for name in MICHEL_AXES}

    def scores(
        self, voxels: Voxels, metrics: Sequence[str] = metrics, *, min_voxels: int = 0
    ) -> Scores:
        """Return `matched`: the share of candidates and true clusters that belong to each other.

        It is 1 for an event with neither, and the F1 of identification if all events were one.
        """
        matched = np.empty([len(points) for points in self.axes().values()])
        coords, semantic = voxels["coords"], voxels["semantic"]
        for row, column in np.ndindex(len(self.eps), len(self.min_points_mip)):
            eps = self.eps[row]
            tracks = find_tracks(coords, semantic, eps, self.min_points_mip[column])
            for layer, points in enumerate(self.min_points):
                clusters = find_candidates(coords, semantic, *tracks, eps=eps, min_points=points)
                matched[row, column, layer] = self._matched(
                    clusters, voxels["truth"], eps, min_voxels
                )
        return dict.fromkeys(metrics, matched)

    def _matched(
        self, clusters: list[Candidate], truth: np.ndarray, eps: float, min_voxels: int
    ) -> np.ndarray:
        """Return `matched` (attached, edge_radius) of the clusters of one (eps, min_points)."""
        ends = [
            [cluster.at_end(radius, eps) for radius in self.edge_radius] for cluster in clusters
        ]
        matched = np.empty((len(self.attached), len(self.edge_radius)))
        for row, column in np.ndindex(matched.shape):
            labels = np.full(len(truth), -1, np.int64)
            for number, candidate in enumerate(clusters):
                if candidate.distance <= self.attached[row] and ends[number][column]:
                    labels[candidate.voxels] = number
            matched[row, column] = michel_counts(truth, labels, min_voxels).matched
        return matched


def michel_settings(thresholds: dict[str, float]) -> MichelSettings:
    """Return a point of the grid as settings."""
    whole = {name: int(thresholds[name]) for name in ("min_points_mip", "min_points")}
    return MichelSettings.model_validate({**thresholds, **whole})


class ActiveVoxels(Settings):
    """Active voxels among the candidates of a dead region, by probability or by energy."""

    metrics: ClassVar[tuple[str, ...]] = SHAPES
    name: Literal["infill"] = "infill"
    grid_points: int = Field(default=50, ge=2, le=1001, description="evenly from 0 to below 1")

    def axes(self) -> Points:
        """Return the points: a probability, or MeV for a network without probabilities."""
        return {"threshold": np.arange(self.grid_points) / self.grid_points}

    def scores(self, voxels: Voxels, metrics: Sequence[str] = metrics) -> Scores:
        """Return metric to (threshold): the mean over crossing tracks; an empty track scores 0."""
        rows = (voxels["owner"], voxels["truth"], voxels["score"])
        scores = shape_scores(*counts(*rows, self.axes()["threshold"]))
        return {name: np.nan_to_num(scores[name]).mean(axis=0) for name in metrics}


Clustering = SeedClustering | LinkedClustering | PiecesClustering | DbscanClustering
"""The reconstructions that cluster the voxels of a class."""
Reconstruction = Annotated[
    Clustering | MichelReconstruction | ActiveVoxels, Field(discriminator="name")
]
