"""What a piece of work took, and which of several trials are worth what they cost."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEMORY = Path("/proc/meminfo")
TIMES = Path("/proc/stat")
GIB = 2**30
GPU = {
    "utilization.gpu": "utilization_percentage",
    "memory.used": "memory_usage_megabytes",
}
"""What nvidia-smi is asked for, and its name in MLflow."""


class Machine:
    """The load of this machine, by the names of MLflow's system metrics (Linux; else of GPUs only).

    Args:
        folder: of whose disk the load is told.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = _processor_times()

    def look(self) -> dict[str, float]:
        """Processors since the last look; memory, disk and GPUs now."""
        before, self._times = self._times, _processor_times()
        disk = shutil.disk_usage(self._folder)
        found = {"disk_usage_percentage": 100 * disk.used / disk.total, **_gpus()}
        passed = self._times[0] - before[0]
        if passed:
            idle = (self._times[1] - before[1]) / passed
            found["cpu_utilization_percentage"] = 100 * (1 - idle)
        if MEMORY.is_file():
            lines = dict(line.split(":") for line in MEMORY.read_text().splitlines())
            total, free = (int(lines[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
            found["system_memory_usage_megabytes"] = (total - free) / 1024
            found["system_memory_usage_percentage"] = 100 * (1 - free / total)
        return {f"system/{name}": value for name, value in found.items()}


def _processor_times() -> tuple[int, int]:
    """Ticks of all processors since the start, in all and idle (man 5 proc, /proc/stat)."""
    if not TIMES.is_file():
        return 0, 0
    ticks = [int(text) for text in TIMES.read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def _gpus() -> dict[str, float]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    asked = [command, f"--query-gpu={','.join(GPU)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = {}
    for number, line in enumerate(said.splitlines()):
        values = (text.strip() for text in line.split(","))
        for name, value in zip(GPU.values(), values, strict=True):
            if value.isdigit():  # a part of a GPU has no load: [N/A]
                found[f"gpu_{number}_{name}"] = float(value)
    return found


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
        else:
            _give_back()
            _forget_peak()
        self._before = memory("cuda" if self._gpu else "cpu")
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


def memory(device: str) -> int:
    """Bytes in use: of the GPU by this process for work on one, else of this process (Linux; 0)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated()
    return _status("VmRSS")


def _give_back() -> None:
    """Give the system what was freed (glibc): taken again, it would not count as more."""
    with suppress(AttributeError, OSError):  # another C library, or another system
        ctypes.CDLL(None).malloc_trim(0)


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
