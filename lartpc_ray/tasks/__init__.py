"""What is learnt and how it is judged."""

from typing import Annotated

from pydantic import Field

from lartpc_ray.tasks.clustering import ClusteringTask
from lartpc_ray.tasks.infill import InfillTask
from lartpc_ray.tasks.michel import MichelTask
from lartpc_ray.tasks.segmentation import SegmentationTask
from lartpc_ray.tasks.task import Task

AnyTask = Annotated[
    ClusteringTask | SegmentationTask | MichelTask | InfillTask, Field(discriminator="name")
]
"""The closed union of the tasks there are."""
TASKS: dict[str, type[Task]] = {
    "clustering": ClusteringTask,
    "segmentation": SegmentationTask,
    "michel": MichelTask,
    "infill": InfillTask,
}

__all__ = ["TASKS", "AnyTask", "ClusteringTask", "InfillTask", "MichelTask", "SegmentationTask"]
