"""A training whose budget is a time: its steps follow from the measured speed."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import format_duration
from lartpc_ray.train.speed import Speed, measured_speed
from lartpc_ray.trials.belongs import STEPS as STEPS_PATH
from lartpc_ray.trials.size import EVERY, MOST_STEPS, StudySize, largest
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.trial import Trial

STEPS, PATIENCE = 50, 3.0
"""Steps and seconds that are measured of trial 0."""
START = 10.0
"""Seconds until the first step: Ray and its processes start."""
END_FIXED, END_VALIDATIONS = 20.0, 8.0
"""Time after the last step: seconds, and a number of validations of trial 0."""


def overhead(speed: Speed) -> float:
    """Return the seconds before the first step and after the end of the last trial.

    The untrained network that the table shows fits its constants, too.
    """
    end = END_FIXED + END_VALIDATIONS * speed.seconds_per_validation
    return START + speed.seconds_to_fit + end


def measured(trial: Trial, minutes: float) -> Speed:
    """Measure the speed of a trial.

    Raises:
        ValueError: if its GPUs are absent.
    """
    with phase("measuring the speed"):
        speed = measured_speed(trial, STEPS, PATIENCE)
    if speed is None:
        raise ValueError(
            f"minutes: {minutes:g}: the speed cannot be measured here, as the GPUs of a trial are "
            "absent; give trials and steps in a budget instead"
        )
    return speed


def size_line(minutes: float, speed: Speed, size: str, seconds: float) -> str:
    """Return the measured speed, the size that follows and the expected end as one line.

    Args:
        minutes: of the budget.
        speed: that was measured.
        size: in words.
        seconds: from now to the expected end.
    """
    end = datetime.now() + timedelta(seconds=seconds)
    return (
        f"{minutes:g} minutes: measured {1 / speed.seconds_per_step:.3g} steps per s and "
        f"{speed.seconds_per_validation:.2g} s per validation; {size}; expected end "
        f"{end:%H:%M}, in {format_duration(seconds)}"
    )


def timed_trial(space: Space) -> Trial:
    """Return trial 0 of a space, with as many steps as fit into the minutes of its budget.

    Raises:
        ValueError: if no step fits, or if the steps are given, too.
    """
    minutes, trial = space.budget.minutes, space.first_trial()
    if minutes is None:
        return trial
    if STEPS_PATH in space.overrides:
        raise ValueError(f"minutes: {minutes:g}: --set {STEPS_PATH} is given, too; keep one")
    began = time.monotonic()
    speed = measured(trial, minutes)
    left = minutes * 60 - (time.monotonic() - began)
    full, scales = StudySize.of(space), EVERY not in space.overrides

    def seconds(steps: int) -> float:
        return training_seconds(full.scaled(steps, validations=scales), speed)

    steps = largest(1, MOST_STEPS, lambda number: seconds(number) <= left)
    if steps is None:
        rest = seconds(1) - speed.seconds_per_step
        raise ValueError(
            f"minutes: {minutes:g}: no step fits; validations and the evaluation take "
            f"{format_duration(rest)} here; give more minutes"
        )
    log.info(size_line(minutes, speed, f"{steps} steps", seconds(steps)))
    return full.scaled(steps, validations=scales).applied(space).first_trial()


def training_seconds(size: StudySize, speed: Speed) -> float:
    """Return the expected time of one training, with its start and its end.

    The network fits its constants after the last step, as the untrained one does.
    """
    validations = -(-size.steps // size.evaluate_every)
    steps = size.steps * speed.seconds_per_step + validations * speed.seconds_per_validation
    return overhead(speed) + steps + speed.seconds_to_fit
