"""Task: a network's aim, its loss, and the metrics of its outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import ValidationInfo, model_validator
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.dead_regions import DeadMap
from lartpc_ray.data.event import Event
from lartpc_ray.data.views import Panel, View, views
from lartpc_ray.losses.loss import Loss
from lartpc_ray.metrics.michel import Match
from lartpc_ray.metrics.mistake_kinds import Mistake
from lartpc_ray.metrics.table import MEAN, Metrics
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.reconstruct.grid import ThresholdGrid, choose
from lartpc_ray.reconstruct.reconstructions import Reconstruction, Voxels
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.settings import Settings

Outputs = dict[str, np.ndarray]
"""The outputs of a network for one event, (voxel, ...) each."""
Prediction = tuple[Event, Outputs]
"""A prepared event and the outputs of a network for it."""
Thresholds = dict[str, dict[str, float]]
"""Class to its thresholds by name."""
Means = dict[str, dict[str, float]]
"""Class to metric to value over all events."""


@dataclass(frozen=True)
class Validation:
    """Scores of a network on events that it was not trained on.

    Attributes:
        objective: the number that a search maximises.
        scores: class to the score at its best thresholds.
        thresholds: chosen on these events; empty for a task without thresholds.
        held_out: class to the score on events that had no part in the choice of the thresholds
            (K-fold), or on all events if they are fewer than folds.
        error: of the objective, from the errors of the classes as independent ones; None for a task
            without thresholds.
        event_scores: class to event to score, at the thresholds of highest mean score; events are
            numbered from 0.
    """

    objective: float
    scores: dict[str, float]
    thresholds: Thresholds
    held_out: dict[str, float] = field(default_factory=dict)
    error: float | None = None
    event_scores: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClusterOutcomes:
    """The true clusters of one class of one event, and their outcomes.

    Attributes:
        cluster: (cluster,) its number in the event.
        voxels: (cluster,) its voxels.
        outcomes: those of `metrics.clustering.true_cluster_outcomes`, (cluster,) each.
    """

    cluster: Int[np.ndarray, " cluster"]
    voxels: Int[np.ndarray, " cluster"]
    outcomes: dict[str, Bool[np.ndarray, " cluster"]]


def _as_tuples(value: Any) -> Any:
    """Replace lists by tuples: after a validator, strict settings read JSON as Python values."""
    if isinstance(value, dict):
        return {key: _as_tuples(inner) for key, inner in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


class Task(Settings, ABC):
    """Frozen settings with a few methods; a network for the task needs nothing else.

    A task with thresholds that are tuned after training defines `methods`, `class_voxels` and
    `untuned`. A task without thresholds defines `validation_of`.
    """

    fitted: ClassVar[str] = ""
    """What `fit` learns, in the plural."""
    untuned_label: ClassVar[str] = ""
    """Label of the row with the thresholds of `untuned`."""
    baseline_label: ClassVar[str] = ""
    """Label of the row with the metrics of `baseline`; empty for a task without a baseline."""
    scored_classes: ClassVar[tuple[str, ...]] = CLASS_NAMES
    """Classes that are scored and have thresholds of their own."""
    headline: ClassVar[str] = MEAN
    """The class, or `MEAN`, whose score sums up a network."""
    output_column: ClassVar[Literal["cluster", "class", ""]] = ""
    """Column that a registered model returns; empty for a task that registers no model."""
    earlier_paths: ClassVar[Mapping[str, str]] = {}
    """Earlier `group.setting` to present setting, for files of earlier versions."""
    name: str
    metric: str

    @model_validator(mode="before")
    @classmethod
    def _move_earlier_settings(cls, values: Any, info: ValidationInfo) -> Any:
        """Move settings that an earlier version kept in a group; the first one listed counts."""
        values = _as_tuples(values) if info.mode == "json" else values
        for earlier, present in cls.earlier_paths.items():
            group, _, setting = earlier.partition(".")
            inner = values.get(group) if isinstance(values, dict) else None
            if isinstance(inner, dict) and setting in inner:
                rest = {key: value for key, value in inner.items() if key != setting}
                values = {present: inner[setting], **values, group: rest}
        return values

    @abstractmethod
    def branches(self, axes: int) -> dict[str, int]:
        """Return the output channels of each branch of the network."""

    @abstractmethod
    def input_channels(self, axes: int) -> int:
        """Return the number of input features per voxel."""

    def global_parameters(self) -> dict[str, int]:
        """Return learned parameters of the network that belong to no voxel, with their sizes."""
        return {}

    @property
    def fitted_events(self) -> int:
        """Return the number of training events that `fit` learns from; 0 if it fits nothing."""
        return 0

    @property
    def fits_always(self) -> bool:
        """Return whether the objective needs `fit` at each validation, not only at the last."""
        return False

    def without_fit(self) -> Self:
        """Return the task of a network whose `fit` has not run: with nothing to fit."""
        return self

    def fit(self, network: UResNet, predictions: Iterator[Prediction], seed: int) -> None:
        """Set the global parameters that no gradient of the training reaches.

        Args:
            network: as it is now. Set its global parameters before the first prediction is read:
                the predictions are computed with them.
            predictions: of `fitted_events` training events, computed when they are read.
            seed: of the trial.
        """

    def init_weights(self, network: UResNet) -> None:
        """Set first weights of a new network where the task needs other than random ones."""

    def frozen(self, step: int) -> tuple[str, ...]:
        """Return the branches that are not trained at this step."""
        return ()

    @abstractmethod
    def prepare(self, event: Event, rng: np.random.Generator | None = None) -> Event:
        """Transform an event before a network reads it.

        Args:
            event: as it comes from a file.
            rng: for random transforms in training; without it the result is always the same.
        """

    @abstractmethod
    def features(self, batch: VoxelBatch) -> Float[Tensor, "voxel channel"]:
        """Return the network's input."""

    @abstractmethod
    def criterion(self, outputs: dict[str, Tensor], batch: VoxelBatch, step: int) -> Loss:
        """Return the loss of the branches' raw outputs."""

    @abstractmethod
    def outputs(self, outputs: dict[str, Tensor], batch: VoxelBatch) -> dict[str, Tensor]:
        """Return the raw outputs in the units of the task, (voxel, ...) each."""

    @abstractmethod
    def reconstruct(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> Event:
        """Return the event with the reconstruction in place of the truth."""

    @abstractmethod
    def evaluate(
        self, number: int, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> Metrics:
        """Return all metrics of one event at given thresholds."""

    def baseline(self, number: int, event: Event) -> Metrics:
        """Return the same metrics of the method without training."""
        return Metrics([])

    def summary(self, metrics: Metrics) -> Means:
        """Combine the metrics of all events: the mean, unless the metric defines otherwise."""
        return metrics.means()

    @property
    def methods(self) -> Mapping[str, Reconstruction]:
        """Return the reconstructions by name; none for a task without thresholds."""
        return {}

    @property
    def active_method(self) -> Reconstruction:
        """Return the reconstruction in use, with the grid of its thresholds.

        Raises:
            ValueError: for a task without thresholds.
        """
        for method in self.methods.values():
            return method
        raise ValueError(f"the task {self.name} has no thresholds to tune")

    def with_method(self, method: str) -> Self:
        """Return the same task with another reconstruction.

        Raises:
            ValueError: for a task without this reconstruction.
        """
        if method not in self.methods:
            known = " or ".join(self.methods) or "no thresholds to tune"
            raise ValueError(f"--method {method}: the task {self.name} has {known}")
        return self

    def alternatives(self) -> Mapping[str, Self]:
        """Return the task with other reconstructions that a result compares, by their labels."""
        return {}

    @property
    def method_label(self) -> str:
        """Return the label of the active reconstruction in a result; empty without thresholds."""
        return "tuned thresholds" if self.untuned() else ""

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        """Return the metrics by which a result compares methods, the objective first."""
        return (self.metric,)

    def untuned(self) -> Thresholds | None:
        """Return thresholds that nobody has tuned; None for a task without thresholds."""
        return None

    def class_voxels(self, event: Event, outputs: Outputs) -> Mapping[str, Voxels]:
        """Return the voxels of each class with something to score."""
        return {}

    @property
    def scored_object(self) -> str:
        """Return what an event needs to be scored, and the setting that decides it."""
        size = self.smallest_cluster
        return f"a cluster to score, of at least {size} voxels (task.min_voxels)"

    @property
    def smallest_cluster(self) -> int:
        """Return the number of voxels of the smallest true cluster that is scored."""
        return 0

    def scores(self, voxels: Voxels, metrics: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the scores of one class of one event at every point of the grid."""
        return self.active_method.scores(voxels, list(metrics))

    def validation_part(self, number: int, event: Event, outputs: Outputs) -> Any:
        """Return what an event adds to a validation, in plain values; `validation_of` joins them.

        It is class to its scores at every point, or the rows of `evaluate` without thresholds.
        """
        if not self.methods:
            return list(self.evaluate(number, event, outputs, {}).rows)
        return {
            name: np.nan_to_num(self.scores(voxels, [self.metric])[self.metric])
            for name, voxels in self.class_voxels(event, outputs).items()
        }

    def grid(self, predictions: Iterable[Prediction]) -> ThresholdGrid:
        """Return the score of every event at every point, class by class."""
        return self._grid(self._parts(predictions))

    def _parts(self, predictions: Iterable[Prediction]) -> Iterator[Any]:
        return (self.validation_part(number, *pair) for number, pair in enumerate(predictions))

    def _grid(self, parts: Iterable[dict[str, np.ndarray]]) -> ThresholdGrid:
        scores: dict[str, list[np.ndarray]] = {}
        events: dict[str, list[int]] = {}
        for number, part in enumerate(parts):
            for name, of_event in part.items():
                scores.setdefault(name, []).append(of_event)
                events.setdefault(name, []).append(number)
        stacked = {name: np.stack(scores[name]) for name in self.scored_classes if name in scores}
        return ThresholdGrid(self.active_method.axes(), stacked, events=events)

    def validate_on(self, predictions: Iterable[Prediction]) -> Validation:
        """Return the objective and tuned thresholds: those of the thresholds command.

        The objective is the mean over the classes of the score at the best point. The thresholds
        are chosen by the robust rule, for use on other events.

        Raises:
            ValueError: if no event has anything to score.
        """
        return self.validation_of(self._parts(predictions))

    def validation_of(self, parts: Iterable[Any]) -> Validation:
        """Return the validation of the parts of all events, in the order of the events.

        Raises:
            ValueError: if no event has anything to score.
        """
        grid = self._grid(parts)
        if not grid.scores:
            raise ValueError(f"no event of the split has {self.scored_object}; give more events")
        scores = {name: grid.best_score(name) for name in grid.scores}
        choices = {name: choose(grid, name, ChoiceSettings()) for name in grid.scores}
        return Validation(
            float(np.mean(list(scores.values()))),
            scores,
            {name: choice.thresholds for name, choice in choices.items()},
            {
                name: choice.score if choice.held_out is None else choice.held_out
                for name, choice in choices.items()
            },
            float(np.linalg.norm([choice.error for choice in choices.values()])) / len(choices),
            {name: grid.event_scores(name) for name in grid.scores},
        )

    def views(self, event: Event, reconstructed: Event) -> tuple[Event, list[View]]:
        """Return the event to draw, and colours of the truth and of the reconstruction."""
        return event, views(event, clusters=reconstructed.cluster)

    def panels(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> list[Panel]:
        """Return drawings of the truth and of the reconstruction, in the same colours."""
        shown, drawn = self.views(event, self.reconstruct(event, outputs, thresholds))
        return [Panel(view, shown.coords) for view in drawn]

    def cluster_sizes(
        self, event: Event, outputs: Outputs
    ) -> dict[str, Float[np.ndarray, "cluster 2"]]:
        """Return extent and mean margin of each true cluster, for classes with such clusters."""
        return {}

    def cluster_outcomes(
        self, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> dict[str, ClusterOutcomes]:
        """Return the true clusters and their outcomes, for classes with true clusters."""
        return {}

    def cluster_mistakes(
        self, event: Event, outputs: Outputs, thresholds: Thresholds
    ) -> dict[str, list[Mistake]]:
        """Return the mistakes of the paper's six kinds, for classes with true clusters."""
        return {}

    def matches(self, event: Event, outputs: Outputs, thresholds: Thresholds) -> tuple[Match, ...]:
        """Return the Michel electrons that were matched to a true one, with their energies."""
        return ()

    def with_dead_regions(self, dead: DeadMap | None) -> Self:
        """Return the task that fills these dead regions, or its own.

        Raises:
            ValueError: for a task that fills no dead regions, or without any.
        """
        if dead:
            raise ValueError(f"the task {self.name} fills no dead regions; leave out --dead")
        return self

    def with_span(self, voxels: int) -> Self:
        """Return the task for images of another side than that of the training.

        Args:
            voxels: side of the images of the training, the unit of an embedding's positions.
        """
        return self

    def with_trained(self, trained: Task) -> Self:
        """Return the task that reads the network of another task.

        Raises:
            ValueError: for a task that trains its own network, or a network of another kind.
        """
        raise ValueError(f"--run: the task {self.name} trains its own network; leave it out")
