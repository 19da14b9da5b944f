"""Task: what is learnt and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.event import Event
from lartpc_ray.losses.terms import Loss
from lartpc_ray.metrics.table import Metrics
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.grid import ThresholdGrid
from lartpc_ray.settings import Settings

Outputs = dict[str, np.ndarray]
"""The outputs of a network for one event, (voxel, ...) each."""
Thresholds = dict[str, dict[str, float]]
"""Class to its thresholds by name."""


class Task(Settings, ABC):
    """Frozen settings with a few methods; a network for the task needs nothing else."""

    @abstractmethod
    def branches(self, axes: int) -> dict[str, int]:
        """Output channels of each branch of the network."""

    @abstractmethod
    def inputs(self, axes: int) -> int:
        """Input features a voxel."""

    @abstractmethod
    def start(self, network: UResNet) -> None:
        """Set the first weights of a new network where the task knows better than chance."""

    @abstractmethod
    def frozen(self, step: int) -> tuple[str, ...]:
        """The branches that do not learn at this step."""

    @abstractmethod
    def prepare(self, event: Event) -> Event:
        """What is done to an event before a network sees it."""

    @abstractmethod
    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """The network's input."""

    @abstractmethod
    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        """The loss of the branches' raw outputs."""

    @abstractmethod
    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        """The raw outputs in the units of the task, (voxel, ...) each."""

    @abstractmethod
    def score(self, event: Event, outputs: Outputs) -> dict[str, np.ndarray]:
        """The goal of one event at every point of the threshold grid, by class."""

    @abstractmethod
    def grid(self, scores: Iterable[dict[str, np.ndarray]]) -> ThresholdGrid:
        """The events of what `score` gave, class by class."""

    @abstractmethod
    def goal(self, grid: ThresholdGrid) -> float:
        """The one number to be maximised."""

    @abstractmethod
    def thresholds(self, grid: ThresholdGrid | None) -> Thresholds:
        """The best point of each class; the untuned ones without a grid."""

    @abstractmethod
    def clusters(self, event: Event, outputs: Outputs, at: Thresholds) -> Int[np.ndarray, " voxel"]:
        """The predicted cluster of each voxel, counted over all classes; -1 none."""

    @abstractmethod
    def evaluate(self, number: int, event: Event, outputs: Outputs, at: Thresholds) -> Metrics:
        """All metrics of one event at given thresholds."""

    @abstractmethod
    def baseline(self, number: int, event: Event) -> Metrics:
        """The same metrics of the method that needs no training."""
