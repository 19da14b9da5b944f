"""The tables of the input events of a prediction, for the columns that a network does not read."""

from __future__ import annotations

from threading import Lock

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import event_tables, order_by_cluster
from lartpc_ray.predict.sources import FileEvents, JoinedEvents


class InputTables:
    """The tables of the events of files; a process opens the files when it first reads.

    Threads may share an object; a copy in another process opens the files itself.

    Args:
        source: the files; all their voxels are read, also those that its layout drops.
    """

    def __init__(self, source: FileEvents) -> None:
        self._source = source
        self._events: JoinedEvents | None = None
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[InputTables], tuple[FileEvents]]:
        return InputTables, (self._source,)

    def read(self, number: int) -> tuple[Tables, np.ndarray]:
        """Return the tables of an event, and the number of each row of `point` in the file.

        The event of another format than PILArNet-M gives the tables that `write_events` writes.
        """
        with self._lock:
            if self._events is None:
                layout = self._source.layout.without_drops()
                self._events = JoinedEvents(self._source.files, layout)
            tables = self._events.tables(number)
            if tables is not None:
                return tables, np.arange(len(tables["point"]))
            event: Event = self._events[number]
        return event_tables(event), order_by_cluster(event)[0]
