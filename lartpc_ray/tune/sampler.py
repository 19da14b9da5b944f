"""Which trial comes next, and which goes on: Optuna's sampler and successive halving under Tune.

Both write what they decide into the study's folder before anything follows from it. A search that
is resumed is the same search again: its trials are those written down, each tells once more what
its checkpoint knows, and each decision is the one that was taken. So a driver may be killed at any
moment, and Tune's own snapshots, which lag behind, are not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from lartpc_ray.atomic import write_json
from lartpc_ray.trials.paths import present_path

TRIAL_INDEX = "number"
"""A trial's number, from 0, among what Tune hands to it."""
JOURNAL = "optuna.journal"
"""Optuna's study in the folder of ours; `optuna-dashboard` shows it, also while it grows."""
SAMPLED = "sampled.json"
"""A trial's settings, in its folder."""


def trial_folder(study: Path, number: int) -> Path:
    """Where a trial's checkpoints are."""
    return study / "trials" / str(number)


def sampled_settings(folder: Path, task: str) -> dict[str, Any]:
    """The sampled settings of a trial that was started, by their present paths."""
    content = json.loads((folder / SAMPLED).read_text())
    return {present_path(path, task): value for path, value in content.items()}


class ReplayingOptunaSearch(OptunaSearch):
    """Optuna's sampler; the trials that a study has already started come again as they were.

    Its journal begins anew with each search, for a resumed one tells everything again; a driver
    that was killed may have left half a line, which Optuna would never read.

    Args:
        study: folder of the study.
        task: of its trials.
        options: of `OptunaSearch`.
    """

    def __init__(self, study: Path, *, task: str, **options: Any) -> None:
        study.mkdir(parents=True, exist_ok=True)
        for name in (JOURNAL, f"{JOURNAL}.lock"):
            (study / name).unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(study / JOURNAL)))
        super().__init__(study_name=study.name, storage=storage, **options)
        self._folder = study
        self._count = 0
        self._task = task

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial's settings and its number, in writing before it starts."""
        path = trial_folder(self._folder, self._count) / SAMPLED
        settings = super().suggest(trial_id) or {}
        if path.is_file():
            started = sampled_settings(path.parent, self._task)
            if settings != started:
                assert self._ot_study is not None
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.FAIL)
                self._ot_study.enqueue_trial(started)
                settings = super().suggest(trial_id) or {}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)
        number, self._count = self._count, self._count + 1
        self._ot_trials[trial_id].set_user_attr(TRIAL_INDEX, number)
        return {**settings, TRIAL_INDEX: number}
