"""The step and the speed of a training, in a small file that its driver reads while it runs."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "speed.json"
"""The file in a trial's folder."""
STEPS = 20
"""Steps over which a speed is measured."""
EVERY = 1.0
"""Least seconds between two writes."""


@dataclass(frozen=True)
class Pulse:
    """The step of a training and its speed over the last steps.

    Attributes:
        step: the last step; None before the first.
        steps_per_second: without validations; 0 before the first step.
        voxels_per_second: of all workers.
    """

    step: int | None = None
    steps_per_second: float = 0.0
    voxels_per_second: float = 0.0


class PulseWriter:
    """Write the step and the speed of one worker, at most once per second.

    The file is no result: it is not synced to the disk, and an error of the disk is no error of the
    training.

    Args:
        path: the file to write.
        workers: that train; each has an equal share of the voxels.
    """

    def __init__(self, path: Path, workers: int = 1) -> None:
        self._path = path
        self._workers = workers
        self._recent: deque[tuple[float, int]] = deque(maxlen=STEPS)
        self._written = 0.0
        self._write(Pulse())

    def add(self, step: int, seconds: float, voxels: int, last: bool = False) -> None:
        """Add a step.

        Args:
            step: its number, from 1.
            seconds: it took.
            voxels: of this worker.
            last: whether to write it even if a write was a moment ago.
        """
        self._recent.append((seconds, voxels * self._workers))
        now = time.monotonic()
        if last or now - self._written >= EVERY:
            self._written = now
            total = max(sum(part for part, _ in self._recent), 1e-9)
            steps, done = len(self._recent) / total, sum(count for _, count in self._recent)
            self._write(Pulse(step, steps, done / total))

    def _write(self, pulse: Pulse) -> None:
        part = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            part.write_text(json.dumps(asdict(pulse)))
            os.replace(part, self._path)


def read_pulse(path: Path) -> Pulse | None:
    """Return the content of the file; None if there is none."""
    try:
        return Pulse(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
