"""Tasks: the aim of a network, its loss and its metrics."""

from typing import Annotated, get_args

from pydantic import Field

from lartpc_ray.tasks.clustering import ClusteringTask
from lartpc_ray.tasks.infill import InfillTask
from lartpc_ray.tasks.michel import MichelTask
from lartpc_ray.tasks.segmentation import SegmentationTask
from lartpc_ray.tasks.task import Task

AnyTask = Annotated[
    ClusteringTask | SegmentationTask | MichelTask | InfillTask, Field(discriminator="name")
]
"""The closed union of all tasks."""
TASKS: dict[str, type[Task]] = {
    task.model_fields["name"].default: task for task in get_args(get_args(AnyTask)[0])
}

__all__ = ["TASKS", "AnyTask", "ClusteringTask", "InfillTask", "MichelTask", "SegmentationTask"]
