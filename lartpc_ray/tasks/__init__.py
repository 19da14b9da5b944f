"""What is learnt and how it is judged."""

from lartpc_ray.tasks.clustering import ClusteringTask

AnyTask = ClusteringTask
"""The closed union of the tasks there are."""

__all__ = ["AnyTask", "ClusteringTask"]
