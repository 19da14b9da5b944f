"""Read the segments of edep-sim, in the HDF5 files that larnd-sim reads and writes, as voxels.

`segments` has one row per step of a particle: event, trajectory, PDG code, start and end [cm] and
the deposited energy dE [MeV]. `trajectories` has one row per particle: its parent and the process
that made it, which tell Michel and delta electrons from showers. Two spellings of the fields are
known (`eventID`, `trackID`, `pdgId`; `event_id`, `traj_id`, `pdg_id`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event, voxel_keys
from lartpc_ray.data.formats.hdf5_tables import (
    STEP,
    TableFile,
    find_table,
    group_rows,
    match_events,
    read_rows,
)
from lartpc_ray.data.formats.larcv_products import HIP_TYPES, NUCLEI
from lartpc_ray.data.formats.source import (
    MAX_EVENT_VOXELS,
    find_side,
    list_names,
)

EVENT = ("event_id", "spillID", "eventID")
VERTEX = ("vertex_id", "vertexID")
TRAJECTORY = ("traj_id", "trackID")
PDG = ("pdg_id", "pdgId")
PARENT = ("parent_id", "parentID")
"""Spellings of a field, the first that is there."""
STARTS, ENDS = ("x_start", "y_start", "z_start"), ("x_end", "y_end", "z_end")
ELECTRON, PHOTON, MUON = 11, 22, 13
DECAY, ELECTROMAGNETIC, IONISATION = 6, 2, 2
HADRONIC, MUON_CAPTURE = 4, 132
"""Geant4's numbers of the types and subtypes of processes."""
NO_PARTICLES = "no trajectories in the file: Michel and delta electrons are SHOWER"
ROUNDING = 1e-6
"""Voxels by which a position may lie before the origin, which is rounded to the pitch."""
GENERATIONS = 64
"""Doublings of the ancestors that are followed; more than any chain needs."""


class SegmentFile(TableFile):
    """Random access to the events of a file of segments.

    The layout gives `side`, and `segments` with pitch and origin.
    """

    def _find_events(self) -> None:
        settings = self.layout.segments
        self.kind = f"edep-sim segments, voxels of {settings.pitch:g} cm"
        self._segments = find_table(self._file, "segments", self._content)
        self._fields = _find_fields(self._segments, settings.event)
        numbers = self._segments.fields(self._fields["event"])
        pieces = (numbers[n : n + STEP] for n in range(0, len(self._segments), STEP))
        self._events, self._starts = group_rows(pieces, "segments")
        low, self._high = self._bounds()
        self._origin = low if settings.origin is None else settings.origin

    def _side(self) -> int:
        return find_side([np.floor((self._high - self._origin) / self.layout.segments.pitch)])

    def __len__(self) -> int:
        return len(self._events)

    def _find_truth(self) -> None:
        """Find the rows of `trajectories` of each event, if the file has this table."""
        self._particles = None
        if "trajectories" not in self._file:
            self.limits = NO_PARTICLES
            return
        self._particles = find_table(self._file, "trajectories", self._content)
        self._parts = _find_particle_fields(self._particles, self._fields["event"])
        if ("vertex" in self._parts) != ("vertex" in self._fields):
            self._parts.pop("vertex", None)
            self._fields.pop("vertex", None)
        numbers = self._particles.fields(self._parts["event"])
        pieces = (numbers[n : n + STEP] for n in range(0, len(self._particles), STEP))
        self._first, self._last = match_events(self._events, *group_rows(pieces, "trajectories"))

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest corner of all segments, a multiple of the pitch, and the highest."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for first in range(0, len(self._segments), STEP):
            rows = self._segments.fields([*STARTS, *ENDS])[first : first + STEP]
            for names in (STARTS, ENDS):
                points = _columns(rows, names, "segments", first)
                low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(0))
        if not np.isfinite(low).all():
            return np.zeros(3), np.zeros(3)
        return np.floor(low / self.layout.segments.pitch) * self.layout.segments.pitch, high

    def _event(self, index: int) -> Event:
        first, last = int(self._starts[index]), int(self._starts[index + 1])
        names = list(dict.fromkeys([*self._fields.values(), *STARTS, *ENDS, "dE"]))
        rows = read_rows(self._segments.fields(names), "segments", first, last)
        energy = rows["dE"].astype(np.float64)
        _refuse_row(~(np.isfinite(energy) & (energy >= 0)), energy, "segments", "dE", first)
        pitch = self.layout.segments.pitch
        ends = [
            (_columns(rows, given, "segments", first) - self._origin) / pitch
            for given in (STARTS, ENDS)
        ]
        side = self.layout.side
        for number, axis in np.ndindex(2, 3):
            name = (STARTS, ENDS)[number][axis]
            place = ends[number][:, axis]
            place[(place < 0) & (place > -ROUNDING)] = 0
            _refuse_row(
                (place < 0) | (place > side),
                rows[name],
                *("segments", name, first),
                f"outside the image of {side} voxels of {pitch:g} cm from "
                f"{self._origin[axis]:g} cm; give the side (--side) or segments.origin",
            )
        segment, voxel, share = split_segments(*ends)
        voxel = np.minimum(voxel, side - 1)
        cluster, semantic = self._truth(rows, index)
        return self._voxels(voxel, energy[segment] * share, cluster[segment], semantic[segment])

    def _voxels(
        self, voxel: np.ndarray, energy: np.ndarray, cluster: np.ndarray, semantic: np.ndarray
    ) -> Event:
        """Add the energies of each voxel; its truth is that of the cluster of most energy."""
        shape = (self.layout.side,) * 3
        key = voxel_keys(voxel, shape)
        order = np.lexsort((cluster, key))
        key, cluster, semantic = key[order], cluster[order], semantic[order]
        new = np.append(True, (np.diff(key) != 0) | (np.diff(cluster) != 0))[: len(key)]
        deposit = np.bincount(np.cumsum(new) - 1, energy[order]) if len(key) else energy
        coords = np.stack(np.unravel_index(key[new], shape), axis=1).astype(np.int32)
        kept = deposit > 0
        return Event.of(
            coords[kept],
            deposit[kept],
            shape,
            semantic=semantic[new][kept],
            cluster=cluster[new][kept],
            merge=True,
        )

    def _truth(self, rows: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return cluster, counted from 0, and class of each segment."""
        fields = self._fields
        vertex = rows[fields["vertex"]] if "vertex" in fields else np.zeros(len(rows), np.int64)
        keys = np.stack([vertex.astype(np.int64), rows[fields["trajectory"]].astype(np.int64)], 1)
        pdg = rows[fields["pdg"]].astype(np.int64)
        root = keys
        semantic = classify(pdg)
        if self._particles is not None:
            first, last = int(self._first[index]), int(self._last[index])
            names = list(dict.fromkeys(self._parts.values()))
            table = read_rows(self._particles.fields(names), "trajectories", first, last)
            root, semantic = assign_particles(
                keys, pdg, {name: table[field] for name, field in self._parts.items()}
            )
        _, cluster = np.unique(root, axis=0, return_inverse=True)
        return cluster.reshape(-1).astype(np.int64), semantic


def split_segments(
    start: Float[np.ndarray, "segment 3"], end: Float[np.ndarray, "segment 3"]
) -> tuple[Int[np.ndarray, " piece"], Int[np.ndarray, "piece 3"], Float[np.ndarray, " piece"]]:
    """Cut segments where they enter another voxel.

    Args:
        start, end: in units of a voxel; voxel n spans n to n + 1.

    Returns:
        for each piece its segment, its voxel, and its share of the segment's length; the shares of
        a segment add up to 1.

    Raises:
        ValueError: for more than 4,000,000 pieces.

    Example:
        >>> segment, voxel, share = split_segments(
        ...     np.array([[0.5, 0.5, 0.5]]), np.array([[2.5, 0.5, 0.5]]))
        >>> voxel[:, 0].tolist(), share.tolist()
        ([0, 1, 2], [0.25, 0.5, 0.25])
    """
    crossed = np.abs(np.floor(end) - np.floor(start)).astype(np.int64)
    if crossed.sum() + len(start) > MAX_EVENT_VOXELS:
        raise ValueError(f"segments through {crossed.sum()} voxels; the file or the pitch is wrong")
    segment = [np.repeat(np.arange(len(start)), 2)]
    place = [np.tile([0.0, 1.0], len(start))]
    for axis in range(3):
        owner = np.repeat(np.arange(len(start)), crossed[:, axis])
        rank = np.arange(len(owner)) - np.repeat(
            np.cumsum(crossed[:, axis]) - crossed[:, axis], crossed[:, axis]
        )
        low = np.minimum(start[owner, axis], end[owner, axis])
        wall = np.floor(low) + 1 + rank
        length = end[owner, axis] - start[owner, axis]
        segment.append(owner)
        place.append(np.clip((wall - start[owner, axis]) / length, 0, 1))
    owner, cut = np.concatenate(segment), np.concatenate(place)
    order = np.lexsort((cut, owner))
    owner, cut = owner[order], cut[order]
    share = np.diff(cut)
    still = (start == end).all(axis=1)
    piece = (owner[1:] == owner[:-1]) & ((share > 0) | still[owner[1:]])
    share = np.where(still[owner[1:]], 1.0, share)[piece]
    middle = ((cut[1:] + cut[:-1]) / 2)[piece]
    owner = owner[1:][piece]
    inside = start[owner] + middle[:, None] * (end - start)[owner]
    return owner, np.floor(inside).astype(np.int64), share


def classify(pdg: Int[np.ndarray, " particle"]) -> Int[np.ndarray, " particle"]:
    """Return the class of particles by their PDG codes alone.

    Example:
        >>> [ParticleClass(number).name for number in classify(np.array([2212, 13, 22]))]
        ['HIP', 'MIP', 'SHOWER']
    """
    heavy = np.isin(pdg, HIP_TYPES) | (np.abs(pdg) >= NUCLEI)
    light = _is_electromagnetic(pdg)
    return np.where(
        heavy, ParticleClass.HIP, np.where(light, ParticleClass.SHOWER, ParticleClass.MIP)
    ).astype(np.int64)


def _is_electromagnetic(pdg: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(pdg) == ELECTRON) | (pdg == PHOTON))


def assign_particles(
    keys: Int[np.ndarray, "segment 2"],
    pdg: Int[np.ndarray, " segment"],
    particles: Mapping[str, np.ndarray],
) -> tuple[Int[np.ndarray, "segment 2"], Int[np.ndarray, " segment"]]:
    """Return the particle that each segment belongs to, and its class.

    Electrons and photons belong to their first ancestor that is one: a shower is one cluster. It
    is Michel if a muon decayed into it, delta if it was ionised by a particle that is none of
    them.

    Args:
        keys: (vertex, trajectory) of the segments.
        pdg: PDG codes of the segments, for those whose trajectory is absent.
        particles: columns vertex, trajectory, parent, pdg, process, subprocess of the event's
            trajectories.
    """
    count = len(particles["trajectory"])
    vertex = particles.get("vertex", np.zeros(count)).astype(np.int64)
    own = np.stack([vertex, particles["trajectory"].astype(np.int64)], axis=1)
    codes = particles["pdg"].astype(np.int64)
    parent = _find_rows(np.stack([vertex, particles["parent"].astype(np.int64)], 1), own)
    light = _is_electromagnetic(codes)
    above = np.where(light & (parent >= 0) & light[parent], parent, np.arange(count))
    for _ in range(GENERATIONS):  # doubles the generations that are passed over
        further = above[above]
        if (further == above).all():
            break
        above = further
    semantic = classify(codes)
    mother = np.where(parent >= 0, codes[parent] if count else 0, 0)
    process, subprocess = (particles[name].astype(np.int64) for name in ("process", "subprocess"))
    ended = (process == DECAY) | ((process == HADRONIC) & (subprocess == MUON_CAPTURE))
    michel = light & (np.abs(mother) == MUON) & ended
    ionised = (process == ELECTROMAGNETIC) & (subprocess == IONISATION)
    delta = light & (mother != 0) & ~_is_electromagnetic(mother) & ionised
    semantic[michel], semantic[delta] = ParticleClass.MICHEL, ParticleClass.DELTA
    row = _find_rows(keys, own)
    known = row >= 0
    root, found = keys.copy(), classify(pdg)
    root[known], found[known] = own[above[row[known]]], semantic[above[row[known]]]
    return root, found


def _find_rows(keys: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the row in `own` of each key, -1 if it is absent."""
    both = np.concatenate([own, keys])
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.reshape(-1)
    row = np.full(len(both) + 1, -1)
    row[number[: len(own)]] = np.arange(len(own))
    return row[number[len(own) :]]


def _find_fields(table: Any, event: str | None) -> dict[str, str]:
    """Return the fields of `segments` by their meaning."""
    fields = _names(table, "segments", (*STARTS, *ENDS, "dE"), "f")
    if event is not None and event not in fields:
        raise ValueError(f"segments.event {event!r}: no such field (found: {list_names(fields)})")
    found = {"event": event} if event is not None else _choose(fields, {"event": EVENT}, "segments")
    found |= _choose(fields, {"trajectory": TRAJECTORY, "pdg": PDG}, "segments")
    return found | _find_vertex(fields)


def _find_particle_fields(table: Any, event: str) -> dict[str, str]:
    needed = (event, "start_process", "start_subprocess")
    fields = _names(table, "trajectories", needed, "iu")
    wanted = {"trajectory": TRAJECTORY, "pdg": PDG, "parent": PARENT}
    found = {"event": event, "process": "start_process", "subprocess": "start_subprocess"}
    found |= _choose(fields, wanted, "trajectories")
    return found | _find_vertex(fields)


def _find_vertex(fields: Mapping[str, Any]) -> dict[str, str]:
    name = next((name for name in VERTEX if name in fields and fields[name].kind in "iu"), None)
    return {} if name is None else {"vertex": name}


def _names(table: Any, name: str, needed: tuple[str, ...], kinds: str) -> dict[str, Any]:
    """Return the fields of a compound table with their types, after a check of the needed ones."""
    kind = table.dtype
    fields = {field: kind[field] for field in kind.names or ()}
    for field in needed:
        if field not in fields:
            raise ValueError(f"{name} has no field {field} (found: {list_names(fields)})")
        if fields[field].kind not in kinds:
            raise ValueError(f"{name}: {field} holds {fields[field]}, which it cannot be")
    return fields


def _choose(
    fields: Mapping[str, Any], wanted: Mapping[str, tuple[str, ...]], name: str
) -> dict[str, str]:
    found = {}
    for meaning, spellings in wanted.items():
        field = next((one for one in spellings if one in fields), None)
        if field is None:
            raise ValueError(
                f"{name} has no field {' or '.join(spellings)} (found: {list_names(fields)})"
            )
        if fields[field].kind not in "iu":
            raise ValueError(f"{name}: {field} holds {fields[field]}, which it cannot be")
        found[meaning] = field
    return found


def _columns(rows: np.ndarray, names: tuple[str, ...], table: str, first: int) -> np.ndarray:
    """Return fields as finite float64 columns."""
    for name in names:
        _refuse_row(~np.isfinite(rows[name]), rows[name], table, name, first)
    return np.stack([rows[name].astype(np.float64) for name in names], axis=1)


def _refuse_row(
    wrong: np.ndarray, values: np.ndarray, table: str, column: str, first: int, advice: str = ""
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        advice = advice or "give finite numbers, and energies that are not negative"
        raise ValueError(f"{table} row {first + row}, {column} {values[row]}: {advice}")
