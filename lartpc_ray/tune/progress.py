"""Reports of a running search: a run per trial in MLflow, a table on the screen."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import AUTO_RESULT_KEYS

from lartpc_ray.runtime import live_metrics as live
from lartpc_ray.runtime.resources import Machine
from lartpc_ray.runtime.signals import CheckpointOnSignal
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.describe import describe_trial, metric_names
from lartpc_ray.tracking.provenance import sources
from lartpc_ray.tracking.runs import ERROR, Tracking
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.description import Description
from lartpc_ray.tune.ray_search import FAILURE, split_trial_index, training_part
from lartpc_ray.tune.sampled import trial_folder
from lartpc_ray.tune.trial_table import trial_table


class Progress(tune.Callback):
    """Report each trial to its MLflow run and to a table on the screen.

    Args:
        folder: of the study; its name is the study's.
        space: that is searched.
        tracking: the store of the runs.
        parent: the run of the search.

    Attributes:
        running: indices of the trials that train.
        paused: indices of the trials that wait at a rung, without a process.
        runs: trial index to MLflow run.
    """

    def __init__(self, folder: Path, space: Space, tracking: Tracking, parent: str) -> None:
        self._folder = folder
        self._space = space
        self._tracking = tracking
        self._parent = parent
        self.runs: dict[int, str] = {}
        self._sources = sources(space.first_trial().data.splits, folder.parent)
        self._machine = Machine(folder)
        self.running: set[int] = set()
        self.paused: set[int] = set()
        self._states: dict[int, str] = {}
        self._objectives: dict[int, float] = {}
        self._metric = str(space.first_trial().task.metric)
        self._screen = trial_table(folder, space)
        self._description = Description(tracking, parent, space.trials)

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Pickle as an empty callback.

        Tune's snapshots hold the callbacks; a screen and a store cannot be pickled, and a resumed
        search does not read the snapshots.
        """
        return tune.Callback, ()

    def setup(self, *_: Any, **__: Any) -> None:
        """Take the signals from Tune, which took them at its start."""
        stop = signal.getsignal(signal.SIGUSR1)
        assert callable(stop)
        CheckpointOnSignal(self._folders, stop).install()
        self._screen.start()

    def _folders(self) -> list[Path]:
        running = sorted(self.running)  # a thread asks, while trials start and end
        return [trial_folder(self._folder, number) for number in running]

    def run(self, number: int) -> str:
        """Return the MLflow run of a trial; the same run after a resume."""
        tags = {"study": self._folder.name, "trial": str(number)}
        return self._tracking.start(f"trial {number}", tags, self._parent)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, settings = split_trial_index(trial.config)
        self._describe(number, settings)
        self.running.add(number)
        self.paused.discard(number)
        self._tell(number, "running")
        self._screen.show(number, "running", settings=settings)

    def _describe(self, number: int, settings: dict[str, Any]) -> None:
        """Log what a trial trains, once."""
        if number not in self.runs:
            run = self.run(number)
            started = self._space.trial(settings)
            shown = self._space.key_settings(started)
            describe_trial(self._tracking, run, started, self._sources, shown)
            self.runs[number] = run

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        if FAILURE in result:
            return
        number, _settings = split_trial_index(trial.config)
        step = int(result["step"])
        kept = {"objective": float(result["objective"])} | {
            key: float(value)
            for key, value in result.items()
            if isinstance(value, float) and key not in AUTO_RESULT_KEYS
        }
        now = {"step": step, "objective": result["objective"], "loss": result["loss"]}
        kept = metric_names(kept | self._machine.read(), self._metric)
        if not self._tracking.log_metrics(self.runs[number], kept, step):
            now["before"] = step  # repeated after a resume
        self._objectives[number] = result["objective"]
        self._description.add_result(number, step, result["objective"])
        live.record(
            "lartpc_best_objective", max(self._objectives.values()), study=self._folder.name
        )
        if training_part(trial.config).ends_with([{"step": step}]):
            self.running.discard(number)
            self.paused.add(number)
            self._tell(number, "paused")
        self._screen.show(number, "paused" if number in self.paused else "running", **now)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, settings = split_trial_index(trial.config)
        early = self._screen.step(number) < self._space.trial(settings).optimizer.steps
        self._tell(number, "stopped" if early else "finished")
        self._end(number, "FINISHED", "stopped early" if early else "done")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, _settings = split_trial_index(trial.config)
        self._screen.show(number, "lost its process; continues from its checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, settings = split_trial_index(trial.config)
        self._describe(number, settings)  # a process that never started has told no start
        why = failure_reason(trial.error_file)
        self._tracking.set_tags(self.runs[number], {ERROR: why})
        self._tell(number, "failed")
        self._end(number, "FAILED", f"failed: {why}")

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        self._description.write()

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        self._description.write(now=True)
        self._screen.stop()

    def interrupted(self) -> None:
        """Mark the runs of unfinished trials as killed; a resumed search opens them again."""
        unfinished = sorted(self.running | self.paused)
        for number in unfinished:
            self._description.change_state(number, "interrupted")
        self._description.write(now=True)
        for run in (*(self.runs[number] for number in unfinished), self._parent):
            self._tracking.finish(run, "KILLED")

    def _tell(self, number: int, state: str) -> None:
        """Record the number of trials in each state after a trial has changed its state."""
        self._states[number] = state
        self._description.change_state(number, state)
        count = Counter(self._states.values())
        for one in live.STATES:
            live.record("lartpc_trials", count[one], study=self._folder.name, state=one)

    def _end(self, number: int, status: str, word: str) -> None:
        self._tracking.finish(self.runs[number], status)
        if number in self._objectives:
            name = f"trial {number} · {self._objectives[number]:.3f}"
            self._tracking.rename(self.runs[number], name)
        self.running.discard(number)
        self.paused.discard(number)
        self._screen.show(number, word, ended=True)


def failure_reason(error_file: str | None) -> str:
    """Return the last line of the error that Tune wrote for a trial."""
    if not error_file or not Path(error_file).is_file():
        return "unknown"
    return error_text(Path(error_file).read_text())
