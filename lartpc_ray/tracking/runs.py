"""Every run in MLflow: a search run, in it a run for each trial, in that one for its thresholds.

Only the driver writes. A trial's run is found again by its tag, so that a resumed search goes on
in the same runs.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from lartpc_ray.atomic import replace_file
from lartpc_ray.settings import with_present_names
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.provenance import Source

LONGEST = 500
"""Characters of a parameter's value: what the compare view can show."""
EARLIER_METRICS = {"goal": "objective"}
"""Earlier name to present name of a metric, for runs of earlier versions."""
NEWEST = ["attributes.start_time DESC"]
STORE = "mlflow.db"
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


@dataclass(frozen=True)
class TrialRun:
    """A trial as its run tells it: the last value of each number."""

    id: str
    number: int
    parameters: dict[str, str]
    numbers: dict[str, float]
    status: str
    error: str = ""


class Tracking:
    """The runs of one study.

    Args:
        folder: where `mlflow.db` and the artefacts are kept, unless a store is given.
        experiment: the study's name; None to read only.
        uri: an MLflow tracking URI; the local SQLite file by default.

    Attributes:
        experiment: its id; empty to read only.
    """

    def __init__(self, folder: Path, experiment: str | None, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)
        self._folder = folder.resolve()
        self.uri = uri or f"sqlite:///{self._folder / STORE}"
        self._own = not uri
        self._offset = time.time() - time.monotonic()
        self._told: dict[tuple[str, str], dict[int, float]] = {}
        self.experiment = self._find_experiment(experiment) if experiment else ""
        if experiment:
            self._not_before(
                self.client.search_runs([self.experiment], order_by=NEWEST, max_results=1)
            )

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's; a store of one's own is made when it is first needed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._own:
            _make_store(self._folder / STORE)
        return MlflowClient(tracking_uri=self.uri)

    def _find_experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        sqlite = self.uri.startswith("sqlite")
        local = (self._folder / "mlartifacts" / name).as_uri() if sqlite else None
        try:
            made = self.client.create_experiment(name, artifact_location=local, tags=KIND)
            return str(made)
        except MlflowException:  # another search has made it meanwhile
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def start(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """The run with these tags: the one there is, or a new one.

        One that is begun again has no error any more: why it failed is of an earlier attempt.

        Returns:
            the id of the run.
        """
        tags = dict(tags) | ({"mlflow.parentRunId": parent} if parent else {})
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment], wanted, max_results=1)
        if found:
            run = str(found[0].info.run_id)
            self.client.update_run(run, status="RUNNING")
            if ERROR in found[0].data.tags:
                self.client.delete_tag(run, ERROR)
            self._not_before(found)
            return run
        created = self.client.create_run(
            self.experiment, tags=tags, run_name=name, start_time=self._now()
        )
        return str(created.info.run_id)

    def _now(self) -> int:
        """Milliseconds since 1970, by a clock that does not jump with the machine's."""
        return int(1000 * (self._offset + time.monotonic()))

    def _not_before(self, runs: Sequence[Run]) -> None:
        """Set the clock forward, if need be: the machine's may have been set back since."""
        for run in runs:
            later = max(run.info.start_time, run.info.end_time or 0) + 1
            self._offset = max(self._offset, later / 1000 - time.monotonic())

    def trials(self, study: str, search: str | None = None) -> list[TrialRun]:
        """The trials of a search of a study, in their order; of the newest if none is named.

        Raises:
            ValueError: where there is no search of that study.
        """
        experiment = self.client.get_experiment_by_name(study)
        wanted = "tags.kind = 'search'" + (f" and attributes.run_id = '{search}'" if search else "")
        searches = experiment and self.client.search_runs(
            [experiment.experiment_id], wanted, order_by=NEWEST, max_results=1
        )
        if not experiment or not searches:
            raise ValueError(f"study {study!r}: no search of it in {self.uri}")
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
                    numbers=with_present_names(run.data.metrics, EARLIER_METRICS),
                    status=str(run.info.status),
                    error=str(run.data.tags.get(ERROR, "")),
                )
                for run in page
                if "trial" in run.data.tags
            ]
            token = page.token
            if not token:
                return sorted(found, key=lambda trial: trial.number)

    def log_params(self, run: str, values: Mapping[str, Any]) -> None:
        """Log parameters by their short names; those already there are left alone."""
        there = self.client.get_run(run).data.params
        names = short_names(values).items()
        new = [Param(name, _short(values[key])) for name, key in names if name not in there]
        self.client.log_batch(run, params=new)

    def describe(self, run: str, text: str) -> None:
        """A run's description, in markdown."""
        self.set_tags(run, {NOTE: text[:LONGEST_NOTE]})

    def describe_study(self, text: str) -> None:
        """The experiment's description, in markdown."""
        self.client.set_experiment_tag(self.experiment, NOTE, text[:LONGEST_NOTE])

    def log_datasets(self, run: str, found: Mapping[str, Source]) -> None:
        """Log the files of the splits as the run's datasets; once, however often it is said."""
        there = self.client.get_run(run).inputs
        if there and there.dataset_inputs:
            return
        made = [
            DatasetInput(
                Dataset(
                    name=f"{one.path.name} ({split})",
                    digest=one.digest[:12],
                    source_type="local",
                    source=json.dumps({"uri": one.path.as_uri()}),
                    profile=json.dumps({"bytes": one.size, "sha256": one.digest}),
                ),
                [InputTag("mlflow.data.context", split)],
            )
            for split, one in found.items()
        ]
        self.client.log_inputs(run, made)

    def log_metrics(self, run: str, values: Mapping[str, float], step: int) -> bool:
        """Log numbers at a training step, once: a resumed search tells again what it knows.

        Numbers told together are kept together, so the first says whether they are there.

        Returns:
            whether they were new.
        """
        if not values:
            return False
        first = next(iter(values))
        if (run, first) not in self._told:
            self._told[run, first] = self.logged(run, first)
        told = self._told[run, first]
        if told.get(step) == values[first]:
            return False
        now = self._now()
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        self.client.log_batch(run, metrics=metrics)
        told[step] = values[first]
        return True

    def logged(self, run: str, name: str) -> dict[int, float]:
        """Step to value of a number that was logged; of a folder of a run's files, none."""
        if as_folder(run):
            return {}
        earlier = [old for old, present in EARLIER_METRICS.items() if present == name]
        return {
            one.step: one.value
            for logged in (*earlier, name)
            for one in self.client.get_metric_history(run, logged)
        }

    def set_tags(self, run: str, values: Mapping[str, str]) -> None:
        """Set tags."""
        self.client.log_batch(run, tags=[RunTag(key, value) for key, value in values.items()])

    def log_text(self, run: str, text: str, name: str) -> None:
        """Keep a text as an artefact."""
        self.client.log_text(run, text, name)

    def log_artifact(self, run: str, path: Path, folder: str | None = None) -> None:
        """Keep a file as an artefact."""
        self.client.log_artifact(run, str(path), folder)

    def log_artifacts(self, run: str, path: Path, name: str) -> None:
        """Keep what is in a folder as artefacts under a name."""
        self.client.log_artifacts(run, str(path), name)

    def fetch(self, run: str, name: str, folder: Path) -> Path:
        """A run's artefact as a local file.

        Args:
            run: its id, or a folder that holds the artefacts of one, which stay where they are.
            name: of the artefact.
            folder: where it is put.

        Raises:
            ValueError: where there is no such run or artefact.
        """
        if kept := as_folder(run):
            if (kept / name).is_file():
                return kept / name
            raise ValueError(f"{kept}: no {name} in this folder")
        try:
            return Path(self.client.download_artifacts(run, name, str(folder)))
        except (MlflowException, OSError):
            raise ValueError(f"run {run}: no {name} in {self.uri}") from None

    def finish(self, run: str, status: str = "FINISHED") -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run, status, self._now())

    def run_info(self, run: str) -> dict[str, str]:
        """The tags of a run, and its `name`, `status`, `started` and `hours`, as text.

        Of a folder of a run's files its name only.

        Raises:
            ValueError: where there is no such run.
        """
        if kept := as_folder(run):
            return {"name": kept.resolve().name}
        try:
            found = self.client.get_run(run)
        except MlflowException:
            raise ValueError(f"run {run}: not in {self.uri}") from None
        begin, end = found.info.start_time, found.info.end_time
        known = {str(key): str(value) for key, value in found.data.tags.items()}
        known |= {"name": str(found.info.run_name), "status": str(found.info.status)}
        known["started"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(begin / 1000))
        return known | ({"hours": f"{(end - begin) / 3.6e6:.2f}"} if end else {})

    def children(self, run: str, **tags: str) -> list[str]:
        """The runs nested in a run that have these tags, the newest first; in a folder none."""
        if as_folder(run):
            return []
        experiment = self.client.get_run(run).info.experiment_id
        wanted = {"mlflow.parentRunId": run, **tags}
        text = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        newest = ["attributes.start_time DESC"]
        return [
            str(found.info.run_id)
            for found in self.client.search_runs([experiment], text, order_by=newest)
        ]


def as_folder(run: str) -> Path | None:
    """The folder of a run's files, where a run is given so and not by its id."""
    return Path(run) if Path(run).is_dir() else None


def _make_store(path: Path) -> None:
    """Make MLflow's database whole or not at all.

    MLflow refuses for ever what a driver that was killed meanwhile has left of one.
    """
    if path.is_file():
        return
    with replace_file(path, keep_existing=True) as part:  # another search may be first
        MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments(max_results=1)


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:LONGEST]
