"""Read MicroBooNE's OpenSamples, HDF5 tables of pynuml and ph5concat, as 2D images of one plane.

A table is a group with one dataset per column, (row, 1), and `event_id` (row, 3): run, subrun,
event. `event_id.seq_cnt` (event, 2), which ph5concat adds, has the number of the event and of its
rows. Read are:

* `hit_table`: local_plane, local_wire, local_time [ticks], integral [ADC], hit_id.
* `edep_table`: hit_id, g4_id, energy_fraction (or energy) of the particles below a hit.
* `particle_table`: g4_id, category, instance.

A hit belongs to the particle of its largest share of energy. A hit without one is of a cosmic ray
from data, and has no class.
"""

from __future__ import annotations

import h5py
import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.hdf5_tables import (
    STEP,
    TableFile,
    find_column,
    group_rows,
    match_events,
    read_rows,
)
from lartpc_ray.data.formats.source import FLAT_SIDES, apply_codes, find_side
from lartpc_ray.data.formats.vlen import FileBytes

HITS = {
    "hit_id": "iu",
    "local_plane": "iu",
    "local_wire": "iu",
    "local_time": "fiu",
    "integral": "fiu",
}
DEPOSITS = {"hit_id": "iu", "g4_id": "iu"}
PARTICLES = {"g4_id": "iu", "category": "iu", "instance": "iu"}
"""Columns of the tables, and the kinds of their numbers."""
SHARES = ("energy_fraction", "energy")
NO_TRUTH = "no edep_table and particle_table with category and instance: hits have no class"
MAX_SIDE_EVENTS = 200


class HitTable:
    """A table of the file: its columns, and the rows of each event."""

    def __init__(
        self, file: h5py.File, content: FileBytes, name: str, columns: dict[str, str]
    ) -> None:
        self.name = name
        self._columns = {
            column: find_column(file, f"{name}/{column}", kinds, content)
            for column, kinds in columns.items()
        }
        ids = find_column(file, f"{name}/event_id", "iu", content, width=3)
        lengths = {column: len(data) for column, data in self._columns.items()}
        for column, length in lengths.items():
            if length != len(ids):
                raise ValueError(f"{name}/{column} has {length} rows, event_id {len(ids)}")
        self.events, self.starts = self._find_events(file, content, ids)

    def _find_events(
        self, file: h5py.File, content: FileBytes, ids: h5py.Dataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of the events and their first rows, from the counts if they are there."""
        count_name = f"{self.name}/event_id.seq_cnt"
        if count_name not in file:
            pieces = (ids[n : n + STEP] for n in range(0, len(ids), STEP))
            return group_rows(pieces, self.name)
        counts = find_column(file, count_name, "iu", content, width=2)
        rows = np.asarray(counts[:]).astype(np.int64)[:, 1]
        starts = np.append(0, np.cumsum(rows))
        if (rows < 0).any() or starts[-1] != len(ids):
            raise ValueError(f"{count_name} counts {starts[-1]} rows, event_id has {len(ids)}")
        first = starts[:-1][rows > 0]
        found = [ids[row] for row in first]
        events = np.array(found, np.int64).reshape(-1, 3)
        return events, np.append(first, len(ids))

    def rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Read rows, column by column."""
        return {
            column: read_rows(data, f"{self.name}/{column}", first, last).reshape(-1)
            for column, data in self._columns.items()
        }

    def refuse(
        self, wrong: np.ndarray, column: str, values: np.ndarray, rows: np.ndarray, advice: str
    ) -> None:
        """Raise for the first value where `wrong` is true; `rows` are its rows in the file."""
        if wrong.any():
            place = int(np.argmax(wrong))
            raise ValueError(f"{self.name} row {rows[place]}, {column} {values[place]:g}: {advice}")


class HitFile(TableFile):
    """Random access to the events of a file of OpenSamples, as images of wires and ticks.

    The layout gives `side`, and `hits` with the plane.
    """

    def _find_events(self) -> None:
        plane = self.layout.hits.plane
        if plane is None:
            raise ValueError(
                "hits are 2D images: give the plane (--plane 2; data.splits.layout.hits.plane)"
            )
        self.kind = f"MicroBooNE hits, plane {plane}"
        self._hits = HitTable(self._file, self._content, "hit_table", HITS)

    def _side(self) -> int:
        step = -(-len(self) // MAX_SIDE_EVENTS) or 1
        return find_side((self._pixels(n)[0] for n in range(0, len(self), step)), FLAT_SIDES)

    def __len__(self) -> int:
        return len(self._hits.events)

    def _find_truth(self) -> None:
        """Find the tables of the deposits and the particles, if the file has them."""
        self._truth: tuple[HitTable, HitTable] | None = None
        share = next((name for name in SHARES if f"edep_table/{name}" in self._file), None)
        needed = [f"particle_table/{name}" for name in PARTICLES]
        if share is None or not all(name in self._file for name in needed):
            self.limits = NO_TRUTH
            return
        self._share = share
        columns = DEPOSITS | {share: "fiu"}
        self._truth = (
            HitTable(self._file, self._content, "edep_table", columns),
            HitTable(self._file, self._content, "particle_table", PARTICLES),
        )
        self._rows = [
            match_events(self._hits.events, table.events, table.starts) for table in self._truth
        ]

    def _pixels(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return pixel (wire, tick) and the columns of the hits of the plane, with their rows."""
        first, last = int(self._hits.starts[index]), int(self._hits.starts[index + 1])
        rows = self._hits.rows(first, last) | {"row": np.arange(first, last)}
        chosen = rows["local_plane"] == self.layout.hits.plane
        rows = {column: values[chosen] for column, values in rows.items()}
        for column in ("local_wire", "local_time", "integral"):
            values = rows[column].astype(np.float64)
            wrong = ~(np.isfinite(values) & (values >= 0) & (values < 2**30))
            advice = "give a finite number, not negative"
            self._hits.refuse(wrong, column, values, rows["row"], advice)
        ticks = np.floor(rows["local_time"].astype(np.float64) / self.layout.hits.ticks)
        return np.stack([rows["local_wire"], np.minimum(ticks, 2**30)], 1).astype(np.int64), rows

    def _event(self, index: int) -> Event:
        pixel, rows = self._pixels(index)
        side = self.layout.side
        advice = f"outside the image of {side} pixels; give the side (--side)"
        for axis, column in enumerate(("local_wire", "local_time")):
            wrong = pixel[:, axis] >= side
            self._hits.refuse(wrong, column, rows[column], rows["row"], advice)
        semantic, cluster, kept = self._hit_truth(index, rows["hit_id"])
        kept &= rows["integral"] > 0
        return Event.of(
            pixel[kept],
            rows["integral"][kept],
            (side, side),
            semantic=semantic[kept],
            cluster=cluster[kept],
            merge=True,  # the truth of a pixel is that of its largest hit
        )

    def _hit_truth(self, index: int, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return class and cluster of hits, and whether to keep them."""
        semantic, cluster = np.full((2, len(hit)), -1, np.int64)
        kept = np.ones(len(hit), bool)
        if self._truth is None:
            return semantic, cluster, kept
        bounds = [(int(first[index]), int(last[index])) for first, last in self._rows]
        below, above = self._truth
        deposits, particles = below.rows(*bounds[0]), above.rows(*bounds[1])
        share, places = deposits[self._share].astype(np.float64), np.arange(*bounds[0])
        below.refuse(~np.isfinite(share), self._share, share, places, "give a finite number")
        order = np.lexsort((-share, deposits["hit_id"]))
        row = _match(hit, deposits["hit_id"][order])
        owner = deposits["g4_id"][order][row] if len(order) else np.zeros(len(hit), np.int64)
        by_id = np.argsort(particles["g4_id"], kind="stable")
        particle = _match(owner, particles["g4_id"][by_id])
        known = (row >= 0) & (particle >= 0)
        chosen = by_id[particle[known]]
        places, codes = bounds[1][0] + chosen, len(self.layout.hits.categories)
        category = particles["category"].astype(np.int64)[chosen]
        wrong, advice = (category < 0) | (category >= codes), f"0 to {codes - 1} are known"
        above.refuse(wrong, "category", category, places, advice)
        instance = particles["instance"].astype(np.int64)[chosen]
        wrong, advice = (instance < -1) | (instance >= 2**31), "give -1 or a number below 2**31"
        above.refuse(wrong, "instance", instance, places, advice)
        semantic[known], kept[known] = apply_codes(category, self.layout.hits.categories)
        cluster[known] = instance
        cluster[semantic < 0] = -1
        return semantic, cluster, kept


def _match(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return the first place of each value in ascending numbers, -1 if it is absent."""
    if not len(ordered):
        return np.full(len(values), -1)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.where(ordered[place] == values, place, -1)
