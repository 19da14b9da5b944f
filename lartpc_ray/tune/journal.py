"""Optuna's journal of a search: `optuna-dashboard` shows it, also during the search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from lartpc_ray.trials.space import Space

JOURNAL = "optuna.journal"
"""Optuna's study in the study's folder."""
TRIAL_INDEX = "number"
"""The attribute of a trial, and the key of its configuration, that holds its index, from 0."""


class Journal:
    """Write the trials of a search as a study of Optuna.

    Each search starts a new journal: a resumed search reports everything again, and Optuna cannot
    read a journal in which a killed driver left half a line.

    Args:
        folder: of the study; its name is the study's.
        space: that is searched.
    """

    def __init__(self, folder: Path, space: Space) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (JOURNAL, f"{JOURNAL}.lock"):
            (folder / name).unlink(missing_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._study = optuna.create_study(
            study_name=folder.name,
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            sampler=RandomSampler(seed=0),  # every setting is given
            directions=[
                StudyDirection.MAXIMIZE,
                *[StudyDirection.MINIMIZE] * len(space.costs),
            ],
        )
        self._trials: dict[int, Trial] = {}

    def start(self, number: int, settings: Mapping[str, Any]) -> None:
        """Add a trial that trains."""
        search = self._space.search
        self._study.enqueue_trial(dict(settings))
        trial = self._study.ask({key: search[key] for key in settings if key in search})
        trial.set_user_attr(TRIAL_INDEX, number)
        self._trials[number] = trial

    def report(self, number: int, step: int, objective: float) -> None:
        """Add the objective at a rung; Optuna has none for a search with costs."""
        if not self._space.costs:
            self._trials[number].report(objective, step)

    def end(self, number: int, values: list[float] | None, state: TrialState) -> None:
        """End a trial.

        Args:
            number: index of the trial.
            values: the last objective and costs.
            state: COMPLETE at the last step, PRUNED before it, FAIL.
        """
        complete = state == TrialState.COMPLETE
        self._study.tell(self._trials[number], values if complete else None, state=state)
