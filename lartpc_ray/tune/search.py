"""Search a space in this process: Ray Tune and Optuna run it, MLflow logs each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.trained_model import TrainedModel, load_model
from lartpc_ray.report.record import write_page
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import TrialRow, trial_rows
from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import resumable, resume_command
from lartpc_ray.runtime.signals import restore_interrupts
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.train.resources import refuse_absent
from lartpc_ray.train.speed import Speed
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.size import with_minutes
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.tune.from_study import with_earlier
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.result import finish
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.timed import timed_search


@dataclass(frozen=True, eq=False)
class FinishedStudy:
    """The result of a search.

    Attributes:
        study: folder, space and MLflow store of the search.
        text: the table that the command `tune` prints.
        best_run: MLflow run of the best trial.
        result: metrics of the best trial on the test split.
    """

    study: Study
    text: str
    best_run: str
    result: EvaluationResult

    @cached_property
    def _rows(self) -> list[TrialRow]:
        tracking = self.study.tracking
        search = tracking.run_info(self.best_run)["mlflow.parentRunId"]
        return trial_rows(tracking.trials(self.study.space.name, search))

    @property
    def trials(self) -> pd.DataFrame:
        """Return a table of the trials, highest objective first.

        Its columns are trial, objective, run, status and error, then each cost and each setting
        in which the trials differ.
        """
        rows = [asdict(row) for row in self._rows]
        return pd.DataFrame([row | row.pop("costs") | row.pop("settings") for row in rows])

    @cached_property
    def best(self) -> TrainedModel:
        """Return the network of the best trial with its tuned thresholds."""
        tracking = self.study.tracking
        return load_model(self.best_run, runs=self.study.folder.parent, tracking_uri=tracking.uri)

    def report(self, path: str | Path) -> None:
        """Write the report page of the search, one HTML file."""
        subject = Subject(
            self.study.space.name, self.study.tracking, self.best_run, self._rows, self.result
        )
        write_page(Path(path), subject)


def search(
    space: str | Path | Space,
    *,
    budget: str = "laptop",
    data: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    concurrent: int | None = None,
    minutes: float | None = None,
    earlier: str | Path | None = None,
    runs: str | Path = "runs",
    tracking_uri: str | None = None,
) -> FinishedStudy:
    """Search a space for the best network and thresholds, as `lartpc-ray tune` does.

    Args:
        space: a name in search_spaces/, a path to a YAML file, or a `Space`; a `Space` has its
            budget and settings already.
        budget: a budget of the file: `smoke`, `laptop`, `overnight`, `gpu` or `cluster`.
        data: folder with train, tune and test files of events, or one file.
        settings: path to value, as `{"optimizer.steps": 100}`; fixed for all trials.
        concurrent: trials at a time; by default as many as fit.
        minutes: time of the search, in place of the budget's: the number of trials and their
            steps follow from the measured speed.
        earlier: folder of an earlier search of this space, or its name in `runs`; its best settings
            are tried first.
        runs: folder for results and the MLflow store.
        tracking_uri: another MLflow store.

    Returns:
        the study: `trials` (a pandas table), `best` (a `TrainedModel`), `report(path)`.

    Raises:
        ValueError: for an unknown space, budget or setting, for events that cannot be read, and for
            cores or GPUs that are absent.
        RuntimeError: if Ray does not start or all trials fail.
        KeyboardInterrupt: after Ctrl-C; `lartpc-ray tune NAME --resume FOLDER` continues.

    Example:
        study = search("clustering", budget="smoke", data="my_events")
        study.trials[["trial", "objective"]]
    """
    check_concurrent(concurrent, "concurrent")
    if not isinstance(space, Space):
        overrides = dict(settings or {})
        overrides |= {"data.splits.path": str(Path(data).resolve())} if data else {}
        space = read_space(find_space(str(space)), budget, overrides)
    elif data or settings:
        raise ValueError("a Space has its data and settings already; give them to Space")
    space = with_minutes(space, minutes)
    read_splits(space.first_trial())
    source = None if earlier is None else str(earlier)
    space, _ = sized(space, concurrent, source, Path(runs))
    trial = space.first_trial()
    refuse_absent(trial.resources, "GPU", "CPU")
    kept = {"minutes": space.budget.minutes} if space.budget.minutes else {}
    study = Study.create(Path(runs), space, tracking_uri, kept)
    again = resume_command("tune", space.name, study.folder)
    dashboard = trial.resources.workers > 1
    with study.owned(), resumable(again), ray_session(dashboard=dashboard):
        results, progress = run_trials(study, concurrent)
        restore_interrupts()
        text, content = finish(study, results, progress)
    names = [field.name for field in fields(EvaluationResult)]
    result = EvaluationResult.read({name: content[name] for name in names})
    return FinishedStudy(study, text, content["best"]["run"], result)


def sized(
    space: Space, concurrent: int | None, earlier: str | None, runs: Path
) -> tuple[Space, Speed | None]:
    """Return a space of the size that fits into its minutes, if any, and the measured speed.

    Its starts end with the best settings of an earlier study, if one is named.
    """
    speed = None
    if timed := timed_search(space, concurrent):
        log.info(timed.line())
        space, speed = timed.space, timed.speed
    if earlier is not None:
        with phase("reading the earlier study"):
            space = with_earlier(space, earlier, runs)
    return space, speed


def check_concurrent(concurrent: int | None, name: str) -> None:
    """Check the number of trials at a time.

    Raises:
        ValueError: for less than one.
    """
    if concurrent is not None and concurrent < 1:
        raise ValueError(f"{name} {concurrent}: at least 1")


def run_trials(study: Study, concurrent: int | None) -> tuple[tune.ResultGrid, Progress]:
    """Run the trials of a study that have not ended.

    Args:
        study: with its folder locked, while Ray runs.
        concurrent: trials at a time.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    results, progress = study.search(concurrent)
    if progress.running or progress.paused or len(results) < study.space.trials:
        progress.interrupted()
        raise KeyboardInterrupt
    return results, progress
