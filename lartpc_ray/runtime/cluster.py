"""The resources of the Ray cluster of this command, without an import of Ray where none runs."""

from __future__ import annotations

import sys


def cluster_resources() -> dict[str, float] | None:
    """Return the resources of the Ray cluster of this process; None if Ray does not run."""
    ray = sys.modules.get("ray")
    if ray is None or not getattr(ray, "is_initialized", bool)():
        return None
    resources: dict[str, float] = ray.cluster_resources()
    return resources
