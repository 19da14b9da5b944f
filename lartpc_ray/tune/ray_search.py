"""The decisions of a search under Ray Tune: which trial starts, pauses, goes on, ends.

A searcher starts the new trials and a scheduler pauses and continues trials; both ask one
`WorkQueue`. A paused trial has no process: it goes on from the checkpoint in its folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from lartpc_ray.train.part import TrainingPart
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import Measurement
from lartpc_ray.tune.journal import TRIAL_INDEX, Journal
from lartpc_ray.tune.trial_scores import trial_scores

FAILURE = "failure"
"""The key of a result that holds the reason of a failure and no metrics."""
AFTER, UNTIL = "after", "until"
"""The keys of a trial's configuration that hold the steps of its `TrainingPart`."""


def split_trial_index(config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return a trial's index, and its sampled settings without the index."""
    others = (TRIAL_INDEX, AFTER, UNTIL)
    return int(config[TRIAL_INDEX]), {key: config[key] for key in config if key not in others}


def training_part(config: Mapping[str, Any]) -> TrainingPart:
    """Return the part of its training that a trial does now."""
    return TrainingPart(config[AFTER], config[UNTIL])


class WorkQueue:
    """The trials that train now, and the work that waits for a slot.

    In rounds, decisions are made when no trial trains, so the order in which trials report has no
    effect; else as soon as a slot is free.

    Args:
        decisions: of the search.
        journal: of the search.
        folder: of the study.
        slots: trials that are proposed together.
        at_once: trials that train at a time.
        rounds: whether the search decides in rounds.

    Attributes:
        ended: whether no work is left.
    """

    def __init__(
        self,
        decisions: Decisions,
        journal: Journal,
        folder: Path,
        *,
        slots: int,
        at_once: int,
        rounds: bool,
    ) -> None:
        self._decisions = decisions
        self._journal = journal
        self._folder = folder
        self._slots = slots
        self._at_once = at_once
        self._rounds = rounds
        self._waiting: deque[tuple[int, int]] = deque()
        self._training: set[int] = set()
        self._started: set[int] = set()
        self._reported: dict[int, tuple[int, Measurement]] = {}
        self.ended = False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Pickle as nothing: a resumed search does not read Tune's snapshots."""
        return object, ()

    def next_trial(self) -> tuple[int, bool] | None:
        """Return the trial whose turn it is, and whether it is new; None while all slots are used.

        Without work that waits, decide.
        """
        if self.ended:
            return None
        free = self._slots - len(self._training)
        if not self._waiting and free > 0 and not (self._rounds and self._training):
            self._waiting.extend(self._decisions.next(free))
            self.ended = not self._waiting and not self._training
        if not self._waiting or len(self._training) >= self._at_once:
            return None
        number = self._waiting[0][0]
        return number, number not in self._started

    def begin(self) -> dict[str, Any]:
        """Take the trial whose turn it is; return its configuration."""
        number, until = self._waiting.popleft()
        settings = self._decisions.history.trials[number].settings
        if number not in self._started:
            self._journal.start(number, settings)
        self._started.add(number)
        self._training.add(number)
        after, _ = self._reported.get(number, (0, None))
        end = None if until == self._decisions.scheduler.rungs[-1] else until
        return {**settings, TRIAL_INDEX: number, AFTER: after, UNTIL: end}

    def report(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Take the metrics of a validation; return whether the trial pauses."""
        number, _ = split_trial_index(config)
        step = int(result["step"])
        scores = trial_scores(self._folder, number, step)
        costs = tuple(float(result[name]) for name in self._costs)
        measurement = Measurement(float(result["objective"]), scores, costs)
        if step > self._reported.get(number, (0, None))[0]:
            self._reported[number] = step, measurement
            self._journal.report(number, step, measurement.objective)
        until = config[UNTIL]
        trial = self._decisions.history.trials[number]
        if step < (until or trial.until):
            return False
        if trial.running and until in (None, trial.until):
            self._decisions.record(number, trial.until, measurement)
        if until is None:
            return False
        self._training.discard(number)
        return True

    @property
    def _costs(self) -> tuple[str, ...]:
        return self._decisions.sampler.space.costs

    def end(self, number: int, failed: bool) -> None:
        """End a trial: it has failed, trained to its end, or waited at a rung to the end."""
        trial = self._decisions.history.trials[number]
        if failed:
            self._decisions.fail(number)
        elif trial.running and number in self._reported:  # it has fewer steps than others
            self._decisions.record(number, trial.until, self._reported[number][1])
        self._training.discard(number)
        complete = trial.until == self._decisions.scheduler.rungs[-1] and bool(trial.results)
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        values = [trial.last.objective, *trial.last.costs] if complete else None
        self._journal.end(number, values, TrialState.FAIL if failed else state)

    def skip(self) -> None:
        """Give a trial that has ended by itself its last result at the next rung, too."""
        number, until = self._waiting.popleft()
        self._decisions.record(number, until, self._reported[number][1])


class NewTrials(Searcher):
    """Start the new trials of a search.

    Args:
        queue: of the search.
    """

    def __init__(self, queue: WorkQueue) -> None:
        super().__init__(metric="objective", mode="max")
        self._queue = queue
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the configuration of the next new trial; None while none may start."""
        turn = self._queue.next_trial()
        if self._queue.ended:
            return str(Searcher.FINISHED)
        if turn is None or not turn[1]:
            return None
        self._numbers[trial_id] = turn[0]
        return self._queue.begin()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End a trial."""
        self._queue.end(self._numbers[trial_id], error)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: a resumed search does not read Tune's snapshots."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""


class PausesAtRungs(FIFOScheduler):
    """Pause trials at their rungs, and continue them.

    Args:
        queue: of the search.
    """

    def __init__(self, queue: WorkQueue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = queue
        self._trials: dict[int, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remember a trial by its index."""
        self._trials[split_trial_index(trial.config)[0]] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return PAUSE at the rung of a trial."""
        if FAILURE in result:
            trial.max_failures = 0  # the trial caused it: Tune need not try again
            return str(TrialScheduler.CONTINUE)
        paused = self._queue.report(trial.config, result)
        return str(TrialScheduler.PAUSE if paused else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the paused trial whose turn it is; at the end stop all that are paused."""
        turn = self._queue.next_trial()
        if self._queue.ended:
            for trial in tune_controller.get_trials():
                if trial.status == Trial.PAUSED:
                    tune_controller.stop_trial(trial)
        if turn and not turn[1]:
            trial = self._trials[turn[0]]
            if trial.is_finished():
                self._queue.skip()
            if trial.status == Trial.PAUSED:
                trial.set_config(self._queue.begin())
                return trial
        pending = (one for one in tune_controller.get_trials() if one.status == Trial.PENDING)
        return next(pending, None)
