"""The cores and GPUs that a trial needs, and those that are absent or taken."""

from __future__ import annotations

import os
from collections.abc import Mapping

import ray
import torch

from lartpc_ray.runtime.cluster import cluster_resources
from lartpc_ray.trials.trial import Resources

KINDS = {"CPU": "core", "GPU": "GPU"}


def absent_here(needs: Resources) -> dict[str, str]:
    """Name the GPUs and cores that this machine lacks; a cluster is not asked, as it may grow.

    Args:
        needs: resources of a trial.

    Returns:
        CPU, GPU to the sentence about it; empty if nothing is absent.
    """
    if os.environ.get("RAY_ADDRESS") or cluster_resources() is not None:
        return {}
    wants, sentences = _wants(needs), {}
    cores, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    if wants["GPU"] > gpus:
        sentences["GPU"] = (
            f"resources.gpus: a trial needs {_count(wants, 'GPU')}, torch sees {gpus or 'none'}; "
            "choose another --budget, or --set resources.gpus=0"
        )
    if wants["CPU"] > cores:
        sentences["CPU"] = (
            f"resources.cpus: a trial needs {_count(wants, 'CPU')}, this machine has {cores}; "
            "lower --workers or resources.cpus"
        )
    return sentences


def refuse_absent(needs: Resources, *kinds: str) -> None:
    """Raise ValueError where this machine lacks what a trial waits for without an end.

    Args:
        needs: resources of a trial.
        kinds: CPU, GPU: those without which it does not start.
    """
    for kind, sentence in absent_here(needs).items():
        if kind in kinds:
            raise ValueError(sentence)


def missing_now(needs: Resources) -> str:
    """Return the resources that a trial waits for; empty if they are free or Ray has ended."""
    if not ray.is_initialized():
        return ""
    there = ray.cluster_resources()
    alone = not os.environ.get("RAY_ADDRESS")  # then the trials that start hold what is not free
    return missing(needs, there if alone else ray.available_resources(), there)


def missing(needs: Resources, free: Mapping[str, float], there: Mapping[str, float]) -> str:
    """Return the resources that a trial waits for, in a line; empty if they are free.

    Args:
        needs: resources of the trial.
        free: resources of the cluster that no other work has, by Ray's names.
        there: all resources of the cluster.

    Example:
        >>> missing(Resources(cpus=4), {"CPU": 1.0}, {"CPU": 2.0})
        'waiting for resources: a trial needs 4 cores; free: 1 of 2'
        >>> missing(Resources(cpus=1), {"CPU": 0.0}, {"CPU": 2.0})
        'waiting for resources: a trial needs 1 core; free: 0 of 2'
        >>> missing(Resources(cpus=1), {"CPU": 1.0}, {"CPU": 2.0})
        ''
    """
    wants = _wants(needs)
    short = [
        f"{_count(wants, kind)}; free: {free.get(kind, 0):g} of {there.get(kind, 0):g}"
        for kind, want in wants.items()
        if want > free.get(kind, 0)
    ]
    return f"waiting for resources: a trial needs {', and '.join(short)}" if short else ""


def _wants(needs: Resources) -> dict[str, float]:
    """Return the resources with which a trial starts, by Ray's names."""
    workers = needs.min_workers or needs.workers
    return {"CPU": workers * needs.cpus, "GPU": workers * needs.gpus}


def _count(wants: Mapping[str, float], kind: str) -> str:
    return f"{wants[kind]:g} {KINDS[kind]}{'s' * (wants[kind] != 1)}"
