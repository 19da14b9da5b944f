"""The tables of a PILArNet-M event: the columns of each layout, and an `Event` as tables.

An event has one table per dataset, (row, column), and voxels ordered by cluster. Row 0 of `cluster`
holds the low-energy deposits, also if there are none: readers of the format remove this row.
A layout is a number of columns per table; a shorter table has the first columns of a longer one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.source import PROTON, Tables

Version = Literal["v1", "v2", "v3"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "point": ("x", "y", "z", "energy", "deposit", "time", "electrons", "dx"),
    "cluster": ("voxels", "fragment", "group", "interaction", "semantic", "pid"),
    "cluster_extra": (
        *("mass", "momentum", "vertex_x", "vertex_y", "vertex_z", "is_primary"),
        *("px", "py", "pz", "parent_pdg", "parent_track_id"),
    ),
    "cluster_extra_2": ("px", "py", "pz", "parent_pdg", "parent_track_id"),
    "interaction_extra": ("interaction", "vertex_x", "vertex_y", "vertex_z"),
    "truth": ("row", "fragment", "group", "interaction", "semantic", "pid"),
}
"""Columns of each table, in their order. `truth` has one row per point (`predicted_tables`)."""
ROWS_OF = {"cluster_extra": "cluster", "cluster_extra_2": "cluster", "truth": "point"}
"""Table to the table that has as many rows."""
LAYOUTS: dict[Version, dict[str, int]] = {
    "v1": {"point": 8, "cluster": 5},
    "v2": {"point": 8, "cluster": 6, "cluster_extra": 5},
    "v3": {"point": 8, "cluster": 6, "cluster_extra": 6},
}
"""Number of columns of each table of a layout."""
EXTRA_TABLES = ("cluster_extra_2", "interaction_extra")
"""Tables that some files of v3 add (`v3_extra`)."""
PACKED_WIDTHS = (9, 11)
"""Columns of `cluster_extra` in files of v3 that append the momentum, and the parent, to it."""
MISSING = -1
"""A value that is not known."""
LOW_ENERGY = 4
"""Semantic code of the low-energy deposits."""
CODES = np.array([LOW_ENERGY, 1, 1, 0, 3, 2])
"""Semantic code of each class, unknown first; HIP and MIP differ in the pid."""


def to_layout(tables: Tables, version: Version) -> Tables:
    """Return the tables of an event in another layout.

    Columns that the event does not have are `MISSING`. Tables that are in no layout stay.

    Example:
        >>> row = np.array([[5, 0, 0, 0, 1, 4]])
        >>> event = {"point": np.zeros((5, 8)), "cluster": row}
        >>> to_layout(event, "v1")["cluster"].tolist()
        [[5, 0, 0, 0, 1]]
        >>> to_layout(event, "v3")["cluster_extra"].tolist()
        [[-1.0, -1.0, -1.0, -1.0, -1.0, -1.0]]
    """
    widths = dict(LAYOUTS[version])
    for name in tables:
        if name not in COLUMNS or name == "truth":
            widths[name] = -1
        elif version == "v3":  # the extra tables, and packed columns
            widths[name] = max(tables[name].shape[1], widths.get(name, 0))
    clusters = len(tables["cluster"])
    empty = np.zeros((clusters, 0), np.float32)
    return {name: _widen(tables.get(name, empty), width) for name, width in widths.items()}


def _widen(table: np.ndarray, width: int) -> np.ndarray:
    """Return the first columns of a table, with further ones that are `MISSING`."""
    if width < 0 or table.shape[1] == width:
        return table
    if table.shape[1] > width:
        return table[:, :width]
    kind = np.int64 if table.dtype.kind == "u" else table.dtype
    further = np.full((len(table), width - table.shape[1]), MISSING, kind)
    return np.hstack([table.astype(kind), further])


def compare(before: Tables, after: Tables) -> tuple[str | None, dict[tuple[str, str], int]]:
    """Compare the tables of an event, column by column, after a conversion.

    Returns:
        the first column that differs, with the number of its values, or None; and the columns
        that `after` does not have, by dataset and column, with the number of their known values.
    """
    lost: dict[tuple[str, str], int] = {}
    for name, table in before.items():
        new = after.get(name)
        if name not in COLUMNS:
            if new is None or table.shape != new.shape or _count_differences(table, new):
                return f"other values of {name}", lost
            continue
        for number, column in enumerate(COLUMNS[name][: table.shape[1]]):
            values = table[:, number]
            if new is None or number >= new.shape[1]:
                lost[name, column] = int((values != MISSING).sum())
            elif len(new) != len(table):
                return f"{len(new)} instead of {len(table)} rows of {name}", lost
            elif differ := _count_differences(values, new[:, number]):
                return f"{differ} values of {name}.{column}", lost
    return None, lost


def _count_differences(values: np.ndarray, new: np.ndarray) -> int:
    """Count the numbers that differ; NaN equals NaN."""
    return int(((values != new) & ((values == values) | (new == new))).sum())


def event_tables(event: Event) -> Tables:
    """Return an event as the tables of v3; a cluster of two classes becomes two of one group.

    Voxels without a class make row 0, the low-energy deposits, in no group. `filled` has the rows
    of the voxels that an infill has put into dead regions; it is absent if the event has none.

    Raises:
        ValueError: for an event that is not 3D.
    """
    order, cluster = order_by_cluster(event)
    point = np.zeros((len(event), len(COLUMNS["point"])), np.float32)
    point[:, :3] = event.coords[order]
    point[:, 3] = event.energy[order]
    extra = np.full((len(cluster), LAYOUTS["v3"]["cluster_extra"]), MISSING, np.float32)
    tables = {"point": point, "cluster": cluster, "cluster_extra": extra}
    if event.dead.any():
        tables["filled"] = np.flatnonzero(event.dead[order])
    return tables


def order_by_cluster(event: Event) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of an event's voxels by cluster, and its (cluster, 6) table."""
    if len(event.shape) != 3:
        raise ValueError(f"a PILArNet-M file holds 3D images, not {len(event.shape)}D")
    deposits = np.int64(-(2**62))  # in front of every cluster
    key = event.cluster.astype(np.int64) * len(CODES) + event.semantic + 1
    key = np.where(event.semantic < 0, deposits, key)
    unique, index, sizes = np.unique(
        np.append(key, deposits), return_inverse=True, return_counts=True
    )
    sizes[0] -= 1
    cluster = np.full((len(unique), len(COLUMNS["cluster"])), MISSING, np.int64)
    group, semantic = unique[1:] // len(CODES), unique[1:] % len(CODES) - 1
    cluster[:, 0] = sizes
    cluster[1:, 1] = np.arange(len(group))
    cluster[1:, 2] = group
    cluster[:, 4] = np.append(LOW_ENERGY, CODES[semantic + 1])
    cluster[1:, 5] = np.where(semantic == ParticleClass.HIP, PROTON, MISSING)
    return np.argsort(index[:-1], kind="stable"), cluster
