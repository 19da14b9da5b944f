"""Optuna's sampler under Ray Tune, replayed when a search resumes.

The sampler and successive halving write each decision into the study's folder before it takes
effect. A resumed search replays them: its trials are the written ones, each trial reports the
metrics of its checkpoint again, and each decision is the written one. So a driver may be killed at
any moment; Tune's own snapshots, which lag behind, are not needed.
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
"""The key of a trial's index, from 0, in its configuration."""
JOURNAL = "optuna.journal"
"""Optuna's study in the study's folder; `optuna-dashboard` shows it, also during a search."""
SAMPLED = "sampled.json"
"""The file in a trial's folder that holds its sampled settings."""


def trial_folder(study: Path, number: int) -> Path:
    """Return the folder of a trial's checkpoints."""
    return study / "trials" / str(number)


def sampled_settings(folder: Path, task: str) -> dict[str, Any]:
    """Return the sampled settings of a started trial by their present paths."""
    content = json.loads((folder / SAMPLED).read_text())
    return {present_path(path, task): value for path, value in content.items()}


class ReplayingOptunaSearch(OptunaSearch):
    """Sample with Optuna; give the trials that a study has started again with their settings.

    Each search starts a new journal: a resumed search reports everything again, and Optuna cannot
    read a journal in which a killed driver left half a line.

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
        """Return the next trial's settings and index, after writing them to its folder."""
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
