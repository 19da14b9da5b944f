"""The tables of a predicted event: its clusters, with the columns of the input's particles.

The voxels are ordered by predicted cluster, as the layout needs it. A predicted cluster has one row
per particle of the input that it has voxels of, all with the number of the cluster as `group`; so
each voxel keeps the interaction, the particle code and the further columns of its particle. The
table `truth` has the row of each voxel in the input, and its true cluster.
"""

from __future__ import annotations

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.formats.source import PROTON, Tables, to_indices
from lartpc_ray.data.formats.tables import (
    CODES,
    COLUMNS,
    LAYOUTS,
    LOW_ENERGY,
    MISSING,
    ROWS_OF,
    to_layout,
)

PER_CLUSTER = tuple(name for name, owner in ROWS_OF.items() if owner == "cluster")
FRAGMENT, GROUP, INTERACTION, SEMANTIC, PID = range(1, 6)
"""Columns of the table `cluster`."""


def predicted_tables(event: Event, source: Tables, row: np.ndarray) -> Tables:
    """Return a predicted event as tables of v3, with the columns of its input.

    All voxels of the input are there, with all their columns. Voxels that the network did not
    read, or that have no class, make row 0; those that lie in a dead region are left out. Voxels
    that an infill has added have no particle.

    The columns semantic and group are predicted (classes that the network was given are those of
    the input). The particle code of a track is that of the input if it agrees with the class;
    otherwise it is 4 for HIP and -1 for MIP. The row of a cluster with most voxels has the
    number of the cluster as its fragment, by which readers find the particle of a group.

    Args:
        event: the prediction; its voxels are some of the input's, at the same positions.
        source: tables of the input, all voxels of it.
        row: (point,) the number of each row of `point` in the input.

    Raises:
        ValueError: for an event that is not 3D.
    """
    if len(event.shape) != 3:
        raise ValueError(f"a PILArNet-M file holds 3D images, not {len(event.shape)}D")
    source = to_layout(source, "v3")
    kept, read, added = match_voxels(event, source)
    particle = np.repeat(np.arange(len(source["cluster"])), source["cluster"][:, 0])
    none = np.full(len(added), -1)
    voxel, row = np.append(read, added), np.append(row[kept], none)
    particle = np.append(particle[kept], none)
    order, cluster, owner = _arrange(event, voxel, particle)
    _carry(cluster, owner, source["cluster"])
    point = np.vstack([source["point"][kept], _points(event, added)])
    tables = {"point": point.astype(_float(source["point"]))[order], "cluster": cluster}
    for name in PER_CLUSTER:
        if name in source:
            tables[name] = _rows(source[name], owner).astype(_float(source[name]))
    tables |= {name: source[name] for name in source if name not in (*tables, "truth", "filled")}
    tables["truth"] = _truth(source, kept, row)[order]
    filled = np.append(event.dead, False)[voxel] | np.isin(row, source.get("filled", [-2]))
    if filled.any() or "filled" in source:
        tables["filled"] = np.flatnonzero(filled[order])
    return tables


def match_voxels(event: Event, source: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the voxels of a prediction with those of its input.

    Args:
        event: the prediction.
        source: tables of the input.

    Returns:
        the rows (kept,) of `point` that the prediction keeps: all, but those in dead regions; the
        voxel (kept,) of the event at each of them, -1 none; the voxels (added,) of the event that
        the input does not have.
    """
    coords = to_indices(source["point"][:, :3])
    read = find_voxels(coords, event)
    kept = np.flatnonzero((read >= 0) | ~_in_dead_regions(coords, event))
    return kept, read[kept], np.setdiff1d(np.arange(len(event)), read)


def find_voxels(coords: np.ndarray, event: Event) -> np.ndarray:
    """Return the number (position,) of the event's voxel at each position; -1 none.

    Voxels that an infill has added are not found.
    """
    seen = np.flatnonzero(~event.dead)
    known = voxel_keys(event.coords[seen], event.shape)
    order = np.argsort(known)
    inside = ((coords >= 0) & (coords < np.array(event.shape))).all(axis=1)
    found = np.full(len(coords), -1)
    if len(seen):
        wanted = voxel_keys(coords[inside], event.shape)
        place = np.minimum(np.searchsorted(known[order], wanted), len(seen) - 1)
        voxel = order[place]
        found[inside] = np.where(known[voxel] == wanted, seen[voxel], -1)
    return found


def _in_dead_regions(coords: np.ndarray, event: Event) -> np.ndarray:
    dead = np.zeros(len(coords), bool)
    for low, high in [] if event.regions is None else event.regions.corners:
        dead |= ((coords >= low) & (coords < high)).all(axis=1)
    return dead


def _arrange(
    event: Event, voxel: np.ndarray, particle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order voxels by class, cluster and particle.

    Args:
        event: the prediction.
        voxel: (point,) number in the event, -1 of a voxel that the network did not read.
        particle: (point,) row of `cluster` in the input, -1 none.

    Returns:
        the order (point,); the table (cluster, 6), row 0 of the voxels without a class first; the
        row (cluster,) of `cluster` in the input, -1 none.
    """
    semantic = np.append(event.semantic, NO_CLASS)[voxel]
    known = semantic >= 0
    keys = (particle, semantic, np.append(event.cluster, -1)[voxel])
    columns = np.stack([*(np.where(known, key, 0) for key in keys), known]).astype(np.int64)
    order = np.lexsort(columns)
    columns = columns[:, order]
    changes = np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0))[: len(voxel)]
    first = np.flatnonzero(changes & (columns[3] > 0))
    owner, semantic, group, _ = columns[:, first]
    table = np.full((len(first) + 1, len(COLUMNS["cluster"])), MISSING, np.int64)
    table[:, 0] = np.diff([0, *first, len(voxel)])
    table[1:, GROUP] = group
    table[:, SEMANTIC] = [LOW_ENERGY, *CODES[semantic + 1]]
    table[1:, PID] = np.where(semantic == ParticleClass.HIP, PROTON, MISSING)
    table[1:, FRAGMENT] = _fragments(table[1:, 0], group)
    return order, table, np.append(-1, owner)


def _fragments(sizes: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the fragment (cluster,) of each row; that of the largest row of a group is the group.

    pimm takes momentum and mass of a group from this row.
    """
    fragment = np.arange(len(group)) + int(group.max(initial=-1)) + 1
    order = np.lexsort((-sizes, group))
    largest = order[np.append(True, np.diff(group[order]) != 0)[: len(order)]]
    largest = largest[group[largest] >= 0]
    fragment[largest] = group[largest]
    return fragment


def _carry(cluster: np.ndarray, owner: np.ndarray, source: np.ndarray) -> None:
    """Set interaction and particle code from the rows of the input; row 0 keeps those of its own.

    Args:
        cluster: (cluster, 6) the table to change.
        owner: (cluster,) row of `source`, -1 none; that of row 0 becomes 0 if row 0 of the input
            has low-energy deposits.
        source: (cluster, 6) table of the input.
    """
    if len(source) and source[0, SEMANTIC] == LOW_ENERGY:
        owner[0] = 0
    known = owner >= 0
    cluster[known, INTERACTION] = source[owner[known], INTERACTION]
    pid, track = source[owner, PID] if len(source) else owner, cluster[:, SEMANTIC] == 1
    agrees = ~track | ((pid >= PROTON) == (cluster[:, PID] == PROTON))
    cluster[:, PID] = np.where(known & agrees, pid, cluster[:, PID])


def _points(event: Event, voxels: np.ndarray) -> np.ndarray:
    """Return rows of `point` with the positions and energies of some voxels."""
    point = np.zeros((len(voxels), LAYOUTS["v3"]["point"]), np.float32)
    point[:, :3] = event.coords[voxels]
    point[:, 3] = event.energy[voxels]
    return point


def _truth(source: Tables, kept: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the table `truth`: the row in the input, and the true cluster of each voxel."""
    cluster = source["cluster"].astype(np.int64)
    true = np.repeat(cluster[:, 1:], cluster[:, 0], axis=0)
    if len(source.get("truth", ())):  # the input is a prediction itself
        true = source["truth"][:, 1:]
    return np.column_stack([row, _rows(true[kept], np.arange(len(row)))])


def _rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows of a table; those before the first or after the last are `MISSING`."""
    inside = (rows >= 0) & (rows < len(table))
    taken = np.full((len(rows), table.shape[1]), MISSING, table.dtype)
    taken[inside] = table[rows[inside]]
    return taken


def _float(table: np.ndarray) -> np.dtype:
    """Return the type of the numbers of a table; float32 or wider, also for a table of integers."""
    return np.result_type(table.dtype, np.float32)
