"""What runs, as numbers for Prometheus: all that is told through Ray's metrics.

Every node of Ray answers a scrape with what its processes told last, `ray_` before each name; the
panels of `dashboards/lartpc.json` show it. Outside of Ray nothing is told. A tag takes as many
values as there are studies, trials and workers on the nodes, never one a step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ray
from ray.util.metrics import Counter, Gauge

NODES = "prom_metrics_service_discovery.json"
"""In Ray's folder: what Prometheus may scrape, of the session that began last."""
STATES = ("running", "finished", "stopped", "failed")
"""Of a trial; `stopped` early, for others were better."""


@dataclass(frozen=True)
class Number:
    """A metric: what is told under a name.

    Attributes:
        kind: a counter grows while a process lives, a gauge is what it is now.
        about: what it counts, for people.
        tags: what its series differ in.
    """

    kind: type[Counter] | type[Gauge]
    about: str
    tags: tuple[str, ...]


TRIAL = ("study", "trial")
WORKER = (*TRIAL, "rank")
NUMBERS = {
    "lartpc_steps_total": Number(Counter, "training steps", WORKER),
    "lartpc_events_total": Number(Counter, "events trained on", WORKER),
    "lartpc_voxels_total": Number(Counter, "voxels trained on", WORKER),
    "lartpc_step_seconds_total": Number(
        Counter, "seconds of training steps: data, compute, communication", (*WORKER, "part")
    ),
    "lartpc_loss": Number(Gauge, "loss of the last step, of the worker's share", WORKER),
    "lartpc_memory_bytes": Number(
        Gauge, "memory in use: of the GPU by the worker on one, else of its process", WORKER
    ),
    "lartpc_goal": Number(Gauge, "goal of the last validation", TRIAL),
    "lartpc_best_goal": Number(Gauge, "best goal of the search", ("study",)),
    "lartpc_trials": Number(Gauge, "trials of the search in a state", ("study", "state")),
    "lartpc_threshold_points_total": Number(
        Counter, "points of a threshold grid scored, for a class of an event each", ("cut",)
    ),
    "lartpc_threshold_points_left": Number(Gauge, "such points still to be scored", ("cut",)),
}


def tell(name: str, value: float, **tags: str) -> None:
    """Add to a counter or set a gauge; nothing outside of Ray.

    Args:
        name: one of `NUMBERS`.
        value: not below 0 for a counter.
        tags: those of the number.
    """
    if not ray.is_initialized():
        return
    metric = _metric(name)
    if isinstance(metric, Gauge):
        metric.set(value, tags)
    elif value:  # Ray takes no 0
        metric.inc(value, tags)


@cache
def _metric(name: str) -> Counter | Gauge:
    number = NUMBERS[name]
    return number.kind(name, number.about, number.tags)


def announce(session: Path) -> None:
    """Let Prometheus find a local Ray: the list of its nodes, where its dashboard would keep it.

    Args:
        session: folder of Ray's session.
    """
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    part = session / NODES
    part.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]))
    part.replace(session.parent / NODES)
