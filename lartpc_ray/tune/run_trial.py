"""The function that Ray Tune calls for each part of a trial, in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from lartpc_ray.settings import Settings
from lartpc_ray.train.loop import Report, Worker
from lartpc_ray.train.part import TrainingPart
from lartpc_ray.train.workers import FAILED, device, refuse_failed, run_training_worker, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune.ray_search import FAILURE, split_trial_index, training_part
from lartpc_ray.tune.sampled import trial_folder

NOTES = "notes.txt"
"""The file in a study's folder for messages of trials to the user."""


PATIENCE = "60"
"""Seconds in which a paused trial's thread ends, before its process takes another trial.

Tune's 2 s are too few on a machine with much other work; the next trial would fail.
"""


class TrialContext(Settings):
    """What all trials of a study share; it goes to their processes as JSON.

    Attributes:
        folder: of the study.
        fixed: path to value, for every trial; a sampled setting has precedence.
        objectives: names of the numbers that Optuna expects of each trial.
    """

    folder: Path
    fixed: dict[str, Any]
    objectives: list[str]


def run_trial(config: dict[str, Any], context: str) -> None:
    """Train a part of a trial: in this process for one worker, as a Ray Train job for several.

    Args:
        config: sampled settings, the trial's index and its part, from Tune.
        context: the study's `TrialContext` as JSON.
    """
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", PATIENCE)
    number, settings = split_trial_index(config)
    part = training_part(config)
    shared = TrialContext.model_validate_json(context)
    study = shared.folder
    trial = make_trial({**shared.fixed, **settings})
    folder, note = trial_folder(study, number), study / NOTES
    labels = {"study": study.name, "trial": str(number)}
    try:
        if (folder / FAILED).is_file() and replay(trial, folder, part, tune.report):
            return
        refuse_failed(folder)
        if trial.resources.workers > 1:
            callback = TuneReportCallback()
            trainer(trial, folder, study / "ray", note, [callback], labels, part).fit()
            refuse_failed(folder)
        else:
            worker = Worker(device=device(trial))
            run_training_worker(trial, folder, tune.report, worker, note, labels, part)
    except Exception as error:
        if (folder / FAILED).is_file():
            nothing = dict.fromkeys(shared.objectives, float("nan"))
            tune.report({FAILURE: str(error), "step": 0, **nothing})
        raise


def replay(trial: Trial, folder: Path, part: TrainingPart, report: Report) -> bool:
    """Report the validations of a trial that failed later; return whether they end the part."""
    state = checkpoints.newest(folder, trial)
    done = list(part.reports(state.history)) if state else []
    for numbers in done:
        report(numbers)
    return part.ends_with(done)
