"""What a worker makes of a prediction beside its events: the clusters, and the metrics.

Workers import this module and `reconstruction`, so both do without pandas and MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.metrics.cluster_rows import ClusterRows, cluster_rows
from lartpc_ray.metrics.table import Row
from lartpc_ray.predict.job import Work, read_task
from lartpc_ray.tasks.task import Outputs, Task, Thresholds

Result = TypeVar("Result")
Columns = dict[str, np.ndarray]
"""Name to values, (row,) each."""
Tables = tuple[Columns, list[Row]]
"""The clusters of an event, and its metrics."""
TYPES = {
    "event": np.int64,
    "predicted": bool,
    "cluster": np.int32,
    "class": np.int8,
    "voxels": np.int32,
    "energy": np.float32,
    "extent_voxels": np.float32,
    "extent_cm": np.float32,
    "partner": np.int32,
    "shared": np.int32,
    "purity": np.float32,
    "efficiency": np.float32,
}
"""Column of the clusters to its type."""


def cluster_columns(
    task: Task, pitch: float, number: int, event: Event, reconstructed: Event
) -> Columns:
    """Return a row for each true and each predicted cluster of the scored classes of an event.

    Args:
        task: with the scored classes.
        pitch: cm per voxel.
        number: of the event in its file or split.
        event: with the true clusters; the class of a cluster is part of its name.
        reconstructed: the same voxels with the predicted clusters.

    Returns:
        the columns of `TYPES`: `predicted` marks the predicted clusters; `cluster` and `partner`
        are the numbers of the clusters in the event, -1 no partner; `class` counts `CLASS_NAMES`.
    """
    scored = np.isin(event.semantic, [CLASS_NAMES.index(name) for name in task.scored_classes])
    truth, true_names = _numbered(event.cluster, event.semantic, scored)
    predicted, found_names = _numbered(reconstructed.cluster, None, np.ones(len(event), bool))
    sides = cluster_rows(event.coords, event.energy, truth, predicted)
    classes = (_classes(truth, event.semantic), _classes(predicted, reconstructed.semantic))
    parts = [
        _columns(rows, pitch, names, other)
        | {"class": of_side, "predicted": np.full(len(names), found)}
        for rows, names, other, of_side, found in zip(
            sides,
            (true_names, found_names),
            (found_names, true_names),
            classes,
            (False, True),
            strict=True,
        )
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined["event"] = np.full(len(joined["cluster"]), number)
    return {name: joined[name].astype(kind) for name, kind in TYPES.items()}


def _numbered(
    clusters: np.ndarray, semantic: np.ndarray | None, use: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers from 0 (voxel,), -1 none, and the own names of the clusters (cluster,)."""
    known = (clusters >= 0) & use
    classes = np.zeros_like(clusters) if semantic is None else semantic
    pairs = np.stack([clusters[known], classes[known]], axis=1)
    names, index = np.unique(pairs, axis=0, return_inverse=True)
    numbers = np.full(len(clusters), -1)
    numbers[known] = index.ravel()
    return numbers, names[:, 0]


def _classes(labels: np.ndarray, semantic: np.ndarray) -> np.ndarray:
    """Return the class that most voxels of each cluster have, -1 unknown."""
    known = labels >= 0
    counts = np.zeros((labels.max(initial=-1) + 1, len(CLASS_NAMES) + 1), int)
    np.add.at(counts, (labels[known], semantic[known] + 1), 1)
    return np.asarray(counts.argmax(axis=1) - 1)


def _columns(rows: ClusterRows, pitch: float, names: np.ndarray, others: np.ndarray) -> Columns:
    known = rows.partner >= 0
    partner = np.full(len(names), -1)
    partner[known] = others[rows.partner[known]]
    return {
        "cluster": names,
        "voxels": rows.voxels,
        "energy": rows.energy,
        "extent_voxels": rows.extent,
        "extent_cm": rows.extent * pitch,
        "partner": partner,
        "shared": rows.shared,
        "purity": rows.purity,
        "efficiency": rows.efficiency,
    }


def with_tables(work: Work[Result], task: str, thresholds: str, pitch: float) -> Work[Any]:
    """Return the work that gives the result of another one, and the tables of the event.

    Args:
        work: of a prediction.
        task: settings of the task, as JSON.
        thresholds: class to thresholds, as JSON.
        pitch: cm per voxel.
    """
    return Work(_tabulated, (work, task, thresholds, pitch))


def _tabulated(
    work: Work[Result],
    task: str,
    thresholds: str,
    pitch: float,
    number: int,
    event: Event,
    outputs: Outputs,
) -> tuple[Result, Tables]:
    tables = event_tables(read_task(task), json.loads(thresholds), pitch, number, event, outputs)
    return work(number, event, outputs), tables


def event_tables(
    task: Task, thresholds: Thresholds, pitch: float, number: int, event: Event, outputs: Outputs
) -> Tables:
    """Return the tables of an event; see `cluster_columns`."""
    reconstructed = task.reconstruct(event, outputs, thresholds)
    columns = cluster_columns(task, pitch, number, event, reconstructed)
    return columns, list(task.evaluate(number, event, outputs, thresholds).rows)


def join(parts: Sequence[Columns]) -> Columns:
    """Return the rows of many events as one table."""
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0, kind)
        for name, kind in TYPES.items()
    }
