"""Convert a file of events of any format to PILArNet-M v3, event by event."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.source import MAX_SIDE, EventSource
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.screen import track

COMPARED = ("coords", "energy", "semantic", "cluster")
"""Fields of an event that a PILArNet-M file keeps."""


def convert(source: EventSource, target: Path, chosen: range, *, check: bool = False) -> int:
    """Write events as a PILArNet-M v3 file, whole or not at all.

    Args:
        source: the events, in 3D.
        target: the file to write.
        chosen: the numbers of the events to write.
        check: read the result back and compare every event before the file gets its name.

    Returns:
        The number of events written.

    Raises:
        ValueError: for an event that cannot be read or that differs after reading back, with the
            file and the event.
    """
    with replace_file(target) as part:
        events = track((source[n] for n in chosen), len(chosen), "convert: event")
        count = write_events(part, events, predicted=source.predicted)
        if check:
            _compare(source, part, chosen)
    return count


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


def _compare(source: EventSource, target: Path, chosen: range) -> None:
    layout = Layout(side=MAX_SIDE, classes=ClassMap(low_energy="unlabelled"))
    with open_events(target, layout) as written:
        if len(written) != len(chosen):
            raise ValueError(f"{target}: {len(written)} events, {len(chosen)} were written")
        for row, number in enumerate(chosen):
            if differs := difference(source[number], written[row]):
                raise ValueError(
                    f"{target}: event {number} of {source.path} came back with {differs}"
                )
    log.info(f"{len(chosen)} events came back as they were")
