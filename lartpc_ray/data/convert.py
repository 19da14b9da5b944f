"""Any file of events -> PILArNet-M v3, event by event."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout
from lartpc_ray.data.formats.source import MOST_SIDE, EventSource
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.screen import track

KEPT = ("coords", "energy", "semantic", "cluster")
"""What a PILArNet-M file keeps of an event."""


def convert(source: EventSource, target: Path, chosen: range, *, check: bool = False) -> int:
    """Write events of a file as PILArNet-M v3; the file is there when all of it is right.

    Args:
        source: the events, in 3D.
        target: to write; a killed conversion leaves no such file, or the one that was there.
        chosen: numbers of the events to write.
        check: read the result back and compare every event before it takes its name.

    Returns:
        the number of events written.

    Raises:
        ValueError: naming file and event that cannot be read, or that came back different.
    """
    with replace_file(target) as part:
        events = track((source[n] for n in chosen), len(chosen), "convert: event")
        count = write_events(part, events, predicted=source.predicted)
        if check:
            _compare(source, part, chosen)
    return count


def difference(one: Event, other: Event) -> str | None:
    """The first thing in which two events differ, whatever the order of their voxels."""
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} voxels"
    mine, theirs = (np.lexsort(event.coords.T) for event in (one, other))
    for name in KEPT:
        differs = getattr(one, name)[mine] != getattr(other, name)[theirs]
        if differs.any():
            return f"{int(differs.sum())} values of {name}"
    return None


def _compare(source: EventSource, target: Path, chosen: range) -> None:
    layout = Layout(side=MOST_SIDE, classes=ClassMap(low_energy="unlabelled"))
    with open_events(target, layout) as written:
        if len(written) != len(chosen):
            raise ValueError(f"{target}: {len(written)} events, {len(chosen)} were written")
        pairs = ((n, source[n], written[place]) for place, n in enumerate(chosen))
        for n, event, back in pairs:
            differs = difference(event, back)
            if differs:
                raise ValueError(f"{target}: event {n} of {source.path} came back with {differs}")
    log.info(f"{len(chosen)} events came back as they were")
