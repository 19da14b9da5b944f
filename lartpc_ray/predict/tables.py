"""The tables beside predictions: a row for each cluster, and a row for each metric of an event."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.metrics.cluster_rows import ClusterRows, cluster_rows
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.predict.job import Work, read_task
from lartpc_ray.tasks.task import Outputs, Task, Thresholds
from lartpc_ray.terminal.system_errors import of_system

Result = TypeVar("Result")
Columns = dict[str, np.ndarray]
"""Name to values, (row,) each."""
Tables = tuple[Columns, list[Row]]
"""The clusters of an event, and its metrics."""
FOLDER = "tables"
"""Folder of the tables in a folder of shards."""
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


def check_tables(options: argparse.Namespace, task: Task) -> None:
    """Check the arguments of the tables.

    Raises:
        ValueError: for a task whose predictions have no clusters, or an impossible pitch.
    """
    if options.tables and task.output_column != "cluster":
        raise ValueError(f"--tables: the task {task.name} makes no clusters; leave it out")
    if not 0 < options.pitch < math.inf:
        raise ValueError(f"--pitch {options.pitch:g}: give the side of a voxel in cm, above 0")


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


def write_with_tables(
    write: Callable[[Path, Iterator[Result]], int],
    task: str,
    path: Path,
    results: Iterator[tuple[Result, Tables]],
) -> int:
    """Write predicted events and their tables; return the number of events.

    The tables are complete before the file of events has its name, so a file of events that
    exists has its tables.

    Args:
        write: writes a file of events whole or not at all.
        task: name of the task, which the tables hold.
        path: of the file of events.
        results: the events, each with its tables.
    """
    tables: list[Tables] = []

    def events() -> Iterator[Result]:
        for event, of_event in results:
            tables.append(of_event)
            yield event
        write_tables(path, task, tables)

    return write(path, events())


def write_tables(path: Path, task: str, tables: Sequence[Tables]) -> None:
    """Write the tables of the events of a file, each whole or not at all."""
    clusters, metrics = table_files(path)
    clusters.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame(join([columns for columns, _ in tables]))
    frame["class"] = pd.Categorical.from_codes(frame["class"], list(CLASS_NAMES))
    _write(clusters, task, frame)
    rows = [row for _, of_event in tables for row in of_event]
    names = {"event": "int64", "class": "category", "metric": "category", "value": "float64"}
    _write(metrics, task, pd.DataFrame(rows, columns=list(names)).astype(names))


def join(parts: Sequence[Columns]) -> Columns:
    """Return the rows of many events as one table."""
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0, kind)
        for name, kind in TYPES.items()
    }


def _write(path: Path, task: str, frame: pd.DataFrame) -> None:
    frame.attrs["task"] = task
    with replace_file(path) as part:
        frame.to_parquet(part, index=False)


def table_files(path: Path) -> tuple[Path, Path]:
    """Return the files of the clusters and of the metrics for a file of predicted events.

    Example:
        >>> [str(file) for file in table_files(Path("out/found.h5"))]
        ['out/found.clusters.parquet', 'out/found.metrics.parquet']
        >>> str(table_files(Path("out/events-000000000-000000128.h5"))[0])
        'out/tables/clusters-000000000-000000128.parquet'
    """
    kinds = ("clusters", "metrics")
    if path.name.startswith("events-"):
        rest = path.name.removeprefix("events-").partition(".")[0]
        clusters, metrics = (path.parent / FOLDER / f"{kind}-{rest}.parquet" for kind in kinds)
    else:
        clusters, metrics = (path.with_suffix(f".{kind}.parquet") for kind in kinds)
    return clusters, metrics


def has_tables(path: Path) -> bool:
    """Return whether a path is a prediction with tables: a file, or a folder of shards."""
    return bool(_files(path, "clusters"))


def _files(path: Path, kind: str) -> list[Path]:
    if path.is_dir():
        return sorted((path / FOLDER).glob(f"{kind}-*.parquet"))
    file = table_files(path)[kind == "metrics"]
    return [file] if path.is_file() and file.is_file() else []


def read_clusters(path: Path) -> Columns:
    """Read the clusters of a prediction.

    Raises:
        ValueError: for a prediction without tables, or a damaged table.
    """
    frame = _read(path, "clusters", TYPES)
    codes = {name: index for index, name in enumerate(CLASS_NAMES)}
    frame["class"] = [codes.get(name, -1) for name in frame["class"]]
    return {name: frame[name].to_numpy().astype(kind) for name, kind in TYPES.items()}


def read_metrics(path: Path) -> tuple[str, Metrics]:
    """Read the name of the task, and the metrics of the events, of a prediction.

    Raises:
        ValueError: for a prediction without tables, or a damaged table.
    """
    frame = _read(path, "metrics", ("event", "class", "metric", "value"))
    rows = (
        Row(int(event), str(name), str(metric), float(value))
        for event, name, metric, value in frame.itertuples(index=False)
    )
    return str(frame.attrs.get("task", "clustering")), Metrics(rows)


def _read(path: Path, kind: str, columns: Iterable[str]) -> pd.DataFrame:
    files = _files(path, kind)
    if not files:
        raise ValueError(f"{path}: no {kind} table beside it; write it with predict --tables")
    parts = []
    for file in files:
        try:
            parts.append(pd.read_parquet(file, columns=list(columns)))
        except (OSError, ValueError, KeyError) as error:
            if of_system(error):
                raise OSError(f"{file}: cannot be read now ({error})") from error
            raise ValueError(f"{file}: not a {kind} table ({error})") from None
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs = parts[0].attrs
    return joined
