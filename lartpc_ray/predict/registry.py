"""Register a trained network with its thresholds as one MLflow model.

    model = mlflow.pyfunc.load_model("models:/clustering@champion")
    model.predict(voxels)         # event, x, y, z, energy, class -> event, cluster

MLflow stores a script of three lines, a checkpoint and a JSON file: no pickle. The environment
that loads the model needs `lartpc_ray`.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from lartpc_ray.atomic import read_json
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.formats.source import locate_errors
from lartpc_ray.predict.inference import predict
from lartpc_ray.settings import with_present_names
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.phases import phase
from lartpc_ray.tracking.runs import Tracking, as_folder
from lartpc_ray.tracking.store import EXISTS, INVALID, MISSING, StoreError
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what mlflow thinks of its own type hints
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.model import PythonModel

SCHEME = "models:/"
"""Begins the address of a registered model."""
FOLDER = "model"
"""Folder of the model among the artifacts of a run."""
AXES = ("x", "y", "z")
PROMOTED = "promoted"
"""Tag of a version that was made champion: the version before it (0 for none), and the time, s."""
AT_ONCE = 600
"""Seconds between the ends of two searches that may not have seen each other's version."""
SHOWN = 200
"""Voxels of the input example."""
SCRIPT = """from mlflow.models import set_model

from lartpc_ray.predict.registry import PyfuncPredictor

set_model(PyfuncPredictor())
"""


class PyfuncPredictor(PythonModel):
    """Predict the cluster or the class of voxels, for MLflow."""

    def load_context(self, context: Any) -> None:
        """Read the checkpoint and the thresholds."""
        self._state = checkpoints.load(Path(context.artifacts["checkpoint"])).to_predict()
        self._use = read_use(Path(context.artifacts["use"]))
        self._network = self._state.restored()

    @staticmethod
    def of(state: Checkpoint, shape: tuple[int, ...], thresholds: Thresholds) -> PyfuncPredictor:
        """Return a predictor that is not registered."""
        predictor = PyfuncPredictor()
        predictor._state = state.to_predict()
        predictor._network = predictor._state.restored()
        predictor._use = {"shape": shape, "thresholds": thresholds}
        return predictor

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return the cluster or class of every voxel.

        Args:
            context: of MLflow.
            model_input: a table with a row a voxel: event, x, y (, z), energy and, for
                clustering, class (0 to 4 as `ParticleClass`, -1 unknown).
            params: none.

        Returns:
            event, and cluster (counted within the event) or class; -1 none. Rows as they came.

        Raises:
            ValueError: for voxels that cannot be, with their event.
        """
        task = self._state.trial.task
        column = task.output_column
        answer = np.full(len(model_input), -1, np.int64)
        self._check(model_input, column)
        rows = list(model_input.groupby("event", sort=False).indices.items())
        events = (self._event(number, model_input.iloc[places]) for number, places in rows)
        predictions = predict(self._network, task, events)
        for (_, places), pair in zip(rows, predictions, strict=True):
            event = task.reconstruct(*pair, self._use["thresholds"])
            values = event.cluster if column == "cluster" else event.semantic
            shape = tuple(self._use["shape"])
            asked = voxel_keys(model_input.iloc[places][self._axes].to_numpy(), shape)
            order = np.argsort(asked)
            kept = order[np.searchsorted(asked[order], voxel_keys(event.coords, shape))]
            answer[places[kept]] = values
        return pd.DataFrame({"event": model_input["event"].to_numpy(), column: answer})

    def _check(self, table: pd.DataFrame, column: str) -> None:
        """Refuse a table without a column that the network needs, or an event without a number."""
        needed = ["event", *self._axes, "energy", *(["class"] if column == "cluster" else [])]
        missing = [name for name in needed if name not in table]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}: give {', '.join(needed)}")
        if table["event"].isna().any():
            row = int(np.argmax(table["event"].isna().to_numpy()))
            raise ValueError(f"row {row}, column event: no number; give one")

    @property
    def _axes(self) -> list[str]:
        return list(AXES[: len(self._use["shape"])])

    def _event(self, number: Any, voxels: pd.DataFrame) -> Event:
        known = voxels["class"].to_numpy() if "class" in voxels else None
        with locate_errors(f"event {number}"):
            return Event.of(
                voxels[self._axes].to_numpy(),
                voxels["energy"].to_numpy(),
                tuple(self._use["shape"]),
                semantic=known,
            )


def read_use(path: Path) -> dict[str, Any]:
    """Return the `shape` of the image and the `thresholds` of a registered model.

    Raises:
        ValueError: in one line with the name of the file, if it is damaged.
    """
    use = read_json(path)
    shape, thresholds = use.get("shape"), use.get("thresholds")
    if not isinstance(shape, list) or not isinstance(thresholds, dict):
        raise ValueError(f"{path}: damaged: no shape and thresholds in it")
    return use


def table_of(event: Event, number: int, *, classes: bool) -> pd.DataFrame:
    """Return the voxels of an event as a registered model reads them."""
    columns = {"event": np.full(len(event), number, np.int64)}
    columns |= dict(zip(AXES, event.coords.T.astype(np.int64), strict=False))
    columns["energy"] = event.energy.astype(np.float64)
    if classes:
        columns["class"] = event.semantic.astype(np.int64)
    return pd.DataFrame(columns)


def write_model(folder: Path, state: Checkpoint, thresholds: Thresholds) -> None:
    """Write a model in MLflow's form, with its signature and an input example.

    Args:
        folder: to make.
        state: of the trained run, stored without the optimizer.
        thresholds: class to thresholds.
    """
    column = state.trial.task.output_column
    event = state.trial.data.splits.events("tune")[0]
    example = table_of(event, 0, classes=column == "cluster")
    kinds = {name: "double" if name == "energy" else "long" for name in example}
    signature = ModelSignature(
        Schema([ColSpec(kind, name) for name, kind in kinds.items()]),
        Schema([ColSpec("long", "event"), ColSpec("long", column)]),
    )
    with tempfile.TemporaryDirectory() as scratch:
        script, use = Path(scratch) / "script.py", Path(scratch) / "use.json"
        script.write_text(SCRIPT)
        use.write_text(json.dumps({"shape": event.shape, "thresholds": thresholds}, indent=1))
        file = checkpoints.save(Path(scratch), state.to_use())
        save_model(
            str(folder),
            python_model=str(script),
            artifacts={"checkpoint": str(file), "use": str(use)},
            signature=signature,
            input_example=example.iloc[:SHOWN],
            pip_requirements=["lartpc-ray"],
        )


def register(
    tracking: Tracking,
    name: str,
    run: str,
    state: Checkpoint,
    thresholds: Thresholds,
    about: Mapping[str, str],
    note: str,
) -> str:
    """Store the model of a run and register it, unless it is registered already.

    Args:
        tracking: where the run is.
        name: of the registered model.
        run: that trained it.
        state: of that run.
        thresholds: class to thresholds.
        about: tags of the version.
        note: description of the version, in markdown.

    Returns:
        the version.
    """
    client = tracking.client
    registered = client.search_model_versions(f"name = '{name}' and run_id = '{run}'")
    if registered:
        return str(registered[0].version)
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch) / FOLDER, state, thresholds)
        tracking.log_artifacts(run, Path(scratch) / FOLDER, FOLDER)
    source = f"{client.get_run(run).info.artifact_uri}/{FOLDER}"
    try:
        client.create_registered_model(name)
    except StoreError as error:
        if error.code != EXISTS:
            raise
    made = client.create_model_version(name, source, run, tags=dict(about), description=note)
    return str(made.version)


def find_version(tracking: Tracking, address: str) -> ModelVersion:
    """Return the version of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        ValueError: for another form, or a model that is not registered.
    """
    parts = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", address)
    if not parts:
        raise ValueError(f"{address}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, number = parts.groups()
    try:
        if alias:
            return tracking.client.get_model_version_by_alias(name, alias)
        return tracking.client.get_model_version(name, number)
    except StoreError as error:
        if error.code not in (MISSING, INVALID):
            raise
        raise ValueError(f"{address}: {error}") from None


def resolve_run(tracking: Tracking, source: str) -> str:
    """Return the run of a registered model, `models:/...`; another source stays as it is.

    Raises:
        ValueError: for a model that is not registered, or that no run has trained.
    """
    if not source.startswith(SCHEME):
        return source
    run = find_version(tracking, source).run_id
    if not run:
        raise ValueError(f"{source}: registered without a run; give a model of a search")
    return str(run)


def fetch_registered(tracking: Tracking, source: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a registered model's checkpoint, and its `shape` and `thresholds`.

    Args:
        tracking: where it is registered.
        source: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        folder: for downloaded files.

    Raises:
        ValueError: for a model that is not registered or is damaged.
    """
    run = resolve_run(tracking, source)
    files = tracking.fetch(run, f"{FOLDER}/artifacts", folder)
    try:
        return files, read_use(files / "use.json")
    except ValueError as error:
        raise ValueError(f"{error}; give the run of the model instead: {run}") from None


def load_checkpoint(tracking: Tracking, run: str) -> Checkpoint:
    """Load the checkpoint of a run, or of its registered model.

    Only the best trial of a search has a checkpoint in MLflow, and each registered model.

    Args:
        tracking: store of the run.
        run: its id, a folder of its files, or a registered model.

    Raises:
        ValueError: for a run without a sound checkpoint.
    """
    run = resolve_run(tracking, run)
    with phase("reading the network"), tempfile.TemporaryDirectory() as scratch:
        return checkpoints.load(_fetch_checkpoint(tracking, run, Path(scratch)))


def _fetch_checkpoint(tracking: Tracking, run: str, folder: Path) -> Path:
    try:
        return tracking.fetch(run, checkpoints.FILE, folder)
    except ValueError as missing:
        if as_folder(run):
            raise
        try:
            return tracking.fetch(run, f"{FOLDER}/artifacts/{checkpoints.FILE}", folder)
        except ValueError:
            raise missing from None


def version_with_alias(tracking: Tracking, name: str, alias: str) -> ModelVersion | None:
    """Return the version with an alias; None if no version has it."""
    try:
        return tracking.client.get_model_version_by_alias(name, alias)
    except StoreError as error:
        if error.code in (MISSING, INVALID):
            return None
        raise


def _objective(tags: Mapping[str, str]) -> float:
    return float(with_present_names(tags, {"goal": "objective"})["objective"])


def promote_champion(tracking: Tracking, name: str, version: str) -> bool:
    """Make a version the champion, unless the champion has a higher objective on the same data.

    Args:
        tracking: where it is registered.
        name: of the registered model.
        version: the newest search's best; objectives are compared if the tags `data` and `metric`
            are equal.

    Returns:
        whether the version is the champion now.
    """
    client = tracking.client
    candidate = client.get_model_version(name, version)
    champion = version_with_alias(tracking, name, "champion")
    if champion is not None and str(champion.version) == version:
        return True
    if champion is not None and _is_better(champion, candidate, at_least=True):
        return False
    mark = f"{champion.version if champion else 0} {int(time.time())}"
    client.set_model_version_tag(name, version, PROMOTED, mark)
    client.set_registered_model_alias(name, "champion", version)
    best = candidate
    for other in client.search_model_versions(f"name = '{name}'"):
        earlier = int(other.version) < int(best.version)
        if _at_once(other.tags.get(PROMOTED, ""), mark) and _is_better(other, best, earlier):
            best = other
    if best is not candidate:
        client.set_registered_model_alias(name, "champion", str(best.version))
    return best is candidate


def _is_better(version: ModelVersion, other: ModelVersion, at_least: bool) -> bool:
    """Return whether a version has a higher objective, or as high a one, on the same data."""
    same = all(version.tags.get(key) == other.tags[key] for key in ("data", "metric"))
    if not same:
        return False
    first, second = _objective(version.tags), _objective(other.tags)
    return first >= second if at_least else first > second


def _at_once(first: str, second: str) -> bool:
    """Return whether two versions replaced the same champion within `AT_ONCE` seconds.

    MLflow sets an alias unconditionally, so two searches that end together both find the earlier
    champion. Each writes the tag before the alias and reads the tags after it: the last one to read
    finds both, and leaves the alias at the better version.
    """
    if not first or first.split()[0] != second.split()[0]:
        return False
    return abs(int(first.split()[1]) - int(second.split()[1])) < AT_ONCE
