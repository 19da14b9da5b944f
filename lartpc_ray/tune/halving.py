"""Asynchronous successive halving, replayed when a search resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from lartpc_ray.atomic import write_json
from lartpc_ray.tune.sampler import TRIAL_INDEX

FAILURE = "failure"
"""The key of a result that holds the reason of a failure and no metrics."""


class SuccessiveHalving(FIFOScheduler):
    """Asynchronous successive halving on training steps (Li et al. 2020, ASHA).

    At the rungs `first`, `first` · r, `first` · r², … a trial continues only if its objective is
    among the best 1/r of the trials that reached the rung. With `batch`, a trial is compared only
    with trials of earlier batches, which have all ended: the order of reports within a batch then
    has no effect, and the same seed gives the same study.

    Args:
        first: steps of the first rung.
        reduction: r.
        batch: trials sampled together; None compares with all earlier reports (plain ASHA).
        file: holds the decisions, for a resumed search.
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
            trial.max_failures = 0  # the trial caused it: Tune need not try again
            return str(TrialScheduler.CONTINUE)
        number = int(trial.config[TRIAL_INDEX])
        return str(self.decide(number, int(result["step"]), float(result["objective"])))

    def decide(self, number: int, step: int, objective: float) -> str:
        """Return CONTINUE or STOP for trial `number` with its objective after `step` steps."""
        rung = self._first
        passed = None
        while rung <= step:
            passed = rung
            rung = max(rung + 1, int(rung * self._reduction))
        if passed is None:
            return str(TrialScheduler.CONTINUE)
        recorded = self._rungs.setdefault(str(passed), {})
        if str(number) not in recorded:
            recorded[str(number)] = objective, self._stays(recorded, number, objective)
            write_json(self._file, self._rungs)
        stays = recorded[str(number)][1]
        return str(TrialScheduler.CONTINUE if stays else TrialScheduler.STOP)

    def _stays(
        self, recorded: Mapping[str, tuple[float, bool]], number: int, objective: float
    ) -> bool:
        rivals = [
            reached for other, (reached, _) in recorded.items() if self._before(int(other), number)
        ]
        better = sum(value > objective for value in rivals)
        return not rivals or better < (len(rivals) + 1) / self._reduction

    def _before(self, other: int, number: int) -> bool:
        return self._batch is None or other // self._batch < number // self._batch
