"""A trained network with its thresholds, for use in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import pandas as pd

from lartpc_ray.data.event import Event
from lartpc_ray.predict.inference import reconstruct_events
from lartpc_ray.predict.registry import SCHEME, PyfuncPredictor, fetch_registered
from lartpc_ray.predict.thresholds_file import fetch_thresholds, read_thresholds
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE, Checkpoint


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network with its thresholds.

    Attributes:
        state: the checkpoint; `state.trial` holds all settings.
        thresholds: class to name to value; empty for a task without thresholds.
        shape: voxels along each axis of the image, for tables, which do not hold it.
    """

    state: Checkpoint
    thresholds: Thresholds
    shape: tuple[int, ...]

    @overload
    def predict(self, events: Iterable[Event]) -> Iterator[Event]: ...
    @overload
    def predict(self, events: pd.DataFrame) -> pd.DataFrame: ...
    def predict(self, events: Iterable[Event] | pd.DataFrame) -> Iterator[Event] | pd.DataFrame:
        """Apply the network and the thresholds to events.

        Args:
            events: events, of which clustering needs the classes; or a table with one row per
                voxel and the columns event, x, y, z (2D: x, y), energy in MeV and, for
                clustering, class (0 to 4 as `ParticleClass`, -1 unknown).

        Returns:
            the events, one after the other, with the predicted `cluster` or `semantic` in place
            of the truth; or a table with the columns event and cluster or class, in the order of
            the rows.

        Raises:
            ValueError: for voxels outside of the image, or listed twice.

        Example:
            model = load_model("models/clustering")
            event = next(model.predict(read_events("events.h5")))
        """
        if isinstance(events, pd.DataFrame):
            predictor = PyfuncPredictor.of(self.state, self.shape, self.thresholds)
            return predictor.predict(None, events)
        return reconstruct_events(self.state, events, self.thresholds)


def load_model(
    source: str | Path,
    *,
    method: str | None = None,
    runs: str | Path = "runs",
    tracking_uri: str | None = None,
) -> TrainedModel:
    """Load a trained network with its tuned thresholds.

    Args:
        source: the id of an MLflow run; a folder with `checkpoint.pt` and the thresholds files,
            such as models/clustering; or a registered model, `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`.
        method: reconstruction whose thresholds are used, `seeds`, `linked`, `pieces` or `dbscan`;
            by default that of the trained task.
        runs: folder of the MLflow store that the commands write.
        tracking_uri: another MLflow store.

    Raises:
        ValueError: for a source without a sound checkpoint or without thresholds.

    Example:
        model = load_model("models:/clustering@champion")
        events = list(model.predict(read_events("events.h5")))
    """
    tracking = Tracking(Path(runs), None, tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        if str(source).startswith(SCHEME):
            return _registered(tracking, str(source), method, Path(scratch))
        run, folder = str(source), Path(scratch)
        state = checkpoints.load(tracking.fetch(run, FILE, folder))
        task = state.trial.task
        thresholds: Thresholds = {}
        if task.methods:
            task = task.with_method(method or task.active_method.name)
            file = fetch_thresholds(tracking, run, task.active_method.name, folder)
            thresholds = read_thresholds(file, task.active_method)
        state = replace(state, trial=state.trial.model_copy(update={"task": task}))
    return TrainedModel(state, thresholds, state.trial.data.splits.shape)


def _registered(tracking: Tracking, source: str, method: str | None, scratch: Path) -> TrainedModel:
    if method:
        raise ValueError(f"{source}: a registered model has one method; leave out method={method}")
    folder, use = fetch_registered(tracking, source, scratch)
    return TrainedModel(checkpoints.load(folder), use["thresholds"], tuple(use["shape"]))
