"""Every run in MLflow: a search run, in it a run for each trial, in that one for its thresholds.

Only the driver writes. A trial's run is found again by its tag, so that a resumed search goes on
in the same runs.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from lartpc_ray.terminal.command import refuse_file_as_folder
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import short_names, shown_uri
from lartpc_ray.tracking.provenance import Source, source_tags
from lartpc_ray.tracking.store import (
    INVALID,
    MISSING,
    TRACKING,
    StoreClient,
    StoreError,
    chosen_store,
    is_database,
    local_store,
    make_store,
    refuse_uncopied,
    refuse_without_store,
    sqlite_file,
    with_tags,
)
from lartpc_ray.tracking.trial_run import (
    EARLIER_METRICS,
    TrialRun,
    logged_text,
    present_metrics,
)

NEWEST = ["attributes.start_time DESC"]
NAMES = "names"
"""Tag of a search: the short names of its trials' parameters, and their dotted paths."""
ERROR = "error"
"""Tag of a run that failed: why."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of an experiment: the browser shows its runs first."""
NOTE = "mlflow.note.content"
LONGEST_NOTE = 8000
"""Characters of a description: what MLflow keeps of a tag."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "9",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "1.0",
}
"""How long MLflow's client waits for a server that is away: six minutes, in steps of 0, 2, 4, ...
seconds, two minutes at most. A search relies on it, so it is not left to MLflow's defaults."""
for _name, _value in PATIENCE.items():  # MLflow reads them at each request
    os.environ.setdefault(_name, _value)


class Tracking:
    """The runs of one study.

    Args:
        folder: where `mlflow.db` and the artefacts are kept, unless a store is given.
        experiment: the study's name; None to read, until `open_experiment`.
        uri: an MLflow tracking URI; by default that of MLFLOW_TRACKING_URI, else of the local
            SQLite file.

    Attributes:
        uri: of the store, for MLflow; it may hold a password.
        shown: the URI without its password, for messages and files.
        experiment: the id of the experiment; empty to read only.
    """

    def __init__(self, folder: Path, experiment: str | None, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)
        self._folder = folder.resolve()
        self.uri = chosen_store(uri) or local_store(folder)
        self.shown = shown_uri(self.uri)
        self._own = self.uri == local_store(folder)
        self._reads, self.experiment = True, ""
        self._offset = time.time() - time.monotonic()
        self._logged: dict[tuple[str, str], dict[int, float]] = {}
        self._ended: dict[str, int] = {}
        if experiment:
            self.open_experiment(experiment)

    def open_experiment(self, name: str) -> None:
        """Find or make the experiment of new runs; before, the local store is not made."""
        self._reads = False
        self.experiment = self._find_experiment(name)
        self._not_before(self.client.search_runs([self.experiment], order_by=NEWEST, max_results=1))

    def study_of(self, run: str) -> str:
        """Return the name of the experiment of a run, given by its id."""
        experiment = self.client.get_run(run).info.experiment_id
        return str(self.client.get_experiment(experiment).name)

    @cached_property
    def client(self) -> MlflowClient:
        """Return MLflow's client behind `StoreClient`; create the local store at the first use.

        Raises:
            ValueError: if a command that only reads finds no local store.
            StoreError: if the store or the registry does not answer.
        """
        if self._own and self._reads:
            refuse_without_store(self._folder)
        if self._own:
            refuse_file_as_folder(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
        with phase("opening MLflow's store"):
            if path := sqlite_file(self.uri):
                make_store(path)
            client = StoreClient(self.uri)
            client.check()
        return cast("MlflowClient", client)

    @property
    def local(self) -> bool:
        """Return whether the store is a file, which `mlflow ui` shows."""
        return self.uri.startswith("sqlite")

    @property
    def folder(self) -> Path | None:
        """Return the folder of the store; None for a store that a tracking URI names."""
        return self._folder if self._own else None

    def set_experiment_tag(self, key: str, value: str) -> None:
        """Set a tag of the experiment."""
        self.client.set_experiment_tag(self.experiment, key, value)

    def _find_experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage != "active":
                known = os.environ.get(TRACKING) == self.uri  # it may hold a password
                store = "" if known else f"{TRACKING}={shlex.quote(self.shown)} "
                restore = f"{store}mlflow experiments restore -x {found.experiment_id}"
                raise StoreError(f"MLflow {self.shown}: {name} is deleted; restore it: {restore}")
            return str(found.experiment_id)
        own = self.local or is_database(self.uri)  # MLflow's default is the present folder
        local = (self._folder / "mlartifacts" / name).as_uri() if own else None
        try:
            made = self.client.create_experiment(name, artifact_location=local, tags=KIND)
            return str(made)
        except StoreError:  # another search has made it meanwhile
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def start(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """Return the id of the run with these tags; create the run if there is none.

        A run that starts again loses its error tag, which is of an earlier attempt.
        """
        tags = dict(tags) | ({"mlflow.parentRunId": parent} if parent else {})
        found = self.client.search_runs([self.experiment], with_tags(tags), max_results=1)
        if found:
            run = str(found[0].info.run_id)
            if found[0].info.status == "FINISHED" and found[0].info.end_time:
                self._ended[run] = int(found[0].info.end_time)
            self.client.update_run(run, status="RUNNING")
            if ERROR in found[0].data.tags:
                self.client.delete_tag(run, ERROR)
            self._not_before(found)
            return run
        created = self.client.create_run(
            self.experiment, tags=tags | source_tags(), run_name=name, start_time=self._now()
        )
        return str(created.info.run_id)

    def _now(self) -> int:
        """Return milliseconds since 1970 by a clock that does not jump with the machine's."""
        return int(1000 * (self._offset + time.monotonic()))

    def _not_before(self, runs: Sequence[Run]) -> None:
        """Set the clock past the times of runs: the machine's may have been set back since."""
        for run in runs:
            later = max(run.info.start_time, run.info.end_time or 0) + 1
            self._offset = max(self._offset, later / 1000 - time.monotonic())

    def trials(self, study: str, search: str | None = None) -> list[TrialRun]:
        """Return the trials of a search of a study by their indices; of the newest by default.

        Raises:
            ValueError: if the study has no search.
        """
        experiment = self.client.get_experiment_by_name(study)
        wanted = "tags.kind = 'search'" + (f" and attributes.run_id = '{search}'" if search else "")
        searches = experiment and self.client.search_runs(
            [experiment.experiment_id], wanted, order_by=NEWEST, max_results=1
        )
        if not experiment or not searches:
            raise ValueError(f"study {study!r}: no search of it in {self.shown}")
        self.experiment = str(experiment.experiment_id)
        parent = f"tags.`mlflow.parentRunId` = '{searches[0].info.run_id}'"
        dotted = json.loads(searches[0].data.tags.get(NAMES, "{}"))
        found = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], parent, page_token=token)
            found += [
                TrialRun(
                    id=str(run.info.run_id),
                    number=int(run.data.tags["trial"]),
                    parameters={
                        dotted.get(key, key): value for key, value in run.data.params.items()
                    },
                    numbers=present_metrics(run.data.metrics),
                    status=str(run.info.status),
                    error=str(run.data.tags.get(ERROR, "")),
                )
                for run in page
                if "trial" in run.data.tags
            ]
            token = page.token
            if not token:
                return sorted(found, key=lambda trial: trial.number)

    def rename(self, run: str, name: str) -> None:
        """Give a run another name."""
        self.client.update_run(run, name=name)

    def log_params(self, run: str, values: Mapping[str, Any]) -> None:
        """Log parameters by their short names, except parameters that the run already has."""
        logged = self.client.get_run(run).data.params
        names = short_names(values).items()
        new = [Param(name, logged_text(values[key])) for name, key in names if name not in logged]
        self.client.log_batch(run, params=new)

    def describe(self, run: str, text: str) -> None:
        """Set a run's description, in markdown."""
        self.set_tags(run, {NOTE: text[:LONGEST_NOTE]})

    def describe_study(self, text: str) -> None:
        """Set the experiment's description, in markdown."""
        self.set_experiment_tag(NOTE, text[:LONGEST_NOTE])

    def log_datasets(self, run: str, files: Mapping[str, Source]) -> None:
        """Log the files of the splits as the run's datasets, unless the run has datasets."""
        inputs = self.client.get_run(run).inputs
        if inputs and inputs.dataset_inputs:
            return
        datasets = [
            DatasetInput(
                Dataset(
                    name=f"{file.path.name} ({split})",
                    digest=file.digest[:12],
                    source_type="local",
                    source=json.dumps({"uri": file.path.as_uri()}),
                    profile=json.dumps({"bytes": file.size, "sha256": file.digest}),
                ),
                [InputTag("mlflow.data.context", split)],
            )
            for split, file in files.items()
        ]
        self.client.log_inputs(run, datasets)

    def log_metrics(self, run: str, values: Mapping[str, float], step: int) -> bool:
        """Log metrics at a training step, unless the run has them: a resumed search repeats them.

        Metrics of one call stand together in MLflow, so the first one decides.

        Returns:
            whether the metrics were new.
        """
        if not values:
            return False
        first = next(iter(values))
        if (run, first) not in self._logged:
            self._logged[run, first] = self.logged(run, first)
        logged = self._logged[run, first]
        if logged.get(step) == values[first]:
            return False
        now = self._now()
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        self.client.log_batch(run, metrics=metrics)
        self._ended.pop(run, None)
        logged[step] = values[first]
        return True

    def logged(self, run: str, name: str) -> dict[int, float]:
        """Return step to value of a logged metric; nothing for a folder of a run's files."""
        if as_folder(run):
            return {}
        earlier = [old for old, present in EARLIER_METRICS.items() if present == name]
        return {
            metric.step: metric.value
            for logged in (*earlier, name)
            for metric in self.client.get_metric_history(run, logged)
        }

    def set_tags(self, run: str, values: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self.client.log_batch(run, tags=[RunTag(key, value) for key, value in values.items()])

    def log_text(self, run: str, text: str, name: str) -> None:
        """Log a text as an artifact."""
        self.client.log_text(run, text, name)

    def log_artifact(self, run: str, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact."""
        self.client.log_artifact(run, str(path), folder)

    def log_artifacts(self, run: str, path: Path, name: str) -> None:
        """Log the files of a folder as artifacts under a name."""
        self.client.log_artifacts(run, str(path), name)

    def fetch(self, run: str, name: str, folder: Path) -> Path:
        """Return the path of a run's artifact, downloaded if need be.

        Args:
            run: its id, or a folder that holds its artifacts, which stay there.
            name: of the artifact.
            folder: for a downloaded file.

        Raises:
            ValueError: if there is no such run or artifact.
            StoreError: if the artifact cannot be copied.
        """
        if source := as_folder(run):
            if (source / name).is_file():
                return source / name
            raise ValueError(f"{source}: no {name} in this folder")
        try:
            return Path(self.client.download_artifacts(run, name, str(folder)))
        except (StoreError, FileNotFoundError) as error:
            if isinstance(error, StoreError) and error.code not in (MISSING, INVALID):
                raise
            refuse_uncopied(self.client, self.shown, run, name)
            raise ValueError(f"run {run}: no {name} in {self.shown}") from None

    def finish(self, run: str, status: str = "FINISHED") -> None:
        """Close a run: FINISHED, FAILED or KILLED.

        A run that had finished, and has no new metrics since, keeps the time of its end.
        """
        ended = self._ended.get(run) if status == "FINISHED" else None
        self.client.set_terminated(run, status, ended or self._now())

    def run_info(self, run: str) -> dict[str, str]:
        """Return the tags of a run, and its `name`, `status`, `started` and `hours`, as text.

        For a folder of a run's files return the name only.

        Raises:
            ValueError: if there is no such run.
        """
        if source := as_folder(run):
            return {"name": source.resolve().name}
        try:
            found = self.client.get_run(run)
        except StoreError as error:
            if error.code not in (MISSING, INVALID):
                raise
            raise ValueError(f"run {run}: not in {self.shown}") from None
        begin, end = found.info.start_time, found.info.end_time
        known = {str(key): str(value) for key, value in found.data.tags.items()}
        known |= {"name": str(found.info.run_name), "status": str(found.info.status)}
        known["started"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(begin / 1000))
        return known | ({"hours": f"{(end - begin) / 3.6e6:.2f}"} if end else {})

    def children(self, run: str, **tags: str) -> list[str]:
        """Return the runs with these tags that are nested in a run, the newest first."""
        if as_folder(run):
            return []
        experiment = self.client.get_run(run).info.experiment_id
        wanted = {"mlflow.parentRunId": run, **tags}
        runs = self.client.search_runs([experiment], with_tags(wanted), order_by=NEWEST)
        return [str(child.info.run_id) for child in runs]


def as_folder(run: str) -> Path | None:
    """Return the folder of a run's files if `run` is a folder and no id.

    Raises:
        ValueError: for the path of a folder that does not exist; no id has a slash.
    """
    if Path(run).is_dir():
        return Path(run)
    if "/" in run and not run.startswith("models:/"):
        raise ValueError(
            f"{Path(run).absolute()}: no such folder; give the id of a run, or the folder of one"
        )
    return None
