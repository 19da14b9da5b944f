"""Michel electrons on top of a segmentation (Dominé & Terao 2020, section VII)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float, Int
from pydantic import AliasChoices, Field
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.views import Panel, views
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.michel import Match, michel_counts
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.reconstruct.michels import MichelSettings, find_michels
from lartpc_ray.reconstruct.reconstructions import (
    MICHEL_AXES,
    MichelReconstruction,
    Voxels,
    michel_settings,
)
from lartpc_ray.tasks.segmentation import SegmentationTask
from lartpc_ray.tasks.task import Means, Outputs, Task, Thresholds

MICHEL = ParticleClass.MICHEL.name
ALL = "ALL"
"""The row without a limit on the size of the true clusters."""


class MichelTask(Task):
    """Find Michel electrons; the network is a segmentation's."""

    untuned_label: ClassVar[str] = "the paper's cuts"
    baseline_label: ClassVar[str] = "from true classes, the paper's cuts"
    scored_classes: ClassVar[tuple[str, ...]] = (MICHEL,)
    headline: ClassVar[str] = MICHEL
    output_column: ClassVar[Literal["cluster", "class", ""]] = "cluster"
    earlier_paths: ClassVar[Mapping[str, str]] = {
        f"{group}.min_voxels": "min_voxels" for group in ("reconstruction", "cut")
    }
    name: Literal["michel"] = "michel"
    segmentation: SegmentationTask = SegmentationTask()
    semantics: Literal["predicted", "truth"] = Field(
        default="predicted", description="the classes that the electrons are found from"
    )
    reconstruction: MichelReconstruction = Field(
        default=MichelReconstruction(), validation_alias=AliasChoices("reconstruction", "cut")
    )
    min_voxels: int = Field(default=10, ge=0, description="smaller true clusters are not scored")
    metric: Literal["matched"] = "matched"

    @property
    def methods(self) -> Mapping[str, MichelReconstruction]:
        return {self.reconstruction.name: self.reconstruction}

    def with_trained(self, trained: Task) -> MichelTask:
        if not isinstance(trained, SegmentationTask):
            raise ValueError(f"--run: its task is {trained.name}, not segmentation")
        return self.model_copy(update={"segmentation": trained})

    def with_span(self, voxels: int) -> Self:
        return self.model_copy(update={"segmentation": self.segmentation.with_span(voxels)})

    @property
    def smallest_cluster(self) -> int:
        return self.min_voxels

    def scores(self, voxels: Voxels, metrics: Iterable[str]) -> dict[str, np.ndarray]:
        return self.reconstruction.scores(voxels, list(metrics), min_voxels=self.min_voxels)

    def branches(self, axes: int) -> dict[str, int]:
        return self.segmentation.branches(axes)

    def input_channels(self, axes: int) -> int:
        return self.segmentation.input_channels(axes)

    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        return self.segmentation.prepare(event, rng)

    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        return self.segmentation.features(batch)

    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        return self.segmentation.criterion(outputs, batch, step)

    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        return self.segmentation.outputs(outputs, batch)

    def class_voxels(self, event: Event, outputs: Outputs) -> dict[str, Voxels]:
        """Return all voxels of an event with a true or a predicted Michel voxel."""
        semantic = self._semantic(event, outputs)
        if not _involved(event, semantic):
            return {}
        truth = _true_michels(event)
        return {MICHEL: {"coords": event.coords, "semantic": semantic, "truth": truth}}

    def untuned(self) -> Thresholds:
        """Return the thresholds of the paper."""
        paper = MichelSettings()
        return {MICHEL: {name: float(getattr(paper, name)) for name in MICHEL_AXES}}

    def reconstruct(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> Event:
        """Return the event with the predicted classes and each Michel electron as a cluster."""
        labels = self._candidates(event, self._semantic(event, outputs), thresholds)
        semantic = self.segmentation.classes(outputs)
        return replace(event, semantic=semantic, cluster=labels.astype(np.int32))

    def panels(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> list[Panel]:
        """Return the true Michel electrons and the reconstructed ones; other voxels are grey."""
        truth = views(event)[2]
        true = np.where(event.semantic == ParticleClass.MICHEL, truth.value, -1)
        shown = replace(truth, title="true Michel electrons", value=true)
        labels = views(self.reconstruct(event, outputs, thresholds))[2]
        labels = replace(labels, title="found Michel electrons")
        return [Panel(shown, event.coords), Panel(labels, event.coords)]

    def evaluate(
        self, number: int, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Metrics:
        return self._measured(number, event, self._semantic(event, outputs), thresholds)

    def matches(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> tuple[Match, ...]:
        labels = self._candidates(event, self._semantic(event, outputs), thresholds)
        return michel_counts(_true_michels(event), labels, self.min_voxels, event.energy).matches

    def baseline(self, number: int, event: Event) -> Metrics:
        return self._measured(number, event, event.semantic, self.untuned())

    def summary(self, metrics: Metrics) -> Means:
        """Sum the identification over all events; average purity and efficiency."""
        means = metrics.means()
        for name, values in means.items():
            total = {
                count: metrics.values(name, count).sum()
                for count in ("candidates", "right", "electrons", "seen")
            }
            values |= {count: float(value) for count, value in total.items()}
            if total["candidates"]:
                values["id_purity"] = float(total["right"] / total["candidates"])
            if total["electrons"]:
                values["id_efficiency"] = float(total["seen"] / total["electrons"])
        return means

    def _semantic(self, event: Event, outputs: Outputs) -> Int[np.ndarray, " voxel"]:
        truth = self.semantics == "truth"
        return event.semantic if truth else self.segmentation.classes(outputs)

    def _candidates(
        self, event: Event, semantic: np.ndarray, thresholds: Thresholds
    ) -> Int[np.ndarray, " voxel"]:
        return find_michels(event.coords, semantic, michel_settings(thresholds[MICHEL]))

    def _measured(
        self, number: int, event: Event, semantic: np.ndarray, thresholds: Thresholds
    ) -> Metrics:
        if not _involved(event, semantic):
            return Metrics([])
        labels, truth = self._candidates(event, semantic, thresholds), _true_michels(event)
        rows: list[Row] = []
        for name, min_voxels in ((MICHEL, self.min_voxels), (ALL, 0)):
            counts = michel_counts(truth, labels, min_voxels)
            rows += [
                Row(number, name, count, float(getattr(counts, count)))
                for count in ("candidates", "right", "electrons", "seen")
            ]
            if name == MICHEL:
                rows.append(Row(number, name, "matched", counts.matched))
            for match in counts.matches:
                rows.append(Row(number, name, "purity", match.purity))
                rows.append(Row(number, name, "efficiency", match.efficiency))
        return Metrics(rows)


def _involved(event: Event, semantic: Int[np.ndarray, " voxel"]) -> bool:
    michel = ParticleClass.MICHEL
    return bool((semantic == michel).any() or (event.semantic == michel).any())


def _true_michels(event: Event) -> Int[np.ndarray, " voxel"]:
    return np.where(event.semantic == ParticleClass.MICHEL, event.cluster, -1).astype(np.int64)
