"""What a piece of work took, and which of several trials are worth what they cost."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Bool, Float

COSTS = {
    "seconds_a_step": "s a step",
    "training_gib": "training GiB",
    "seconds_an_event": "s an event",
    "inference_gib": "inference GiB",
}
"""What a trial reports of its cost, and a short title of each."""
TOLERANCE = 0.01
"""Goals that differ by less are taken as equal in the pick: chance makes as much."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GIB = 2**30


class Meter:
    """Measures what is done inside a `with`.

    Attributes:
        seconds: wall time; of a GPU with all of its work done.
        peak_gib: the most memory in use at a time, above what was in use before, GiB. Of the GPU
            for work on one; of this process elsewhere (Linux only, else 0).

    Example:
        >>> with Meter("cpu") as meter:
        ...     ones = torch.ones(1 << 26)
        >>> meter.peak_gib > 0.2 or meter.peak_gib == 0
        True
    """

    def __init__(self, device: str) -> None:
        self._gpu = torch.device(device).type == "cuda"
        self.seconds = 0.0
        self.peak_gib = 0.0

    def __enter__(self) -> Meter:
        if self._gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            _forget_peak()
            self._before = _status("VmRSS")
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        peak = torch.cuda.max_memory_allocated() if self._gpu else _status("VmHWM")
        self.peak_gib = max(0, peak - self._before) / GIB


def _forget_peak() -> None:
    """Let the kernel count the peak of this process anew (man 5 proc, clear_refs)."""
    try:
        CLEAR.write_text("5")
    except OSError:  # not Linux, or not allowed: the peak of the whole life is given
        return


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes; 0 where there is none."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) * 1024 if values else 0


def pareto(
    goal: Float[np.ndarray, " trial"], costs: Float[np.ndarray, "trial cost"]
) -> Bool[np.ndarray, " trial"]:
    """The trials that no other beats: none has as good a goal at no higher cost, and one better.

    Example:
        >>> pareto(np.array([0.9, 0.8, 0.7]), np.array([[2.0], [1.0], [1.0]])).tolist()
        [True, True, False]
    """
    values = np.column_stack([-goal, costs])
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    beaten = (no_worse & better).any(axis=0)
    return np.logical_not(np.asarray(beaten))


def pick(goal: Float[np.ndarray, " trial"], costs: Float[np.ndarray, "trial cost"]) -> int:
    """Of the trials whose goal is within `TOLERANCE` of the best, the one of least first cost.

    Example:
        >>> pick(np.array([0.9, 0.895, 0.7]), np.array([[2.0], [1.0], [0.1]]))
        1
    """
    near = np.flatnonzero(goal >= goal.max() - TOLERANCE)
    return int(near[costs[near, 0].argmin()])
