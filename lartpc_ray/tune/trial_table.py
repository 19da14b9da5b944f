"""The table of a running search: its trials with their speeds, and the resources they wait for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import ray

from lartpc_ray.terminal.pulse import FILE, read_pulse
from lartpc_ray.terminal.screen import Trials
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune.decisions import Decisions

KINDS = {"CPU": "core", "GPU": "GPU"}


def trial_table(folder: Path, space: Space) -> Trials:
    """Return the table of a search.

    Args:
        folder: of the study.
        space: that is searched.
    """
    first = space.first_trial()
    for old in (folder / "trials").glob(f"*/{FILE}"):  # of an earlier part of the search
        old.unlink(missing_ok=True)
    return Trials(
        folder.name,
        list(space.search),
        space.trials,
        first.optimizer.steps,
        every=first.optimizer.evaluate_every,
        total=Decisions.of(space).scheduler.planned_steps,
        pulse=lambda number: read_pulse(folder / "trials" / str(number) / FILE),
        waits=lambda: missing_now(first.resources),
    )


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
    workers = needs.min_workers or needs.workers
    wants = {"CPU": workers * needs.cpus, "GPU": workers * needs.gpus}
    short = [
        f"{want:g} {KINDS[kind]}{'s' * (want != 1)}; free: {free.get(kind, 0):g} of "
        f"{there.get(kind, 0):g}"
        for kind, want in wants.items()
        if want > free.get(kind, 0)
    ]
    return f"waiting for resources: a trial needs {', and '.join(short)}" if short else ""
