"""Particle clustering by embedding and seediness (Koh et al. 2020, arXiv:2007.03083)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import AliasChoices, Field, PositiveInt, field_validator, model_validator
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import CLASS_NAMES, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.transforms import above, poster_classes
from lartpc_ray.data.views import Panel, match_colours, views
from lartpc_ray.losses.clustering import ClusteringLoss, TrueClusters, clustering_loss
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.clustering import (
    SCORES,
    SEVERAL,
    cluster_metrics,
    true_cluster_outcomes,
    true_index,
)
from lartpc_ray.metrics.mistake_kinds import ClassVoxels, Mistake, find_mistakes
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.networks.embedding import Embedding, embedding_branches, init_embedding, own_head
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.density import dbscan
from lartpc_ray.reconstruct.names import UNTUNED
from lartpc_ray.reconstruct.reconstructions import (
    Clustering,
    DbscanClustering,
    LinkedClustering,
    PiecesClustering,
    SeedClustering,
    Voxels,
)
from lartpc_ray.tasks.joining import JOINING, VALUES, fit_classes, joined_outputs
from lartpc_ray.tasks.task import ClusterOutcomes, Outputs, Prediction, Task, Thresholds

NO_JOINING = "no network joins the pieces; train to the last step with task.joining_events, as 700"
LABELS = {"seeds": "seeds", "linked": "linked voxels", "pieces": "joined pieces"}
"""Reconstructions that a result compares, and their labels."""
OBJECTIVES = tuple(metric for metric in SCORES if metric != "n_clusters")
"""Metrics that thresholds are tuned for: the best value is the highest."""


class ClusteringTask(Task):
    """Group the voxels of each class into particles."""

    fitted: ClassVar[str] = LABELS["pieces"]
    untuned_label: ClassVar[str] = "(s0, p0) = (0, 0.5)"
    baseline_label: ClassVar[str] = "DBSCAN (eps 2.8, min 1)"
    output_column: ClassVar[Literal["cluster", "class", ""]] = "cluster"
    earlier_paths: ClassVar[Mapping[str, str]] = {
        f"{group}.min_voxels": "min_voxels" for group in ("seeds", "cut", "linked", "dbscan")
    }
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
    span: PositiveInt | None = Field(
        default=None,
        description="voxels over which positions span -1 to 1, L in Koh II.1; null: the image's",
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
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")
    joining_events: int = Field(
        default=0,
        ge=0,
        description="train events from which small networks learn to join pieces; 0: none",
    )
    method: Literal["seeds", "linked", "pieces", "dbscan"] = Field(
        validation_alias=AliasChoices("method", "by"),
        default="seeds",
        description="how voxels become clusters: which thresholds are tuned",
    )
    seeds: SeedClustering = Field(
        default=SeedClustering(), validation_alias=AliasChoices("seeds", "cut")
    )
    linked: LinkedClustering = LinkedClustering()
    pieces: PiecesClustering = PiecesClustering()
    dbscan: DbscanClustering = DbscanClustering()
    metric: str = Field(
        default="ari",
        description="what the thresholds are tuned for; its mean is the objective",
        json_schema_extra={"enum": list(OBJECTIVES)},
    )

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric not in OBJECTIVES:
            raise ValueError(f"metric {metric!r}: give one of {', '.join(OBJECTIVES)}")
        return metric

    @model_validator(mode="after")
    def _start_below_widest(self) -> ClusteringTask:
        if self.init_margin >= self.max_margin:
            raise ValueError(f"init_margin: must be below max_margin {self.max_margin}")
        return self

    @model_validator(mode="after")
    def _pieces_are_joined(self) -> ClusteringTask:
        if self.method == "pieces" and not self.joining_events:
            raise ValueError(f"method pieces: {NO_JOINING}")
        return self

    @property
    def methods(self) -> Mapping[str, Clustering]:
        joining: dict[str, Clustering] = {"pieces": self.pieces} if self.joining_events else {}
        return {"seeds": self.seeds, "linked": self.linked, **joining, "dbscan": self.dbscan}

    @property
    def active_method(self) -> Clustering:
        return self.methods[self.method]

    def with_method(self, method: str) -> Self:
        if method == "pieces" and method not in self.methods:
            raise ValueError(f"--method pieces: {NO_JOINING}")
        super().with_method(method)
        return self.model_copy(update={"method": method})

    def with_span(self, voxels: int) -> Self:
        return self if self.span else self.model_copy(update={"span": voxels})

    @property
    def method_label(self) -> str:
        return LABELS.get(self.method, "DBSCAN, tuned")

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        return (self.metric, SEVERAL)

    def alternatives(self) -> Mapping[str, Self]:
        return {
            label: self.with_method(name)
            for name, label in LABELS.items()
            if name != self.method and name in self.methods
        }

    @property
    def smallest_cluster(self) -> int:
        return self.min_voxels

    def scores(self, voxels: Voxels, metrics: Iterable[str]) -> dict[str, np.ndarray]:
        return self.active_method.scores(voxels, list(metrics), min_voxels=self.min_voxels)

    @property
    def heads(self) -> int:
        """Return the number of embeddings per voxel; the class of the voxel chooses one of them."""
        return len(ParticleClass) if self.class_heads else 1

    def branches(self, axes: int) -> dict[str, int]:
        return {name: self.heads * width for name, width in embedding_branches(axes).items()}

    def input_channels(self, axes: int) -> int:
        return 1 + axes * self.coordinates + len(ParticleClass) * self.classes

    def global_parameters(self) -> dict[str, int]:
        return {JOINING: VALUES} if self.joining_events else {}

    def init_weights(self, network: UResNet) -> None:
        init_embedding(
            network, self.init_margin, self.init_offset_scale, self.max_margin, self.heads
        )
        if self.joining_events:
            network.constants[JOINING].requires_grad_(False)

    @property
    def fitted_events(self) -> int:
        return self.joining_events

    @property
    def fits_always(self) -> bool:
        return self.method == "pieces"

    def without_fit(self) -> Self:
        method = "seeds" if self.method == "pieces" else self.method
        return self.model_copy(update={"joining_events": 0, "method": method})

    def fit(self, network: UResNet, predictions: Iterator[Prediction], seed: int) -> None:
        """Train the network that joins pieces. Before, its values are 0: no pieces."""
        network.constants[JOINING].zero_()
        network.constants[JOINING].copy_(fit_classes(predictions, seed))

    def frozen(self, step: int) -> tuple[str, ...]:
        """Freeze the seediness decoder in phase one (Koh III.A)."""
        return ("seediness",) if step < self.seediness_from else ()

    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        event = above(event, self.min_energy)
        return poster_classes(event) if self.poster_classes else event

    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """Return log(1 + energy / MeV): a proton's end and an electron's start differ by 100.

        With `coordinates` add the position in the image, -1 to 1 per axis (CoordConv). With
        `classes` add the class, one channel per class: voxels of one class compete later.
        """
        parts = [torch.log1p(batch.energy)[:, None]]
        if self.coordinates:
            parts.append(batch.centred(self.span))
        if self.classes:
            known = torch.arange(len(ParticleClass), device=batch.semantic.device)
            parts.append((batch.semantic[:, None] == known).float())
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
        embedding = dict(vars(self._embedding(outputs, batch)))
        if not self.joining_events or not (self.fits_always or outputs[JOINING].any()):
            return embedding
        return embedding | joined_outputs(outputs[JOINING], embedding, batch)

    def _embedding(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> Embedding:
        outputs = {name: rows for name, rows in outputs.items() if name != JOINING}
        if self.class_heads:
            outputs = {name: own_head(rows, batch.semantic) for name, rows in outputs.items()}
        shape = (self.span,) * len(batch.shape) if self.span else batch.shape
        return Embedding.of(outputs, batch.coords, shape, self.max_margin)

    def class_voxels(self, event: Event, outputs: Outputs) -> dict[str, Voxels]:
        """Return the voxels of each class with a cluster to score."""
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

    def reconstruct(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> Event:
        return replace(event, cluster=self.clusters(event, outputs, thresholds))

    def clusters(
        self, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Int[np.ndarray, " voxel"]:
        """Return the predicted cluster of each voxel, counted over all classes; -1 none."""
        clusters = np.full(len(event), -1, np.int32)
        for particle in ParticleClass:
            mask = event.semantic == particle
            if particle.name in thresholds and mask.any():
                voxels = {name: values[mask] for name, values in outputs.items()}
                voxels["coords"] = event.coords[mask]
                labels = self.active_method.labels(voxels, **thresholds[particle.name])
                clusters[mask] = np.where(labels >= 0, labels + clusters.max() + 1, -1)
        return clusters

    def evaluate(
        self, number: int, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Metrics:
        clusters = self.clusters(event, outputs, thresholds)
        rows: list[Row] = []
        for name, mask in self._classes(event):
            if name in thresholds:
                rows += self._rows(number, name, event.cluster[mask], clusters[mask])
        return Metrics(rows)

    def baseline(self, number: int, event: Event) -> Metrics:
        """Return the metrics of DBSCAN (eps 2.8 voxels, one point) within each class."""
        rows: list[Row] = []
        for name, mask in self._classes(event):
            rows += self._rows(number, name, event.cluster[mask], dbscan(event.coords[mask]))
        return Metrics(rows)

    def _rows(self, number: int, name: str, truth: np.ndarray, predicted: np.ndarray) -> list[Row]:
        values = cluster_metrics(truth, predicted, min_voxels=self.min_voxels)
        return [Row(number, name, metric, value) for metric, value in values.items()]

    def _classes(self, event: Event) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the classes of an event that have a cluster to score, and masks of their voxels."""
        for particle in ParticleClass:
            mask = event.semantic == particle
            clusters = event.cluster[mask]
            sizes = np.bincount(clusters[clusters >= 0])
            if len(sizes) and sizes.max() >= max(1, self.min_voxels):
                yield particle.name, mask

    def panels(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> list[Panel]:
        truth = views(event)[2]
        predicted = match_colours(truth, event, self.clusters(event, outputs, thresholds))
        embedded = replace(truth, title="embedding space, in the colours of the truth")
        return [
            Panel(truth, event.coords),
            Panel(predicted, event.coords),
            Panel(embedded, outputs["position"], image=False),
        ]

    def cluster_sizes(
        self, event: Event, outputs: Outputs
    ) -> dict[str, Float[np.ndarray, "cluster 2"]]:
        """Return extent and mean margin of each true cluster.

        The extent is the largest distance of two voxels along an axis, in the units of the
        embedding: the image spans -1 to 1.
        """
        sizes = {}
        for name, mask in self._classes(event):
            index = true_index(event.cluster[mask], self.min_voxels)
            span = np.array(self.span or event.shape)
            coords, margin = 2 * event.coords[mask] / span, outputs["margin"][mask]
            members = (index == number for number in range(index.max() + 1))
            sizes[name] = np.array(
                [(np.ptp(coords[own], axis=0).max(), margin[own].mean()) for own in members]
            )
        return sizes

    def cluster_outcomes(
        self, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> dict[str, ClusterOutcomes]:
        labels = self.clusters(event, outputs, thresholds)
        clusters = {}
        for name, mask in self._classes(event):
            truth = event.cluster[mask]
            index = true_index(truth, self.min_voxels)
            known, first = np.unique(index, return_index=True)
            clusters[name] = ClusterOutcomes(
                truth[first[known >= 0]],
                np.bincount(index[index >= 0]),
                true_cluster_outcomes(truth, labels[mask], min_voxels=self.min_voxels),
            )
        return clusters

    def cluster_mistakes(
        self, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> dict[str, list[Mistake]]:
        labels = self.clusters(event, outputs, thresholds)
        return {
            name: find_mistakes(
                ClassVoxels(
                    event.coords[mask],
                    event.cluster[mask],
                    labels[mask],
                    outputs["position"][mask].astype(np.float64),
                    event.coords[~mask],
                    ParticleClass[name],
                    max(event.shape),
                ),
                min_voxels=self.min_voxels,
            )
            for name, mask in self._classes(event)
        }
