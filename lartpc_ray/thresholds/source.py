"""The voxels of the classes of events, from a network or from a file of its outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.formats.outputs import Outputs, OutputsFile
from lartpc_ray.data.splits import Split
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.reconstruct.reconstructions import Voxels
from lartpc_ray.tasks.task import Task


@dataclass(frozen=True, eq=False)
class ClassVoxels:
    """The voxels of one class of one event."""

    event: int
    name: str
    voxels: Voxels


class VoxelSource(ABC):
    """The voxels of each class of each event, read anew at each iteration.

    Attributes:
        events: number of events.
        about: entries of a thresholds file that name the events.
    """

    events: int
    about: dict[str, Any]

    @abstractmethod
    def __iter__(self) -> Iterator[ClassVoxels]:
        """Yield the voxels in the order of the events."""


class NetworkVoxels(VoxelSource):
    """The outputs of a network on a split, computed first where Ray runs."""

    def __init__(self, evaluation: Evaluation, task: Task, split: Split) -> None:
        self._task = task
        self._predictions = evaluation.predictions(split)
        self._predictions.compute()
        self.events = len(self._predictions)
        self.about = {"split": split, "events": self.events}
        if evaluation.data:
            self.about["data"] = str(Path(evaluation.data).resolve())

    def __iter__(self) -> Iterator[ClassVoxels]:
        for number in range(self.events):
            for name, voxels in self._task.class_voxels(*self._predictions[number]).items():
                yield ClassVoxels(number, name, voxels)


class FileVoxels(VoxelSource):
    """The outputs of any network in a file."""

    def __init__(self, outputs: OutputsFile, task: Task) -> None:
        self._outputs = outputs
        self._min_voxels = task.smallest_cluster
        self._method = task.active_method.name
        self.events = len(outputs)
        if self.events:
            self._check_coords(0, outputs[0])
        self.about = {"data": str(outputs.path.resolve()), "events": self.events}
        self.about["min_voxels"] = self._min_voxels

    def __iter__(self) -> Iterator[ClassVoxels]:
        for number, outputs in enumerate(self._outputs):
            self._check_coords(number, outputs)
            for name, voxels in class_voxels(outputs, self._min_voxels):
                yield ClassVoxels(number, name, voxels)

    def _check_coords(self, number: int, outputs: Outputs) -> None:
        if self._method != "seeds" and "coords" not in outputs:
            raise ValueError(
                f"{self._outputs.path}: event {number}: no coords, which --method {self._method} "
                "needs"
            )


def class_voxels(outputs: Outputs, min_voxels: int) -> Iterator[tuple[str, Voxels]]:
    """Yield each class with a true cluster to score, and its voxels."""
    for particle in ParticleClass:
        mask = outputs["class"] == particle
        truth = outputs["cluster"][mask]
        _, sizes = np.unique(truth[truth >= 0], return_counts=True)
        if len(sizes) and sizes.max() >= max(1, min_voxels):
            names = [name for name in outputs if name not in ("class", "cluster")]
            yield particle.name, {"truth": truth} | {name: outputs[name][mask] for name in names}
