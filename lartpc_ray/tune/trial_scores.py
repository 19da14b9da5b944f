"""Read the scores of a trial's validations again after an error of the machine."""

from __future__ import annotations

from pathlib import Path

from lartpc_ray.runtime.failures import retry
from lartpc_ray.terminal.command import log
from lartpc_ray.trials.event_scores import EventScores, read_scores
from lartpc_ray.tune.sampled import trial_folder


def trial_scores(study: Path, number: int, step: int) -> EventScores:
    """Return the scores of a validation by class and event; none for a missing or damaged file.

    Without these scores a trial is compared by its objective alone, so an error of the machine
    is waited for, with a line for each attempt.

    Args:
        study: folder of the study.
        number: index of the trial.
        step: of the validation.

    Raises:
        ValueError: with the name of the file, for an error of the machine that stays.
    """
    found: list[EventScores] = []
    folder = trial_folder(study, number)
    retry(lambda: found.append(read_scores(folder, step)), log.warning, lambda: None)
    return found[-1]
