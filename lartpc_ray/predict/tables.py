"""The tables beside predictions: a row for each cluster, and a row for each metric of an event."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from lartpc_ray.atomic import refuse_existing, replace_file
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.predict.cluster_columns import TYPES, Columns, Tables, join
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.system_errors import of_system

Result = TypeVar("Result")
FOLDER = "tables"
"""Folder of the tables in a folder of shards."""


def check_tables(options: argparse.Namespace, task: Task) -> None:
    """Check the arguments of the tables.

    Raises:
        ValueError: for a task whose predictions have no clusters, or an impossible pitch.
    """
    if options.tables and task.output_column != "cluster":
        raise ValueError(f"--tables: the task {task.name} makes no clusters; leave it out")
    if not 0 < options.pitch < math.inf:
        raise ValueError(f"--pitch {options.pitch:g}: give the side of a voxel in cm, above 0")


def write_with_tables(
    write: Callable[[Path, Iterator[Result]], int],
    task: str,
    path: Path,
    results: Iterator[tuple[Result, Tables]],
    *,
    new: bool = False,
) -> int:
    """Write predicted events and their tables; return the number of events.

    The tables are complete before the file of events has its name, so a file of events that
    exists has its tables.

    Args:
        write: writes a file of events whole or not at all.
        task: name of the task, which the tables hold.
        path: of the file of events.
        results: the events, each with its tables.
        new: refuse to write the tables beside a file of events of another process.
    """
    tables: list[Tables] = []

    def events() -> Iterator[Result]:
        for event, of_event in results:
            tables.append(of_event)
            yield event
        if new:
            refuse_existing(path)
        write_tables(path, task, tables)

    return write(path, events())


def write_without_tables(
    write: Callable[[Path, Iterator[Result]], int],
    path: Path,
    results: Iterator[Result],
    *,
    new: bool = False,
) -> int:
    """Write predicted events, and remove the tables of earlier ones; return the number of events.

    The tables are gone before the file of events has its name. The arguments are those of
    `write_with_tables`.
    """

    def events() -> Iterator[Result]:
        yield from results
        if new:
            refuse_existing(path)
        for file in table_files(path):
            file.unlink(missing_ok=True)

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
