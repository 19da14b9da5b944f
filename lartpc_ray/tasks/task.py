"""Task: what is learnt and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.table import Metrics
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.grid import ChoiceSettings, ThresholdGrid, choose
from lartpc_ray.reconstruct.reconstructions import Reconstruction, Voxels
from lartpc_ray.settings import Settings

Outputs = dict[str, np.ndarray]
"""The outputs of a network for one event, (voxel, ...) each."""
Thresholds = dict[str, dict[str, float]]
"""Class to its thresholds by name."""
Means = dict[str, dict[str, float]]
"""Class to metric to value over all events."""


@dataclass(frozen=True)
class Validation:
    """What events that the network has not seen say of it.

    Attributes:
        objective: the one number to be maximised.
        scores: what it is made of, class by class: the best that any thresholds give.
        thresholds: chosen on these events; empty for a task without.
    """

    objective: float
    scores: dict[str, float]
    thresholds: Thresholds


class Task(Settings, ABC):
    """Frozen settings with a few methods; a network for the task needs nothing else."""

    untuned_label: ClassVar[str] = ""
    """What `untuned` is called."""
    baseline_label: ClassVar[str] = ""
    """The method without training that `baseline` measures."""
    scored_classes: ClassVar[tuple[str, ...]] = CLASS_NAMES
    """What is scored, and has thresholds of its own."""

    @abstractmethod
    def branches(self, axes: int) -> dict[str, int]:
        """Output channels of each branch of the network."""

    @abstractmethod
    def input_channels(self, axes: int) -> int:
        """Input features a voxel."""

    def global_parameters(self) -> dict[str, int]:
        """Learned numbers of the network that belong to no voxel, and how many of each."""
        return {}

    def init_weights(self, network: UResNet) -> None:
        """Set the first weights of a new network where the task knows better than chance."""

    def frozen(self, step: int) -> tuple[str, ...]:
        """The branches that do not learn at this step."""
        return ()

    @abstractmethod
    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        """What is done to an event before a network sees it.

        Args:
            event: as it comes from a file.
            rng: for what is random about it in training; without, it is always the same.
        """

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
    def validate_on(self, predictions: Iterable[tuple[Event, Outputs]]) -> Validation:
        """Tune what can be tuned after training, and give the objective.

        Raises:
            ValueError: where no event has anything to score.
        """

    def untuned(self) -> Thresholds | None:
        """The thresholds of those who do not tune; None for a task without."""
        return None

    @abstractmethod
    def reconstruct(self, event: Event, outputs: Outputs, at: Thresholds) -> Event:
        """The event with what was found in the place of the truth."""

    @abstractmethod
    def evaluate(self, number: int, event: Event, outputs: Outputs, at: Thresholds) -> Metrics:
        """All metrics of one event at given thresholds."""

    def baseline(self, number: int, event: Event) -> Metrics:
        """The same metrics of the rival."""
        return Metrics([])

    def summary(self, metrics: Metrics) -> Means:
        """The metrics of all events in one number each; the mean unless the metric says else."""
        return metrics.means()


class ThresholdTask(Task, ABC):
    """A task with thresholds that are tuned after training."""

    metric: str

    @property
    @abstractmethod
    def active_method(self) -> Reconstruction:
        """The reconstruction that the task uses, with the grid of its thresholds."""

    def with_method(self, method: str) -> ThresholdTask:
        """Return the same task with another reconstruction.

        Raises:
            ValueError: where the task has no such reconstruction.
        """
        if method != self.active_method.name:
            raise ValueError(f"--method {method}: the task has {self.active_method.name} only")
        return self

    def alternatives(self) -> Mapping[str, ThresholdTask]:
        """Other ways to read the same network that a verdict shows, by what they are called."""
        return {}

    @abstractmethod
    def class_voxels(self, event: Event, outputs: Outputs) -> Mapping[str, Voxels]:
        """Class to its voxels, for the classes with something to score."""

    def grid(self, predictions: Iterable[tuple[Event, Outputs]]) -> ThresholdGrid:
        """The score of every event at every point, class by class."""
        scores: dict[str, list[np.ndarray]] = {}
        for event, outputs in predictions:
            for name, voxels in self.class_voxels(event, outputs).items():
                found = self.active_method.scores(voxels, [self.metric])[self.metric]
                scores.setdefault(name, []).append(np.nan_to_num(found))
        stacked = {name: np.stack(scores[name]) for name in self.scored_classes if name in scores}
        return ThresholdGrid(self.active_method.axes(), stacked)

    def validate_on(self, predictions: Iterable[tuple[Event, Outputs]]) -> Validation:
        """The objective: mean over the classes of the best score; thresholds by the robust rule.

        The objective is the score that the network can reach. The thresholds are those to use on
        other events, the same as those of `python -m lartpc_ray.thresholds`.
        """
        grid = self.grid(predictions)
        if not grid.scores:
            raise ValueError("no event of the split has a cluster to score; give more events")
        scores = {name: grid.best_score(name) for name in grid.scores}
        at = {name: choose(grid, name, ChoiceSettings()).thresholds for name in grid.scores}
        return Validation(float(np.mean(list(scores.values()))), scores, at)
