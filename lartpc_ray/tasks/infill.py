"""Infill of dead regions: which of their voxels are active, and with which energy (LArDRIP)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import AliasChoices, Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from scipy.spatial import cKDTree
from torch import Tensor, nn

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import NO_CLASS
from lartpc_ray.data.dead_regions import (
    Candidates,
    DeadMap,
    RandomRegions,
    dead_region,
    distance_to_box,
    fixed_rng,
    line_voxels,
    region_of,
)
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.transforms import above
from lartpc_ray.data.views import Panel, View, views
from lartpc_ray.losses.infill import InfillForm, occupancy_loss, squared_loss
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.infill import (
    Crossing,
    assign_crossings,
    counts,
    crossing_voxels,
    crossings,
    distance_to_nearest,
    shape_scores,
)
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.reconstructions import ActiveVoxels, Voxels
from lartpc_ray.tasks.task import Means, Outputs, Task, Thresholds

TRACK, REGION, EMPTY = "TRACK", "REGION", "EMPTY"
"""Tracks that cross a region, regions that one crosses, and regions that none does."""
UNTUNED = 0.5
FILLED = "#e03131"
"""Colour of voxels in a dead region."""
RARE = 0.01
"""Share of active candidates that a new network expects (Lin et al. 2017)."""
LARGEST = math.log1p(1e4)
"""Of log(1 + energy / MeV): above all that a voxel may hold."""


class InfillTask(Task):
    """Predict which voxels of a dead region are active, and their energies."""

    untuned_label: ClassVar[str] = "threshold 0.5"
    baseline_label: ClassVar[str] = "straight line between a track's ends"
    scored_classes: ClassVar[tuple[str, ...]] = (TRACK,)
    headline: ClassVar[str] = TRACK
    name: Literal["infill"] = "infill"
    regions: RandomRegions = RandomRegions()
    dead: DeadMap | None = Field(default=None, description="known regions, instead of random ones")
    candidates: Candidates = Field(
        default="near",
        description="which voxels of a region may be active; near: those near to the way straight "
        "on of what enters; dense: all, as in LArDRIP, if the regions are small enough",
    )
    margin: NonNegativeInt = Field(
        default=2,
        description="voxels between a candidate that is near and the way straight on",
    )
    max_candidates: PositiveInt = Field(default=200_000, description="of an event")
    start_value: Literal["zero", "minus_one", "random", "line"] = Field(
        default="zero",
        description="what the network sees at a candidate; random: 0 to 1 MeV; line: on straight "
        "lines between ends that point to each other their mean energy, elsewhere 0",
    )
    form: InfillForm = Field(
        default="squared",
        description="squared: LArDRIP's; squared_mean: each part a mean over its own voxels; "
        "bce, focal: whether a voxel is active as a branch of its own",
    )
    min_energy: NonNegativeFloat = Field(default=0.0, description="voxels above it are used, MeV")
    reconstruction: ActiveVoxels = Field(
        default=ActiveVoxels(), validation_alias=AliasChoices("reconstruction", "cut")
    )
    metric: Literal["f1", "iou"] = Field(
        default="f1",
        description="what the threshold is tuned for, and the objective: of active voxels",
    )

    @property
    def occupancy(self) -> bool:
        """Return whether a branch of its own predicts that a voxel is active."""
        return self.form in ("bce", "focal")

    @property
    def methods(self) -> Mapping[str, ActiveVoxels]:
        return {self.reconstruction.name: self.reconstruction}

    def with_dead_regions(self, dead: DeadMap | None) -> Self:
        if dead is None and self.dead is None:
            raise ValueError("--dead MAP.yaml is missing: an infill must know the dead regions")
        return self.model_copy(update={"dead": dead}) if dead else self

    def branches(self, axes: int) -> dict[str, int]:
        return {"energy": 1} | ({"active": 1} if self.occupancy else {})

    def global_parameters(self) -> dict[str, int]:
        return {} if self.occupancy else {"balance": 2}

    def input_channels(self, axes: int) -> int:
        return 2

    def init_weights(self, network: UResNet) -> None:
        """Expect few active voxels, so that the first steps do not go into learning that."""
        if self.occupancy:
            out = network.decoders["active"].out
            assert isinstance(out, nn.Linear)
            nn.init.constant_(out.bias, math.log(RARE / (1 - RARE)))

    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        event = above(event, self.min_energy)
        rng = rng or fixed_rng(event)
        known = self.dead.corners(event.shape) if self.dead else None
        corners = self.regions.corners(event, rng) if known is None else known
        event = dead_region(
            event,
            corners,
            margin=self.margin,
            limit=self.max_candidates,
            candidates=self.candidates,
        )
        if self.start_value == "line":
            return event
        start = rng.random(len(event), np.float32) * (self.start_value == "random")
        return replace(event, energy=np.where(event.dead, start, event.energy))

    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """Return log(1 + energy / MeV), at candidates the start value; and a flag of candidates."""
        seen = torch.log1p(batch.energy)
        if self.start_value == "minus_one":
            seen = torch.where(batch.dead, -1.0, seen)
        return torch.stack([seen, batch.dead.to(seen)], dim=1)

    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        """Return the loss of the candidates; energies as log(1 + energy / MeV)."""
        energy = outputs["energy"][batch.dead, 0].float()
        target = torch.log1p(batch.truth[batch.dead])
        if self.occupancy:
            logit = outputs["active"][batch.dead, 0].float()
            return occupancy_loss(logit, energy, target, focal=self.form == "focal")
        return squared_loss(energy, target, outputs["balance"], over_all=self.form == "squared")

    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        """Return `energy` in MeV and `score`: the probability of being active, or the energy."""
        energy = torch.expm1(outputs["energy"][:, 0].float().clamp(0, LARGEST))
        active = torch.sigmoid(outputs["active"][:, 0].float()) if self.occupancy else energy
        return {"energy": energy, "score": active}

    @property
    def scored_object(self) -> str:
        return "a track to score, one that crosses a dead region (task.regions)"

    def class_voxels(self, event: Event, outputs: Outputs) -> dict[str, Voxels]:
        """Return the voxels of all tracks that cross a region of the event."""
        tracks = crossings(event)
        if not tracks:
            return {}
        return {
            TRACK: crossing_voxels(
                event, tracks, event.coords[event.dead], outputs["score"][event.dead]
            )
        }

    def untuned(self) -> Thresholds:
        return {TRACK: {"threshold": UNTUNED}}

    def reconstruct(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> Event:
        """Return the seen and the active voxels.

        An active voxel takes class and cluster of the nearest seen voxel, if any.
        """
        active = event.dead & (outputs["score"] > thresholds[TRACK]["threshold"])
        semantic, cluster, energy = (
            getattr(event, name).copy() for name in ("semantic", "cluster", "energy")
        )
        semantic[active], cluster[active] = NO_CLASS, NO_CLASS
        if not event.dead.all():
            _, nearest = cKDTree(event.coords[~event.dead]).query(event.coords[active])
            semantic[active] = semantic[~event.dead][nearest]
            cluster[active] = cluster[~event.dead][nearest]
        energy[active] = outputs["energy"][active]
        filled = replace(event, semantic=semantic, cluster=cluster, energy=energy)
        return filled.select(active | ~event.dead)

    def views(self, event: Event, reconstructed: Event) -> tuple[Event, list[View]]:
        return reconstructed, views(reconstructed, predicted=True)

    def panels(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> list[Panel]:
        """Return the seen voxels in grey, with the truth and with the filled voxels in colour."""
        assert event.regions is not None
        seen, hidden = event.coords[~event.dead], event.regions.truth.coords
        filled = self.reconstruct(event, outputs, thresholds)
        true = np.repeat(np.array([-1, 0]), [len(seen), len(hidden)])
        return [
            Panel(View(title, colour, colour, (FILLED,), ("in a dead region",)), coords)
            for title, coords, colour in (
                ("truth", np.concatenate([seen, hidden]), true),
                ("filled in", filled.coords, np.where(filled.dead, 0, -1)),
            )
        ]

    def evaluate(
        self, number: int, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Metrics:
        score, energy = (outputs[name][event.dead].astype(float) for name in ("score", "energy"))
        fill = _Fill(event.coords[event.dead], score, energy, thresholds[TRACK]["threshold"])
        return Metrics(_measured(number, event, crossings(event), fill))

    def baseline(self, number: int, event: Event) -> Metrics:
        """Return the metrics of the straight line between the ends of each true track."""
        tracks = crossings(event)
        return Metrics(_measured(number, event, tracks, _lines(event, tracks)))

    def summary(self, metrics: Metrics) -> Means:
        """Average; of the energies take the median and the half width of the central 68 %."""
        means = metrics.means()
        for name, values in means.items():
            if "bias" in values:
                low, middle, high = np.percentile(metrics.values(name, "bias"), [16, 50, 84])
                values |= {"bias": float(middle), "resolution": float(high - low) / 2}
        return means


@dataclass(frozen=True, eq=False)
class _Fill:
    """What a method puts into the dead regions of an event, (place, ...) each."""

    coords: np.ndarray
    score: np.ndarray
    energy: np.ndarray
    threshold: float

    @property
    def active(self) -> np.ndarray:
        return np.asarray(self.score > self.threshold)


def _lines(event: Event, tracks: Sequence[Crossing]) -> _Fill:
    """Return the voxels of all lines within their regions, with the mean energy beside it."""
    coords, energy = [event.coords[:0]], [np.zeros(0)]
    for crossing in tracks:
        assert event.regions is not None
        places = line_voxels(*crossing.ends)
        places = places[distance_to_box(places, event.regions.corners[crossing.region]) <= 0]
        coords.append(places.astype(np.int32))
        energy.append(np.full(len(places), crossing.energy))
    once, first = np.unique(np.concatenate(coords), axis=0, return_index=True)
    return _Fill(once, np.ones(len(once)), np.concatenate(energy)[first], UNTUNED)


def _measured(number: int, event: Event, tracks: Sequence[Crossing], fill: _Fill) -> list[Row]:
    if event.regions is None:
        return []
    rows = _of_tracks(number, event, tracks, fill) if tracks else []
    return [*rows, *_of_regions(number, event, tracks, fill)]


def _of_tracks(number: int, event: Event, tracks: Sequence[Crossing], fill: _Fill) -> list[Row]:
    """Return a row per crossing under the class of its track, and their means in the event."""
    assert event.regions is not None
    rows = crossing_voxels(event, tracks, fill.coords, fill.score)
    points = np.array([-0.5, fill.threshold])
    hits, active, true = counts(rows["owner"], rows["truth"], rows["score"], points)
    values = shape_scores(hits[:, 1], active[:, 1], true[:, 1])
    values["ceiling"] = hits[:, 0] / true[:, 0]
    values["bias"], values["distance"] = np.full((2, len(tracks)), np.nan)
    owner = np.where(fill.active, assign_crossings(event, tracks, fill.coords), -1)
    for index, crossing in enumerate(tracks):
        own = owner == index
        truth = crossing.truth.energy.sum()
        values["bias"][index] = fill.energy[own].sum() / truth - 1
        if own.any():
            hidden = event.regions.truth.coords
            values["distance"][index] = distance_to_nearest(fill.coords[own], hidden).mean()
    return [
        Row(number, name, metric, float(value))
        for metric, column in values.items()
        for name, value in [
            *((crossing.name, value) for crossing, value in zip(tracks, column, strict=True)),
            (TRACK, np.nanmean(column) if np.isfinite(column).any() else np.nan),
        ]
        if np.isfinite(value)
    ]


def _of_regions(number: int, event: Event, tracks: Sequence[Crossing], fill: _Fill) -> list[Row]:
    """Score all voxels of a crossed region; count the wrong voxels of an empty one."""
    assert event.regions is not None
    corners, truth = event.regions.corners, event.regions.truth
    places = region_of(fill.coords, corners)
    right = np.isin(voxel_keys(fill.coords, event.shape), voxel_keys(truth.coords, event.shape))
    true = np.bincount(region_of(truth.coords, corners), minlength=len(corners))
    rows = []
    for region in range(len(corners)):
        active = fill.active & (places == region)
        hits = int((active & right).sum())
        if any(crossing.region == region for crossing in tracks):
            values = shape_scores(np.array(hits), active.sum(), true[region])
            values["ceiling"] = np.array((right & (places == region)).sum() / true[region])
            rows += [
                Row(number, REGION, metric, float(value))
                for metric, value in values.items()
                if np.isfinite(value)
            ]
        else:
            rows.append(Row(number, EMPTY, "wrong", float(active.sum() - hits)))
    return rows
