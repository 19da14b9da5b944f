"""Convert a file of events of any format to PILArNet-M, event by event."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.pilarnet_writer import fill_file, replace_events
from lartpc_ray.data.formats.source import EventSource, Tables
from lartpc_ray.data.formats.tables import Version, compare, event_tables, to_layout
from lartpc_ray.data.limits import MAX_SIDE
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.screen import track

COMPARED = ("coords", "energy", "semantic", "cluster")
"""Fields of an event that a PILArNet-M file keeps."""
CHANGED = (
    "%s: --low-energy, --further or --duplicates change the events; only positions, energies, "
    "classes and clusters are kept"
)


def convert(
    source: EventSource,
    target: Path,
    chosen: range,
    *,
    version: Version = "v3",
    sidecar: bool = False,
    check: bool = False,
) -> int:
    """Write events as a PILArNet-M file, whole or not at all, and log the data that it cannot hold.

    The tables of a PILArNet-M source are copied with all columns and rows, in their order, unless
    the layout of the source drops, merges or relabels voxels.

    Args:
        source: the events, in 3D.
        target: the file to write.
        chosen: the numbers of the events to write.
        version: the layout to write.
        sidecar: also write the number of voxels of each event into a file beside `target`.
        check: read the result back and compare every event before the file gets its name.

    Returns:
        The number of events written.

    Raises:
        ValueError: for an event that cannot be read or that differs after reading back, with the
            file and the event.
    """
    copied = keeps_all(source.layout)
    if not copied and len(chosen) and source.tables(chosen[0]) is not None:
        log.info(CHANGED, source.path)
    lost: Counter[tuple[str, str]] = Counter()

    def converted(number: int) -> Tables:
        tables = _tables(source, number, copied=copied)
        written = to_layout(tables, version)
        lost.update(compare(tables, written)[1])
        return written

    with replace_events(target, sidecar=sidecar) as (part, sizes):
        events = track((converted(n) for n in chosen), len(chosen), "convert: event")
        sizes += fill_file(part, events, version=version, predicted=source.predicted)
        if check:
            _compare(source, part, chosen, copied=copied)
    for line in _lost_lines(lost, version):
        log.info(line)
    for line in source.left_out():
        log.info(f"left out: {line}")
    return len(sizes)


def keeps_all(layout: Layout) -> bool:
    """Return whether a layout keeps all voxels with the codes that the file has."""
    classes = layout.classes
    kept = ClassMap(low_energy="unlabelled", further=classes.further)
    return layout.duplicates == "error" and classes == kept and {*classes.further} <= {"unlabelled"}


def difference(first: Event, second: Event) -> str | None:
    """Describe the first field in which two events differ, in any order of the voxels."""
    if len(first) != len(second):
        return f"{len(first)} and {len(second)} voxels"
    order, other_order = (np.lexsort(event.coords.T) for event in (first, second))
    for name in COMPARED:
        differs = getattr(first, name)[order] != getattr(second, name)[other_order]
        if differs.any():
            return f"{int(differs.sum())} values of {name}"
    return None


def _tables(source: EventSource, number: int, *, copied: bool) -> Tables:
    """Return the tables of an event, as the file holds them or as those of a sound `Event`."""
    event = source[number]
    tables = source.tables(number) if copied else None
    return event_tables(event) if tables is None else tables


def _compare(source: EventSource, target: Path, chosen: range, *, copied: bool) -> None:
    """Compare all columns and rows that the target has; and the events, if they are not copied."""
    further = source.layout.classes.further
    classes = ClassMap(low_energy="unlabelled", further=further)
    with open_events(target, Layout(side=MAX_SIDE, classes=classes)) as written:
        if len(written) != len(chosen):
            raise ValueError(f"{target}: {len(written)} events, {len(chosen)} were written")
        for row, number in enumerate(chosen):
            tables, event = _tables(source, number, copied=copied), source[number]
            read = written.tables(row)
            assert read is not None
            differs, _ = compare(tables, read)
            if not copied or source.tables(number) is None:
                known = event if read["cluster"].shape[1] > 5 else _without_hip(event)
                differs = differs or difference(known, written[row])
            if differs:
                raise ValueError(
                    f"{target}: event {number} of {source.path} came back with {differs}"
                )
    log.info(f"{len(chosen)} events came back as they were")


def _without_hip(event: Event) -> Event:
    """Return an event as v1 holds it, without particle codes."""
    semantic = np.where(event.semantic == ParticleClass.HIP, ParticleClass.MIP, event.semantic)
    return replace(event, semantic=semantic.astype(np.int32))


def _lost_lines(lost: Counter[tuple[str, str]], version: Version) -> list[str]:
    """Name what a layout does not hold, one line per dataset; values of -1 are not known."""
    datasets: dict[str, list[str]] = {}
    for (name, column), values in lost.items():
        if values:
            datasets.setdefault(name, []).append(f"{column} ({values})")
    return [
        f"left out: {name}: layout {version} has no {', '.join(columns)}"
        for name, columns in datasets.items()
    ]
