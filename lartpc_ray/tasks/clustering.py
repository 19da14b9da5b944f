"""Particle clustering by embedding and seediness (Koh et al. 2020, arXiv:2007.03083)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import AliasChoices, Field, model_validator
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import CLASS_NAMES, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.transforms import above, poster_classes
from lartpc_ray.losses.clustering import ClusteringLoss, TrueClusters, clustering_loss
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.clustering import mistakes, scores
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.networks.embedding import Embedding, embedding_branches, init_embedding, own_head
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.reconstructions import (
    Clustering,
    DbscanClustering,
    LinkedClustering,
    SeedClustering,
    Voxels,
)
from lartpc_ray.tasks.task import Outputs, Thresholds, ThresholdTask

SEVERAL = "ari_several"
"""ARI of the events with more than one true and more than one predicted cluster."""
UNTUNED = {"s0": 0.0, "p0": 0.5}
"""The point of those who do not tune; drawn on every surface."""


class ClusteringTask(ThresholdTask):
    """Group the voxels of each class into particles."""

    untuned_label: ClassVar[str] = "(s0, p0) = (0, 0.5)"
    baseline_label: ClassVar[str] = "DBSCAN (eps 2.8, min 1)"
    name: Literal["clustering"] = "clustering"
    loss: ClusteringLoss = ClusteringLoss()
    init_margin: float = Field(
        validation_alias=AliasChoices("init_margin", "start_margin"),
        default=1.0,
        gt=0,
        lt=2,
        description="margin before training",
    )
    max_margin: float = Field(
        validation_alias=AliasChoices("max_margin", "widest_margin"),
        default=2.0,
        gt=0,
        le=2,
        description="factor of the margin's sigmoid; Koh II.1 has 2",
    )
    init_offset_scale: float = Field(
        validation_alias=AliasChoices("init_offset_scale", "start_scale"),
        default=1.0,
        gt=0,
        description="factor on the offsets' weights",
    )
    seediness_from: int = Field(
        default=0,
        ge=0,
        description="first step at which the seediness branch learns (phase two of Koh III.A)",
    )
    coordinates: bool = Field(default=False, description="the network sees each voxel's position")
    classes: bool = Field(default=False, description="the network sees each voxel's class")
    class_heads: bool = Field(
        default=False, description="every class has outputs, so an embedding, of its own"
    )
    min_train_voxels: int = Field(
        validation_alias=AliasChoices("min_train_voxels", "learn_min_voxels"),
        default=1,
        ge=1,
        description="true clusters with fewer voxels are not learnt from",
    )
    poster_classes: bool = Field(
        validation_alias=AliasChoices("poster_classes", "poster"),
        default=False,
        description="the poster's four classes: one of tracks, showers in pieces",
    )
    min_energy: float = Field(default=0.0, ge=0, description="voxels above it are used, MeV")
    method: Literal["seeds", "linked", "dbscan"] = Field(
        validation_alias=AliasChoices("method", "by"),
        default="seeds",
        description="how voxels become clusters: which thresholds are tuned",
    )
    seeds: SeedClustering = Field(
        default=SeedClustering(), validation_alias=AliasChoices("seeds", "cut")
    )
    linked: LinkedClustering = LinkedClustering()
    dbscan: DbscanClustering = DbscanClustering()
    metric: Literal["ari", "purity", "efficiency", "sbd", "ami"] = Field(
        default="ari", description="what the thresholds are tuned for; its mean is the objective"
    )

    @model_validator(mode="after")
    def _start_below_widest(self) -> ClusteringTask:
        if self.init_margin >= self.max_margin:
            raise ValueError(f"init_margin: must be below max_margin {self.max_margin}")
        return self

    @property
    def active_method(self) -> Clustering:
        methods: dict[str, Clustering] = {
            "seeds": self.seeds,
            "linked": self.linked,
            "dbscan": self.dbscan,
        }
        return methods[self.method].model_copy(update={"min_voxels": self.seeds.min_voxels})

    def with_method(self, method: str) -> ClusteringTask:
        known = get_args(type(self).model_fields["method"].annotation)
        if method not in known:
            raise ValueError(f"--method {method}: unknown; known are {', '.join(known)}")
        return self.model_copy(update={"method": method})

    def alternatives(self) -> dict[str, ClusteringTask]:
        others = {"seeds": "seeds", "linked": "linked voxels"}
        return {
            text: self.with_method(name) for name, text in others.items() if name != self.method
        }

    @property
    def heads(self) -> int:
        """How many embeddings a voxel has, of which its class chooses one."""
        return len(ParticleClass) if self.class_heads else 1

    def branches(self, axes: int) -> dict[str, int]:
        return {name: self.heads * width for name, width in embedding_branches(axes).items()}

    def input_channels(self, axes: int) -> int:
        return 1 + axes * self.coordinates + len(ParticleClass) * self.classes

    def init_weights(self, network: UResNet) -> None:
        init_embedding(
            network, self.init_margin, self.init_offset_scale, self.max_margin, self.heads
        )

    def frozen(self, step: int) -> tuple[str, ...]:
        """Phase one trains the embedding with the seediness decoder frozen (Koh III.A)."""
        return ("seediness",) if step < self.seediness_from else ()

    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        event = above(event, self.min_energy)
        return poster_classes(event) if self.poster_classes else event

    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """log(1 + energy / MeV): a proton's end and an electron's start differ by 100.

        With `coordinates` also the position in the image, -1 to 1 an axis (CoordConv). With
        `classes` also the voxel's class, one channel each: what masks the classes afterwards may
        as well tell the network which voxels will compete.
        """
        parts = [torch.log1p(batch.energy)[:, None]]
        if self.coordinates:
            parts.append(batch.centred())
        if self.classes:
            each = torch.arange(len(ParticleClass), device=batch.semantic.device)
            parts.append((batch.semantic[:, None] == each).float())
        return torch.cat(parts, dim=1)

    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        embedding = self._embedding(outputs, batch)
        clusters = TrueClusters.of(
            batch.event, batch.semantic, batch.cluster, self.min_train_voxels
        )
        settings = self.loss
        if self.frozen(step):
            settings = settings.model_copy(update={"gamma_seediness": 0.0})
        return clustering_loss(embedding, clusters, settings)

    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        return dict(vars(self._embedding(outputs, batch)))

    def _embedding(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> Embedding:
        if self.class_heads:
            outputs = {name: own_head(rows, batch.semantic) for name, rows in outputs.items()}
        return Embedding.of(outputs, batch.coords, batch.shape, self.max_margin)

    def class_voxels(self, event: Event, outputs: Outputs) -> dict[str, Voxels]:
        """Class to its voxels, for the classes with a cluster to score."""
        return {
            name: {
                "coords": event.coords[mask],
                "truth": event.cluster[mask],
                **{output: values[mask] for output, values in outputs.items()},
            }
            for name, mask in self._classes(event)
        }

    def untuned(self) -> Thresholds | None:
        return {name: dict(UNTUNED) for name in CLASS_NAMES} if self.method == "seeds" else None

    def reconstruct(self, event: Event, outputs: Outputs, at: Thresholds) -> Event:
        return replace(event, cluster=self.clusters(event, outputs, at))

    def clusters(self, event: Event, outputs: Outputs, at: Thresholds) -> Int[np.ndarray, " voxel"]:
        """The predicted cluster of each voxel, counted over all classes; -1 none."""
        found = np.full(len(event), -1, np.int32)
        for particle in ParticleClass:
            mask = event.semantic == particle
            if particle.name in at and mask.any():
                voxels = {name: values[mask] for name, values in outputs.items()}
                voxels["coords"] = event.coords[mask]
                labels = self.active_method.labels(voxels, **at[particle.name])
                found[mask] = np.where(labels >= 0, labels + found.max() + 1, -1)
        return found

    def evaluate(self, number: int, event: Event, outputs: Outputs, at: Thresholds) -> Metrics:
        found = self.clusters(event, outputs, at)
        rows: list[Row] = []
        for name, mask in self._classes(event):
            if name in at:
                rows += self._rows(number, name, event.cluster[mask], found[mask])
        return Metrics(rows)

    def baseline(self, number: int, event: Event) -> Metrics:
        """DBSCAN (eps 2.8 voxels, one point) within each class."""
        rows: list[Row] = []
        for name, mask in self._classes(event):
            rows += self._rows(number, name, event.cluster[mask], dbscan(event.coords[mask]))
        return Metrics(rows)

    def _rows(self, number: int, name: str, truth: np.ndarray, found: np.ndarray) -> list[Row]:
        values = scores(truth, found, min_voxels=self.seeds.min_voxels)
        values |= mistakes(truth, found, min_voxels=self.seeds.min_voxels)
        _, sizes = np.unique(truth[truth >= 0], return_counts=True)
        several = int((sizes >= self.seeds.min_voxels).sum()) > 1 and values["n_clusters"] > 1
        if several:
            values[SEVERAL] = values["ari"]
        measured = {metric: value for metric, value in values.items() if not np.isnan(value)}
        return [Row(number, name, metric, value) for metric, value in measured.items()]

    def _classes(self, event: Event) -> Iterator[tuple[str, np.ndarray]]:
        """The classes of an event that have a cluster to score, and where their voxels are."""
        for particle in ParticleClass:
            mask = event.semantic == particle
            clusters = event.cluster[mask]
            sizes = np.bincount(clusters[clusters >= 0])
            if len(sizes) and sizes.max() >= max(1, self.seeds.min_voxels):
                yield particle.name, mask


METHODS = ("seeds", "linked", "dbscan")
"""Ways to make clusters that a run can be read by."""
