"""Write predictions as one table in Parquet, a row per voxel, as pandas reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.predicted import match_voxels
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.voxel_table import AXES

ENDING = ".parquet"
GROUP_ROWS = 1_000_000
"""Rows of a row group, nearly; so many are in memory."""
FIELDS = {
    "event": pa.int64(),
    "voxel": pa.int32(),
    **{name: pa.int32() for axes in AXES.values() for name in axes},
    "energy": pa.float32(),
    "class": pa.dictionary(pa.int8(), pa.string()),
    "cluster": pa.int32(),
    "seed_score": pa.float32(),
}
"""Columns of the table; an image in 3D has x, y, z, one in 2D has wire and tick."""
Columns = dict[str, np.ndarray]


def voxel_columns(
    number: int,
    event: Event,
    score: np.ndarray | None,
    source: tuple[Tables, np.ndarray] | None,
) -> Columns:
    """Return the rows of an event: all voxels of the input in its order, then those added.

    Args:
        number: of the event.
        event: the prediction.
        score: (voxel,) seediness; None for a task without seeds, which gives NaN.
        source: tables of the input, and the number (point,) of each row in the input; None for an
            event with other voxels than the input, which gives the voxels -1.

    Returns:
        the columns (row,) of `FIELDS`, the class as its number, -1 none.
    """
    coords, energy = event.coords, event.energy
    voxel, row = np.arange(len(event)), np.full(len(event), -1)
    if source is not None:
        (tables, rows), point = source, source[0]["point"]
        kept, read, added = match_voxels(event, tables)
        order = np.argsort(rows[kept])
        voxel = np.append(read[order], added)
        row = np.append(rows[kept][order], np.full(len(added), -1))
        coords = np.vstack([point[kept][order, :3], coords[added]]).astype(np.int32)
        energy = np.append(point[kept][order, 3], energy[added])
    seediness = np.full(len(event), np.nan) if score is None else score
    return {
        "event": np.full(len(voxel), number),
        "voxel": row,
        **dict(zip(AXES[len(event.shape)], coords.T, strict=True)),
        "energy": energy.astype(np.float32),
        "class": np.append(event.semantic, -1)[voxel],
        "cluster": np.append(event.cluster, -1)[voxel],
        "seed_score": np.append(seediness, np.nan)[voxel].astype(np.float32),
    }


def write_voxel_table(path: Path, events: Iterable[Columns], *, new: bool = False) -> int:
    """Write the rows of events as a Parquet file, whole or not at all; return their number.

    Args:
        path: the file to write.
        events: the rows of each event; they are taken one by one.
        new: refuse to write over a file.

    Raises:
        ValueError: if there is no event, whose columns the file would have; with `new` for a file
            that exists.
    """
    count, rows, waiting = 0, 0, list[Columns]()
    writer: pq.ParquetWriter | None = None
    with replace_file(path, exclusive=True, new=new) as part:
        try:
            for columns in events:
                writer = writer or pq.ParquetWriter(part, _schema(columns))
                waiting.append(columns)
                count, rows = count + 1, rows + len(columns["voxel"])
                if rows >= GROUP_ROWS:
                    writer.write_table(_table(waiting, writer.schema))
                    waiting, rows = [], 0
            if writer is None:
                raise ValueError(f"{path}: no event to write")
            writer.write_table(_table(waiting, writer.schema))
        finally:
            if writer is not None:
                writer.close()
    return count


def _schema(columns: Columns) -> pa.Schema:
    return pa.schema([(name, FIELDS[name]) for name in columns])


def _table(events: list[Columns], schema: pa.Schema) -> pa.Table:
    arrays = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        values = np.concatenate([np.zeros(0, int), *(columns[name] for columns in events)])
        if name == "class":
            codes = pa.array(values.astype(np.int8), mask=values < 0)
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(CLASS_NAMES)))
        else:
            arrays.append(pa.array(values.astype(kind.to_pandas_dtype())))
    return pa.Table.from_arrays(arrays, schema=schema)
