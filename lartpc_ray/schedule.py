"""Which trial comes next, and which goes on: Optuna's sampler and successive halving under Tune.

Both write what they decide into the study's folder before anything follows from it. A search that
is resumed is the same search again: its trials are those written down, each tells once more what
its checkpoint knows, and each decision is the one that was taken. So a driver may be killed at any
moment, and Tune's own snapshots, which lag behind, are not needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from lartpc_ray.job import write_json

NUMBER = "number"
"""A trial's number, from 0, among what Tune hands to it."""
JOURNAL = "optuna.journal"
"""Optuna's study in the folder of ours; `optuna-dashboard` shows it, also while it grows."""
SAMPLED = "sampled.json"
"""A trial's settings, in its folder."""
FAILURE = "failure"
"""A result that is none: the reason why the trial fails."""


def trial_folder(study: Path, number: int) -> Path:
    """Where a trial's checkpoints are."""
    return study / "trials" / str(number)


class Sampler(OptunaSearch):
    """Optuna's sampler; the trials that a study has already started come again as they were.

    Its journal begins anew with each search, for a resumed one tells everything again; a driver
    that was killed may have left half a line, which Optuna would never read.

    Args:
        study: folder of the study.
        options: of `OptunaSearch`.
    """

    def __init__(self, study: Path, **options: Any) -> None:
        study.mkdir(parents=True, exist_ok=True)
        for name in (JOURNAL, f"{JOURNAL}.lock"):
            (study / name).unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(study / JOURNAL)))
        super().__init__(study_name=study.name, storage=storage, **options)
        self._folder = study
        self._count = 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial's settings and its number, in writing before it starts."""
        path = trial_folder(self._folder, self._count) / SAMPLED
        settings = super().suggest(trial_id) or {}
        if path.is_file():
            started = json.loads(path.read_text())
            if settings != started:
                assert self._ot_study is not None
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.FAIL)
                self._ot_study.enqueue_trial(started)
                settings = super().suggest(trial_id) or {}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)
        number, self._count = self._count, self._count + 1
        self._ot_trials[trial_id].set_user_attr(NUMBER, number)
        return {**settings, NUMBER: number}


class Halving(FIFOScheduler):
    """Asynchronous successive halving on training steps (Li et al. 2020, ASHA).

    At the rungs `first`, `first` · r, `first` · r², … a trial goes on only if its goal is among the
    best 1/r of those that reached the rung. With `batch` given, a trial is compared only with
    trials of earlier batches, all of which are done: who of a batch is faster then changes nothing,
    and the same seed gives the same study.

    Args:
        first: steps of the first rung.
        reduction: r.
        batch: trials sampled together; None compares with whoever came first (plain ASHA).
        file: keeps what was decided, for a search that is resumed.
    """

    def __init__(self, first: int, reduction: float, batch: int | None, file: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._first = first
        self._reduction = reduction
        self._batch = batch
        self._file = file
        self._rungs: dict[str, dict[str, tuple[float, bool]]] = {}
        if file.is_file():
            self._rungs = json.loads(file.read_text())

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if FAILURE in result:
            trial.max_failures = 0  # its own fault: Tune need not try again
            return str(TrialScheduler.CONTINUE)
        number = int(trial.config[NUMBER])
        return str(self.decide(number, int(result["step"]), float(result["goal"])))

    def decide(self, number: int, step: int, goal: float) -> str:
        """CONTINUE or STOP for trial `number`, whose goal after `step` steps is `goal`."""
        rung = self._first
        passed = None
        while rung <= step:
            passed = rung
            rung = max(rung + 1, int(rung * self._reduction))
        if passed is None:
            return str(TrialScheduler.CONTINUE)
        recorded = self._rungs.setdefault(str(passed), {})
        if str(number) not in recorded:
            recorded[str(number)] = goal, self._stays(recorded, number, goal)
            write_json(self._file, self._rungs)
        stays = recorded[str(number)][1]
        return str(TrialScheduler.CONTINUE if stays else TrialScheduler.STOP)

    def _stays(self, recorded: Mapping[str, tuple[float, bool]], number: int, goal: float) -> bool:
        rivals = [one for other, (one, _) in recorded.items() if self._before(int(other), number)]
        better = sum(value > goal for value in rivals)
        return not rivals or better < (len(rivals) + 1) / self._reduction

    def _before(self, other: int, number: int) -> bool:
        return self._batch is None or other // self._batch < number // self._batch
