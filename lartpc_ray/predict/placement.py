"""Where the networks of a command run: in its own process, or on Ray workers."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from math import inf
from typing import Literal

import psutil
import torch
from pydantic import PositiveInt

from lartpc_ray.predict.inference import Precision
from lartpc_ray.runtime.cluster import cluster_resources
from lartpc_ray.settings import Settings

Device = Literal["auto", "cpu", "cuda"]
WORKER_BYTES = 1.5e9
"""Memory of a worker on the CPU: torch, a network of some million weights, a batch."""
START_EVENTS = 200
"""Events that one process predicts while Ray starts and its workers import torch."""
SPEED_OF_WORKER = 0.8
"""Of a worker beside others, relative to one process alone (docs/scaling.md)."""


class Placement(Settings):
    """Where the networks of a job run.

    Attributes:
        workers: their number; by default all that the Ray cluster of this command has, or one, in
            this process, if the command has no Ray.
        device: `auto` is the GPU if there is one.
        precision: of the convolutions.
    """

    workers: PositiveInt | None = None
    device: Device = "auto"
    precision: Precision = "float32"

    @staticmethod
    def of(options: argparse.Namespace) -> Placement:
        """Return the placement that the arguments of a command choose (`add_placement`).

        Raises:
            ValueError: for no worker.
        """
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"--workers {options.workers}: at least 1")
        return Placement(
            workers=options.workers, device=options.device, precision=options.precision
        )

    def resolve(self) -> Placement:
        """Return the placement with its device and number of workers.

        Raises:
            ValueError: for a GPU where there is none, and none is waited for.
        """
        cluster = cluster_resources()
        gpus = torch.cuda.device_count() if cluster is None else int(cluster.get("GPU", 0))
        comes = cluster is not None and self.workers is not None  # a node for each worker
        if self.device == "cuda" and not gpus and not comes:
            raise ValueError(
                "--device cuda: torch sees no GPU; give --device cpu"
                if cluster is None
                else "--device cuda: the Ray cluster has no GPU; give --device cpu, or --workers N "
                "to wait for N GPUs of nodes that come"
            )
        wanted = self.device == "cuda" or (self.device == "auto" and gpus > 0)
        device: Device = "cuda" if wanted else "cpu"
        fit = 1
        if cluster is not None:
            fit = max(1, gpus if device == "cuda" else int(cluster.get("CPU", 0)))
        return self.model_copy(update={"device": device, "workers": self.workers or fit})


DEFAULT_PLACEMENT = Placement()


def few_events(workers: int) -> float:
    """Return the number of events up to which one process ends before that many new workers.

    Example:
        >>> few_events(1), round(few_events(2)), round(few_events(16))
        (inf, 533, 217)
    """
    speed = SPEED_OF_WORKER * workers
    return START_EVENTS / (1 - 1 / speed) if speed > 1 else inf


def local_workers() -> int:
    """Return the number of CPU workers that this machine has cores and memory for."""
    cores = len(psutil.Process().cpu_affinity() or [1])
    return max(1, min(cores, int(psutil.virtual_memory().available / WORKER_BYTES)))


class LazyRay(ExitStack):
    """Ray for the networks of a command: started before the first of many events, ended with it.

    Args:
        placement: of the networks.

    Raises:
        ValueError: for a GPU on a machine without one, outside a cluster.

    Example:
        with LazyRay(Placement(workers=2)) as ray:
            ray.start(len(events))
    """

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        if not os.environ.get("RAY_ADDRESS"):
            placement.resolve()

    def start(self, events: int) -> None:
        """Start or join Ray, unless it runs or one process predicts so many events sooner."""
        gpus = torch.cuda.device_count() if self.placement.device != "cpu" else 0
        most = gpus or local_workers()
        workers = self.placement.workers or (1 if events <= few_events(most) else most)
        alone = workers == 1 and not os.environ.get("RAY_ADDRESS")
        if alone or cluster_resources() is not None:
            return
        # Ray, which one process does without
        from lartpc_ray.runtime.ray_session import ray_session

        self.enter_context(ray_session(workers, dashboard=False))
