"""A search whose budget is a time: its trials and their steps follow from the measured speed.

The rule, for the trials, the steps and `min_steps` of the budget:

1. If all trials of all steps fit, the same trials of more steps: longer trainings gain more than
   further trials (docs/search.md). Where the command line fixes the steps, more trials.
2. Else the same trials of fewer steps, but at least `min_steps`.
3. Else fewer trials of `min_steps`, at least two.

The first rung and the steps between validations keep their ratios to the steps. The same speed
gives the same size; the plan of a study keeps it, so a resumed search measures nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch

from lartpc_ray.runtime.failures import cause_of
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import counted, error_text, format_duration
from lartpc_ray.train.speed import Speed, measure_steps, step_means
from lartpc_ray.train.timed import measured, overhead, size_line
from lartpc_ray.trials.belongs import STEPS
from lartpc_ray.trials.size import EVERY, MOST_STEPS, StudySize, largest
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import History
from lartpc_ray.tune.study import fitting

FEWEST = 2
"""Trials of the shortest search: the default and one other."""
MOST = 1000
"""Trials of the longest search whose steps are fixed."""
PART = 1.0
"""Seconds until a trial starts, or goes on from its checkpoint."""
OTHERS, OTHER_STEPS, OTHER_PATIENCE = 3, 5, 1.0
"""Points beside trial 0 whose speed is measured; steps and seconds of each."""


@dataclass(frozen=True)
class TimedSearch:
    """A search with the size that fits into its minutes.

    Attributes:
        space: with that size.
        speed: mean of the measured trials.
        seconds: expected time from the size to the end.
        at_once: trials at a time.
    """

    space: Space
    speed: Speed
    seconds: float
    at_once: int

    def line(self) -> str:
        """Return the measured speed, the size and the expected end."""
        size = StudySize.of(self.space)
        rung = f" (first rung {size.min_steps})" if size.min_steps < size.steps else ""
        words = (
            f"{counted(size.trials, 'trial')} of {size.steps} steps{rung}, {self.at_once} at a time"
        )
        return size_line(self.space.budget.minutes or 0, self.speed, words, self.seconds)


def timed_search(space: Space, concurrent: int | None = None) -> TimedSearch | None:
    """Measure the speed of a search and return it with the size that fits; None without minutes.

    Args:
        space: of the search.
        concurrent: trials at a time, on a cluster also if fewer fit now; by default as many as fit.

    Raises:
        ValueError: if the shortest search or the trials to begin with do not fit, or if the speed
            cannot be measured.
    """
    minutes = space.budget.minutes
    if minutes is None:
        return None
    began = time.monotonic()
    at_once = trials_at_once(space, concurrent)
    speed = _mean_speed(space, measured(space.first_trial(), minutes))
    left = minutes * 60 - (time.monotonic() - began)
    chosen = fitting_size(space, speed, at_once, left).applied(space)
    if len(chosen.starts) >= chosen.trials:
        raise ValueError(
            f"first: {len(chosen.starts) + 1} trials to begin with, and {chosen.trials} fit into "
            "the minutes; give more minutes, or leave some out"
        )
    at_once = min(at_once, chosen.trials)
    return TimedSearch(chosen, speed, search_seconds(chosen, speed, at_once), at_once)


def trials_at_once(space: Space, concurrent: int | None) -> int:
    """Return the number of trials at a time that this machine, or a cluster, has room for.

    Args:
        space: of the search.
        concurrent: the wanted number; by default that of the budget.
    """
    wanted = concurrent or space.budget.concurrent
    if os.environ.get("RAY_ADDRESS"):
        return wanted
    needs = space.first_trial().resources
    here = {"CPU": len(os.sched_getaffinity(0)), "GPU": torch.cuda.device_count()}
    return max(min(fitting(needs, needs.workers, here), wanted), 1)


def _mean_speed(space: Space, first: Speed) -> Speed:
    """Return the mean speed over trial 0 and some points that the search proposes.

    A point is compared with trial 0 on the same batches, by its seconds per voxel.
    """
    proposed = Decisions.of(space).sampler.propose(History(), space.trials, OTHERS + 1)[1:]
    places = np.linspace(0, len(proposed) - 1, min(OTHERS, len(proposed))).astype(int)
    ratios = [1.0]
    with phase("measuring the speed of other trials"):
        own = _seconds_per_voxel(space, space.first) if len(places) else 1.0
        for place in places:
            try:
                ratios.append(_seconds_per_voxel(space, proposed[int(place)]) / own)
            except Exception as error:
                if cause_of(error) != "trial":
                    raise
                log.warning(f"the speed of a trial is not measured: {error_text(error)}")
    slower = float(np.mean(ratios))
    return replace(
        first,
        seconds_per_step=first.seconds_per_step * slower,
        voxels_per_second=first.voxels_per_second / slower,
    )


def _seconds_per_voxel(space: Space, point: dict[str, object]) -> float:
    trial = space.trial(point)
    threads = torch.get_num_threads()
    try:
        device = "cuda" if trial.resources.gpus else "cpu"
        steps = measure_steps(trial, device, OTHER_STEPS, OTHER_PATIENCE)
    finally:
        torch.set_num_threads(threads)
    seconds, voxels = step_means(steps)
    return seconds / max(voxels, 1)


def search_seconds(space: Space, speed: Speed, at_once: int) -> float:
    """Return the expected time of a search, with its start and its end."""
    planned = Decisions.of(space).scheduler.planned_seconds(
        speed.seconds_per_step,
        speed.seconds_per_validation,
        space.first_trial().optimizer.evaluate_every,
        min(at_once, space.trials),
        PART,
        speed.seconds_to_fit,
    )
    return overhead(speed) + planned


def fitting_size(space: Space, speed: Speed, at_once: int, seconds: float) -> StudySize:
    """Return the size of a search that fits into a time, by the rule of this module.

    Args:
        space: its budget gives the size to start from.
        speed: of its trials.
        at_once: trials at a time.
        seconds: from the size to the end.

    Raises:
        ValueError: if the shortest search does not fit.
    """
    full = StudySize.of(space)
    keeps_trials = bool(space.points) or not space.search

    def scaled(steps: int) -> StudySize:
        return full.scaled(steps, validations=EVERY not in space.overrides)

    def trials(size: StudySize, number: int) -> StudySize:
        return size.model_copy(update={"trials": number})

    def fits(size: Callable[[int], StudySize]) -> Callable[[int], bool]:
        return lambda number: search_seconds(size(number).applied(space), speed, at_once) <= seconds

    def more(number: int) -> StudySize:
        return trials(full, number)

    fixed = STEPS in space.overrides
    most = len(space.every_point) or MOST if fixed and not keeps_trials else full.trials
    if fixed and (number := largest(full.trials, max(most, full.trials), fits(more))):
        return more(more(number).applied(space).trials)
    shortest, longest = (full.steps, full.steps) if fixed else (full.min_steps, MOST_STEPS)
    if steps := largest(shortest, max(longest, full.steps), fits(scaled)):
        return scaled(steps)
    short = scaled(shortest)
    least = full.trials if keeps_trials else min(FEWEST, full.trials)
    if number := largest(least, full.trials, fits(lambda number: trials(short, number))):
        return trials(short, number)
    needed = search_seconds(trials(short, least).applied(space), speed, at_once)
    raise ValueError(
        f"minutes: {space.budget.minutes:g}: {least} trials of {shortest} steps take "
        f"{format_duration(needed)} on this machine; give --minutes {ceil(needed / 60) + 1}, or a "
        "budget with fewer min_steps"
    )
