"""Semantic segmentation: the class of every voxel, in 2D and 3D.

Dominé & Terao 2020 (arXiv:1903.05663) and SparseSSNet (MicroBooNE 2021, arXiv:2012.08513).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import CLASS_NAMES, TRACK_SHOWER, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.transforms import primary_ionisation, window
from lartpc_ray.data.views import Panel, View, views
from lartpc_ray.data.weights import balanced, cluster_and_vertex
from lartpc_ray.losses.loss import Loss
from lartpc_ray.losses.segmentation import Reduction, segmentation_loss
from lartpc_ray.metrics.segmentation import (
    accuracy,
    boundary_distance,
    class_accuracy,
    confusion,
    f1,
    iou,
    merge_classes,
)
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.tasks.task import Means, Outputs, Task, Thresholds, Validation

CLASSES = len(ParticleClass)
ALL = "ALL"
TWO_CLASSES = ("TRACK", "EM")
"""What `TRACK_SHOWER` merges the five into."""
AS = "as_"
"""Prefix of a row that counts the voxels of a class predicted to be another."""
RIGHT, WRONG = "#8a94a6", "#e03131"
"""Colours of voxels with the true and with another class."""
BOUNDARY = (0, 5, 10, 20, 40, 80, 160)
"""Edges of the bins in distance to the image's boundary, voxels."""


class SegmentationTask(Task):
    """Give every voxel its class."""

    headline: ClassVar[str] = ALL
    output_column: ClassVar[Literal["cluster", "class", ""]] = "class"
    name: Literal["segmentation"] = "segmentation"
    reduction: Reduction = Field(
        default="event_mean", description="event_mean: Dominé & Terao; sum: SparseSSNet"
    )
    weights: Literal["none", "class", "cluster_vertex"] = Field(
        default="none", description="of voxels in the loss: class balance, or SparseSSNet's"
    )
    relabel: bool = Field(
        default=False, description="Michel and delta only along their primary ionisation"
    )
    coordinates: bool = Field(default=False, description="the network sees each voxel's position")
    min_energy: NonNegativeFloat = Field(default=0.0, description="MeV; ADC in 2D (SSNet: 10)")
    max_energy: float = Field(default=1e6, gt=0, description="energies end here (SSNet: 300 ADC)")
    scale: float = Field(
        default=1.0, gt=0, description="the network sees log(1 + energy / scale), MeV or ADC"
    )
    metric: Literal["accuracy", "f1", "iou"] = Field(
        default="accuracy",
        description="objective: non-zero accuracy (mean over events), macro F1, or mean IoU",
    )

    def branches(self, axes: int) -> dict[str, int]:
        return {"classes": CLASSES}

    def input_channels(self, axes: int) -> int:
        return 1 + axes * self.coordinates

    def with_span(self, voxels: int) -> Self:
        if self.coordinates:
            raise ValueError(
                f"--side: the network sees positions in images of {voxels} voxels; leave out "
                "--side, or train a network for this side"
            )
        return self

    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        event = window(event, self.min_energy, self.max_energy)
        event = primary_ionisation(event) if self.relabel else event
        if self.weights == "none":
            return event
        return balanced(event) if self.weights == "class" else cluster_and_vertex(event)

    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """Return log(1 + energy / scale) and, with `coordinates`, the position, -1 to 1."""
        parts = [torch.log1p(batch.energy / self.scale)[:, None]]
        if self.coordinates:
            parts.append(batch.centred())
        return torch.cat(parts, dim=1)

    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        total = segmentation_loss(
            outputs["classes"], batch.semantic, batch.weight, batch.event, self.reduction
        )
        return Loss(total, {})

    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        return {"probability": torch.softmax(outputs["classes"].float(), dim=1)}

    def classes(self, outputs: Outputs) -> Int[np.ndarray, " voxel"]:
        """Return the likeliest class of each voxel."""
        likeliest: np.ndarray = outputs["probability"].argmax(axis=1)
        return likeliest.astype(np.int32)

    def validation_of(self, parts: Iterable[list[Row]]) -> Validation:
        rows: list[Row] = []
        of_events: dict[int, float] = {}
        for number, of_event in enumerate(parts):
            if of_event:
                of_events[number] = self.summary(Metrics(of_event))[ALL][self.metric]
            rows += of_event
        if not rows:
            raise ValueError("no voxel of the split has a class; give labelled events")
        means = self.summary(Metrics(rows))
        scores = {
            name: means[name][self.metric]
            for name in CLASS_NAMES
            if self.metric in means.get(name, {})
        }
        return Validation(means[ALL][self.metric], scores, {}, event_scores={ALL: of_events})

    def reconstruct(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> Event:
        return replace(event, semantic=self.classes(outputs))

    def views(self, event: Event, reconstructed: Event) -> tuple[Event, list[View]]:
        return event, views(event, classes=reconstructed.semantic)

    def panels(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> list[Panel]:
        classes, truth = self.classes(outputs), replace(views(event)[1], title="true class")
        wrong = np.where(event.semantic < 0, -1, (classes != event.semantic).astype(np.int32))
        compared = View("right or wrong", wrong, wrong, (RIGHT, WRONG), ("right", "wrong"))
        predicted = replace(truth, title="predicted class", value=classes, hover=classes)
        return [Panel(view, event.coords) for view in (truth, predicted, compared)]

    def evaluate(
        self, number: int, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Metrics:
        """Return the accuracies of the event, and the counts that `summary` adds up."""
        predicted = self.classes(outputs)
        table = confusion(event.semantic, predicted, CLASSES)
        if not table.sum():
            return Metrics([])
        rows = [Row(number, ALL, "accuracy", accuracy(table))]
        rows += _accuracies(number, CLASS_NAMES, table)
        two = merge_classes(table, TRACK_SHOWER)
        rows += _accuracies(number, TWO_CLASSES, two)
        rows.append(Row(number, "BOTH", "accuracy", accuracy(two)))
        for true, name in enumerate(CLASS_NAMES):
            if table[true].any():
                counts = zip(CLASS_NAMES, table[true], strict=True)
                rows += [Row(number, name, AS + other, float(n)) for other, n in counts]
        return Metrics([*rows, *_by_distance(number, event, predicted)])

    def summary(self, metrics: Metrics) -> Means:
        """Average accuracies over events, with their spread; F1, IoU, confusion over voxels."""
        means = metrics.means()
        table = np.array(
            [
                [metrics.values(true, AS + predicted).sum() for predicted in CLASS_NAMES]
                for true in CLASS_NAMES
            ]
        )
        for metric, of_class in (("f1", f1(table)), ("iou", iou(table))):
            for name, value in zip(CLASS_NAMES, of_class, strict=True):
                if name in means:
                    means[name][metric] = float(value)
            means.setdefault(ALL, {})[metric] = float(np.nanmean(of_class))
        for true, name in enumerate(CLASS_NAMES):
            for other, count in zip(CLASS_NAMES, table[true], strict=True):
                if name in means:
                    means[name][AS + other] = float(count / table[true].sum())
        means[ALL]["spread"] = float(metrics.values(ALL, "accuracy").std())
        for name, values in means.items():
            if name.startswith("from_"):
                values["accuracy"] = values.pop("right") / values.pop("voxels")
        return means


def _accuracies(number: int, names: tuple[str, ...], table: np.ndarray) -> list[Row]:
    values = zip(names, class_accuracy(table), strict=True)
    return [Row(number, name, "accuracy", float(v)) for name, v in values if not np.isnan(v)]


def _by_distance(number: int, event: Event, predicted: np.ndarray) -> list[Row]:
    """Count voxels and right ones by distance to the boundary (Dominé & Terao, Fig. 12)."""
    known = event.semantic >= 0
    distance = np.digitize(boundary_distance(event.coords, event.shape)[known], BOUNDARY) - 1
    right = (predicted == event.semantic)[known]
    voxels = np.bincount(distance, minlength=len(BOUNDARY))
    hits = np.bincount(distance, right, minlength=len(BOUNDARY))
    return [
        Row(number, f"from_{low}", metric, float(value))
        for low, *values in zip(BOUNDARY, voxels, hits, strict=True)
        for metric, value in zip(("voxels", "right"), values, strict=True)
        if values[0]
    ]
