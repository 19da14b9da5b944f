"""Metrics of running work for Prometheus, through Ray.

Every node of Ray answers a scrape with the last values of its processes, `ray_` before each name;
the panels of `dashboards/lartpc.json` show them. Outside of Ray nothing is recorded. The values of
a tag are studies, trials and workers, never steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ray
from ray.util.metrics import Counter, Gauge

from lartpc_ray.atomic import write_json

NODES = "prom_metrics_service_discovery.json"
"""The file in Ray's folder that lists the nodes of the last session for Prometheus."""
STATES = ("running", "paused", "finished", "stopped", "failed")
"""States of a trial; `paused` at a rung, `stopped` early, because other trials were better."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric of Prometheus.

    Attributes:
        kind: a counter grows while a process lives, a gauge is a present value.
        about: its description.
        tags: names of its tags.
    """

    kind: type[Counter] | type[Gauge]
    about: str
    tags: tuple[str, ...]


TRIAL = ("study", "trial")
WORKER = (*TRIAL, "rank")
METRICS = {
    "lartpc_steps_total": MetricSpec(Counter, "training steps", WORKER),
    "lartpc_events_total": MetricSpec(Counter, "events trained on", WORKER),
    "lartpc_voxels_total": MetricSpec(Counter, "voxels trained on", WORKER),
    "lartpc_step_seconds_total": MetricSpec(
        Counter, "seconds of training steps: data, compute, communication", (*WORKER, "part")
    ),
    "lartpc_loss": MetricSpec(Gauge, "loss of the last step, of the worker's share", WORKER),
    "lartpc_memory_bytes": MetricSpec(
        Gauge, "memory in use: of the GPU by the worker on one, else of its process", WORKER
    ),
    "lartpc_objective": MetricSpec(Gauge, "objective of the last validation", TRIAL),
    "lartpc_best_objective": MetricSpec(Gauge, "best objective of the search", ("study",)),
    "lartpc_trials": MetricSpec(Gauge, "trials of the search in a state", ("study", "state")),
    "lartpc_threshold_points_total": MetricSpec(
        Counter, "points of a threshold grid scored, for a class of an event each", ("method",)
    ),
    "lartpc_threshold_points_left": MetricSpec(
        Gauge, "points of a threshold grid times events still to be scored", ("method",)
    ),
}


def record(name: str, value: float, **tags: str) -> None:
    """Add to a counter or set a gauge; do nothing outside of Ray.

    Args:
        name: one of `METRICS`.
        value: not below 0 for a counter.
        tags: values of the metric's tags.
    """
    if not ray.is_initialized():
        return
    metric = _metric(name)
    if isinstance(metric, Gauge):
        metric.set(value, tags)
    elif value:  # Ray refuses 0
        metric.inc(value, tags)


@cache
def _metric(name: str) -> Counter | Gauge:
    metric = METRICS[name]
    return metric.kind(name, metric.about, metric.tags)


def write_prometheus_targets(session: Path) -> None:
    """Let Prometheus find a local Ray: the list of its nodes, where its dashboard would keep it.

    Args:
        session: folder of Ray's session.
    """
    nodes = ray.nodes()
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    write_json(session.parent / NODES, [{"labels": {"job": "ray"}, "targets": targets}])
