"""The two networks of a comparison: from what a user names to outputs on the same events."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, nan
from pathlib import Path
from typing import Any

from lartpc_ray.atomic import read_json
from lartpc_ray.predict.evaluate import THIS, EvaluationResult, short_method, validations
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, LazyRay
from lartpc_ray.predict.registry import SCHEME, load_checkpoint, resolve_run
from lartpc_ray.predict.tables import has_tables
from lartpc_ray.predict.thresholds_file import fetch_thresholds, read_thresholds_file
from lartpc_ray.report.tables import TrialRow, trial_rows
from lartpc_ray.tasks import TASKS
from lartpc_ray.tasks.clustering import LABELS
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking, as_folder
from lartpc_ray.trials.checkpoint import Checkpoint, last_thresholds
from lartpc_ray.trials.paths import flatten_settings

KEPT = ("path", "fractions", "most_events", "val_events", "layout")
"""Settings of the splits that choose the events; both networks of a comparison share them."""


@dataclass(frozen=True, eq=False)
class Side:
    """A trained network of a comparison.

    Attributes:
        label: of the run and of its reconstruction.
        settings: dotted path to value, of the trial as it was trained, with its reconstruction.
        evaluation: of the network on the events of the comparison.
        thresholds: class to thresholds; empty for a task without thresholds.
    """

    label: str
    settings: Mapping[str, object]
    evaluation: Evaluation
    thresholds: Thresholds

    @staticmethod
    def of(name: str, evaluation: Evaluation, thresholds: Thresholds | None = None) -> Side:
        """Return the side of a network; tune its thresholds on the tune split if none are given."""
        task = evaluation.task
        if thresholds is None:
            tune = evaluation.predictions("tune") if task.methods else None
            thresholds = validations({"": task}, tune)[""].thresholds if tune else {}
        label = f"{name} with {task.method_label}" if len(task.methods) > 1 else name
        return Side(label, flatten_settings(evaluation.state.trial), evaluation, thresholds)


def are_predictions(first: str, other: str) -> bool:
    """Return whether two sources are predictions with tables, and not networks.

    Raises:
        ValueError: for a prediction and a network.
    """
    ours, others = (has_tables(Path(source)) for source in (first, other))
    if ours != others:
        one, network = (first, other) if ours else (other, first)
        raise ValueError(
            f"{one}: a prediction, and {network} is none with tables; compare two networks, or two "
            "predictions of predict --tables"
        )
    return ours


def network_options(options: argparse.Namespace, ray: LazyRay) -> list[str]:
    """Return the given options that act on a network only."""
    names = ("method", "against_method", "data")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    return given + ["--workers, --device, --precision"] * (ray.placement != DEFAULT_PLACEMENT)


def refuse_for_prediction(source: str, given: Sequence[str]) -> None:
    """Refuse options that act on a network, since no network runs for a prediction.

    Raises:
        ValueError: with the options.
    """
    if given:
        raise ValueError(f"{source}: a prediction, no network runs; leave out {', '.join(given)}")


def best_run(tracking: Tracking, rows: Sequence[TrialRow]) -> str | None:
    """Return the run of the best trial; before the end of the search that of highest objective."""
    parent = tracking.run_info(rows[0].run)["mlflow.parentRunId"]
    picked = tracking.children(parent, best="true")
    ended = (row.run for row in rows if row.objective is not None)
    return next(iter([*picked, *ended]), None)


def are_measured(classes: Mapping[str, Mapping[str, Any]], measured: Thresholds) -> bool:
    """Return whether the classes of a thresholds file have the thresholds of a result."""
    return all(
        isclose(float(classes[name].get(axis, nan)), value, rel_tol=1e-9, abs_tol=1e-9)
        for name, point in measured.items()
        if name in classes
        for axis, value in point.items()
    )


def changed_since(tracking: Tracking, run: str | None, result: EvaluationResult) -> str:
    """Return a sentence if `predict` uses other thresholds than a result has; empty otherwise."""
    method = _method(result)
    if run is None or method is None:
        return ""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            file = fetch_thresholds(tracking, run, method, Path(scratch))
            classes = read_thresholds_file(file)["classes"]
    except ValueError:
        return ""
    if are_measured(classes, result.thresholds):
        return ""
    return (
        "All numbers are of the thresholds that were tuned first; since a command with --keep "
        "predict uses others."
    )


def _method(result: EvaluationResult) -> str | None:
    """Return the name of the reconstruction in use; None for a task without thresholds."""
    if result.task == "clustering":
        label = short_method(next(iter(result.means), ""))
        methods = {label: name for name, label in LABELS.items()}
        return "dbscan" if label.startswith("DBSCAN") else methods.get(label)
    task = TASKS[result.task].model_validate({})
    return next(iter(task.methods), None)


class DamagedResultError(ValueError):
    """A result in MLflow that cannot be read."""


def logged_result(tracking: Tracking, run: str | None) -> EvaluationResult:
    """Read the result that is logged with a run.

    Raises:
        ValueError: for a run without a result.
        DamagedResultError: for a damaged result.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = tracking.fetch(run or "none", "verdict.json", Path(scratch))
        try:
            return EvaluationResult.read(read_json(file))
        except (TypeError, AttributeError, ValueError) as error:
            raise DamagedResultError(
                f"run {run}: verdict.json is damaged ({error_text(error)}); `python -m "
                "lartpc_ray.tune NAME --resume FOLDER` of its study writes it again"
            ) from None


def load_side(
    tracking: Tracking,
    source: str,
    method: str | None = None,
    data: str | None = None,
    events_of: Side | None = None,
    ray: LazyRay | None = None,
) -> Side:
    """Load a network, to compare it with another one.

    The thresholds are those of the run's own table: chosen on its tune split. On other data they
    are chosen on the tune split of these.

    Args:
        tracking: store of the runs.
        source: a study (the best trial of its newest search), an MLflow run, a folder with
            `checkpoint.pt`, or a registered model, `models:/NAME@ALIAS`.
        method: reconstruction; by default that of the trained task.
        data: folder or file of the splits, if they are not those of the trial or of `events_of`.
        events_of: the other side, on whose events this network is measured.
        ray: of the command, with the placement of the network.

    Raises:
        ValueError: for a source without a sound checkpoint, or of another task.
    """
    name, run = _resolve(tracking, source)
    state = load_checkpoint(tracking, run).to_use()
    task = state.trial.task
    task = task.with_method(method) if method else task
    state = replace(state, trial=state.trial.model_copy(update={"task": task}))
    trained = flatten_settings(state.trial)
    if events_of:
        state = _on_events_of(state, events_of, source)
    evaluation = Evaluation(state, data, ray)
    thresholds = None if data else _known_thresholds(tracking, run, state)
    return replace(Side.of(name, evaluation, thresholds), settings=trained)


def _resolve(tracking: Tracking, source: str) -> tuple[str, str]:
    """Return the name and the run, or the folder, of a source."""
    if folder := as_folder(source):
        return folder.resolve().name, source
    if source.startswith(SCHEME):
        return source, resolve_run(tracking, source)
    try:
        rows = trial_rows(tracking.trials(source))
    except ValueError:  # no study: a run
        return tracking.run_info(source)["name"], source
    run = best_run(tracking, rows) if rows else None
    if run is None:
        raise ValueError(f"study {source!r}: no trial of its newest search has a result yet")
    return f"{source}: {tracking.run_info(run)['name']}", run


def _on_events_of(state: Checkpoint, other: Side, source: str) -> Checkpoint:
    """Return the network with the events of the other side, after its own transforms.

    Raises:
        ValueError: for a network of another task.
    """
    theirs = other.evaluation.state.trial
    if state.trial.task.name != theirs.task.name:
        raise ValueError(
            f"--against {source}: its task is {state.trial.task.name}, that of {other.label} is "
            f"{theirs.task.name}; compare networks of one task"
        )
    shared = {name: getattr(theirs.data.splits, name) for name in KEPT}
    data = state.trial.data
    data = data.model_copy(update={"splits": data.splits.model_copy(update=shared)})
    return replace(state, trial=state.trial.model_copy(update={"data": data}))


def _known_thresholds(tracking: Tracking, run: str, state: Checkpoint) -> Thresholds | None:
    """Return the thresholds of a run's table, or of its last validation; None without them."""
    task = state.trial.task
    if not task.methods:
        return {}
    try:
        result = logged_result(tracking, run)
    except ValueError:  # no table: a trial that was not the best
        return last_thresholds(state) or None
    first = short_method(next(iter(result.means)))
    used = first in (task.method_label, THIS) and result.thresholds
    return used or result.alternatives.get(task.method_label) or last_thresholds(state) or None
