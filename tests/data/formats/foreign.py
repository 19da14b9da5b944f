"""Small files in the layouts of other programs, written from their descriptions.

* edep-sim segments as larnd-sim's `cli/dumpTree.py` writes them, with both spellings of the fields.
* MicroBooNE OpenSamples (`filecontent-hdf5.md` of uboone/OpenSamples), with ph5concat's counts.
* CSV and Parquet tables as pandas and pyarrow write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

SEGMENT = [
    *(("event_id", "u4"), ("vertex_id", "u8"), ("segment_id", "u4"), ("z_end", "f4")),
    *(("traj_id", "u4"), ("file_traj_id", "u4"), ("tran_diff", "f4"), ("z_start", "f4")),
    *(("x_end", "f4"), ("y_end", "f4"), ("n_electrons", "u4"), ("pdg_id", "i4")),
    *(("x_start", "f4"), ("y_start", "f4"), ("t_start", "f4"), ("t0_start", "f8")),
    *(("t0_end", "f8"), ("t0", "f8"), ("dx", "f4"), ("long_diff", "f4"), ("pixel_plane", "i4")),
    *(("t_end", "f4"), ("dEdx", "f4"), ("dE", "f4"), ("t", "f4"), ("y", "f4"), ("x", "f4")),
    *(("z", "f4"), ("n_photons", "f4")),
]
TRAJECTORY: list[tuple[Any, ...]] = [
    *(("event_id", "u4"), ("vertex_id", "u8"), ("traj_id", "u4"), ("file_traj_id", "u4")),
    *(("parent_id", "i4"), ("pxyz_start", "f4", (3,)), ("xyz_start", "f4", (3,))),
    *(("t_start", "f4"), ("pxyz_end", "f4", (3,)), ("xyz_end", "f4", (3,)), ("t_end", "f4")),
    *(("pdg_id", "i4"), ("start_process", "u4"), ("start_subprocess", "u4")),
    *(("end_process", "u4"), ("end_subprocess", "u4")),
]
OLD = {
    "event_id": "eventID",
    "vertex_id": "vertexID",
    "traj_id": "trackID",
    "pdg_id": "pdgId",
    "parent_id": "parentID",
}
"""Field of the present layout to its name in files before 2023."""
PARTICLES = {
    0: (13, -1, 0, 0),  # muon
    1: (11, 0, 6, 201),  # its decay electron
    2: (22, 1, 2, 3),  # a photon of that electron
    3: (11, 0, 2, 2),  # a delta electron of the muon
    4: (2212, -1, 0, 0),
    5: (22, -1, 0, 0),  # a photon that starts a shower
    6: (11, 5, 2, 14),
    7: (1000020040, 4, 4, 121),  # an alpha
}
"""Trajectory: PDG code, parent, process and subprocess."""
CLASSES = {0: 1, 1: 4, 2: 4, 3: 3, 4: 0, 5: 2, 6: 2, 7: 0}
"""Trajectory to its class."""


Segment = tuple[int, tuple[float, ...], tuple[float, ...], float]
"""Trajectory, start and end [cm], deposited energy [MeV]."""


def random_segments(count: int, seed: int) -> list[Segment]:
    rng = np.random.default_rng(seed)
    return [
        (n % 8, tuple(rng.uniform(-9, 9, 3)), tuple(rng.uniform(-9, 9, 3)), 1.0 + n)
        for n in range(count)
    ]


def write_segments(
    path: Path,
    segments: Mapping[int, Sequence[Segment]],
    *,
    old: bool = False,
    trajectories: bool = True,
) -> None:
    """Write the segments of each event, with the particles of `PARTICLES`."""
    rows = [(event, *segment) for event, of_event in segments.items() for segment in of_event]
    table = np.zeros(len(rows), np.dtype(SEGMENT, align=True))
    for row, (event, trajectory, start, end, energy) in zip(table, rows, strict=True):
        row["event_id"], row["traj_id"], row["dE"] = event, trajectory, energy
        row["vertex_id"], row["file_traj_id"] = 1_000_000 + event, 100 * event + trajectory
        row["pdg_id"] = PARTICLES[trajectory][0]
        for axis, name in enumerate("xyz"):
            row[f"{name}_start"], row[f"{name}_end"] = start[axis], end[axis]
    table["segment_id"] = np.arange(len(rows))
    known = [(event, *item) for event in segments for item in PARTICLES.items()]
    particles = np.zeros(len(known), np.dtype(TRAJECTORY, align=True))
    for row, (event, number, (pdg, parent, process, subprocess)) in zip(
        particles, known, strict=True
    ):
        row["event_id"], row["vertex_id"] = event, 1_000_000 + event
        row["traj_id"], row["parent_id"], row["pdg_id"] = number, parent, pdg
        row["start_process"], row["start_subprocess"] = process, subprocess
    with h5py.File(path, "w") as file:
        for name, values in (("segments", table), ("trajectories", particles)):
            if old:
                names = [OLD.get(field, field) for field in values.dtype.names or ()]
                values.dtype.names = tuple(names)
            if trajectories or name == "segments":
                file.create_dataset(name, data=values, maxshape=(None,), chunks=(64,))


Hit = tuple[int, int, float, float]
"""Plane, wire, time, integral."""


def write_hits(
    path: Path,
    events: dict[tuple[int, int, int], list[Hit]],
    deposits: dict[tuple[int, int, int], list[tuple[int, int, float]]],
    *,
    counts: bool = True,
    truth: bool = True,
) -> None:
    """Write event to hits, and event to deposits (hit, particle, share).

    Particle n has the category n and the instance n, which is -1 for a delta electron.
    """
    with h5py.File(path, "w") as file:
        every = list(events)
        hits = [(event, n, *hit) for event in every for n, hit in enumerate(events[event])]
        _write_table(file, "event_table", every, every, counts, {"is_cc": ("i4", [1] * len(every))})
        columns: dict[str, tuple[str, list[Any]]] = {
            "hit_id": ("i4", [row[1] for row in hits]),
            "local_plane": ("i4", [row[2] for row in hits]),
            "local_wire": ("i4", [row[3] for row in hits]),
            "local_time": ("f4", [row[4] for row in hits]),
            "integral": ("f4", [row[5] for row in hits]),
            "rms": ("f4", [1.0] * len(hits)),
        }
        _write_table(file, "hit_table", every, [row[0] for row in hits], counts, columns)
        if not truth:
            return
        below = [(event, *item) for event in every for item in deposits.get(event, [])]
        columns = {
            "hit_id": ("i4", [row[1] for row in below]),
            "g4_id": ("i4", [row[2] for row in below]),
            "energy_fraction": ("f4", [row[3] for row in below]),
        }
        _write_table(file, "edep_table", every, [row[0] for row in below], counts, columns)
        owners = [(event, number) for event in every for number in range(9)]
        columns = {
            "g4_id": ("i4", [number for _, number in owners]),
            "category": ("i4", [number for _, number in owners]),
            "instance": ("i4", [-1 if number == 6 else number for _, number in owners]),
        }
        _write_table(file, "particle_table", every, [row[0] for row in owners], counts, columns)


def _write_table(
    file: h5py.File,
    name: str,
    every: list[tuple[int, int, int]],
    owners: list[tuple[int, int, int]],
    counts: bool,
    columns: dict[str, tuple[str, list[Any]]],
) -> None:
    group = file.create_group(name)
    for column, (kind, values) in columns.items():
        data = np.array(values, kind).reshape(-1, 1)
        group.create_dataset(
            column, data=data, maxshape=(None, 1), chunks=(128, 1), compression="gzip"
        )
    ids = np.array(owners, "i4").reshape(-1, 3)
    group.create_dataset("event_id", data=ids, maxshape=(None, 3), chunks=(128, 3))
    if counts:
        rows = [(n, owners.count(event)) for n, event in enumerate(every) if event in owners]
        group.create_dataset("event_id.seq_cnt", data=np.array(rows, "i8").reshape(-1, 2))


def write_csv(path: Path, columns: dict[str, Any], separator: str = ",") -> None:
    """Write columns as `DataFrame.to_csv(index=False)` does."""
    lines = [separator.join(columns)]
    lines += [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path: Path, columns: dict[str, Any], rows: int = 1000) -> None:
    """Write columns in row groups of so many rows."""
    parquet.write_table(pa.table(columns), path, row_group_size=rows)


def voxels(events: int = 3, count: int = 40, seed: int = 0) -> dict[str, Any]:
    """Return a table of events 10, 20, ... with `count` voxels each."""
    rng = np.random.default_rng(seed)
    table: dict[str, list[Any]] = {
        name: [] for name in ("event", "x", "y", "z", "energy", "class", "cluster")
    }
    for event in range(events):
        places = rng.choice(100**3, count, replace=False)
        for name, values in zip("xyz", np.unravel_index(places, (100,) * 3), strict=True):
            table[name] += values.tolist()
        table["event"] += [10 * (event + 1)] * count
        table["energy"] += [float(f"{value:.4f}") for value in rng.exponential(0.5, count)]
        cluster = rng.integers(-1, 4, count)
        table["cluster"] += cluster.tolist()
        table["class"] += np.where(cluster < 0, -1, cluster).tolist()
    return table
