"""Measure the time and memory that work takes, and the load of the machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
import torch

GIB = 2**30
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
GPU_QUERY = {
    "utilization.gpu": "utilization_percentage",
    "memory.used": "memory_usage_megabytes",
}
"""Fields of nvidia-smi, and their names in MLflow. MLflow's own monitor of GPUs warns at each
reading where a part of a GPU (MIG) has no load."""
GPU_PATIENCE = 10.0
"""Seconds that nvidia-smi may take; with a driver that hangs it never ends."""


class Machine:
    """Read the load of this machine, by the names of MLflow's system metrics.

    Args:
        folder: on the disk to read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        psutil.cpu_percent()  # the next call counts from here

    def read(self) -> dict[str, float]:
        """Return the load of the CPUs since the last reading; memory, disk and GPUs now."""
        memory = psutil.virtual_memory()
        load = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": (memory.total - memory.available) / 2**20,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": psutil.disk_usage(str(self._folder)).percent,
        }
        return {f"system/{name}": value for name, value in (load | _gpu_load()).items()}


def _gpu_load() -> dict[str, float]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    query = [command, f"--query-gpu={','.join(GPU_QUERY)}", "--format=csv,noheader,nounits"]
    output = ""
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(  # noqa: S603
            query, capture_output=True, text=True, check=False, timeout=GPU_PATIENCE
        ).stdout
    rows = [line.replace(" ", "").split(",") for line in output.splitlines()]
    return {  # nvidia-smi prints a sentence where there is no driver, or no GPU
        f"gpu_{index}_{name}": float(value)
        for index, values in enumerate(rows)
        for name, value in zip(GPU_QUERY.values(), values, strict=False)
        if len(values) == len(GPU_QUERY) and value.isdigit()  # a part of a GPU: [N/A]
    }


class Meter:
    """Measure the time and the peak memory of the work inside a `with`.

    Attributes:
        seconds: wall time; on a GPU until all of its work is done.
        peak_gib: highest memory in use during the work, minus the memory in use before, GiB: of
            the GPU for work on a GPU; else of this process (on Linux only; 0 elsewhere).

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
        """Start to measure."""
        if self._gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            _release_freed_memory()
            _reset_peak()
        self._before = memory("cuda" if self._gpu else "cpu")
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the time and the peak."""
        if self._gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        peak = torch.cuda.max_memory_allocated() if self._gpu else _peak()
        self.peak_gib = max(0, peak - self._before) / GIB


def memory(device: str) -> int:
    """Return the bytes that this process uses: of the GPU for work on a GPU, else of the RAM."""
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def _release_freed_memory() -> None:
    """Return freed memory to the system (glibc): using it again would not raise the peak."""
    with suppress(AttributeError, OSError):  # another C library, or another system
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    """Make the kernel count the peak of this process from now on (man 5 proc, clear_refs)."""
    with suppress(OSError):  # not Linux, or not allowed: the peak since the process started counts
        CLEAR.write_text("5")


def _peak() -> int:
    """Return the peak memory of this process in bytes; 0 without /proc. psutil has no peak."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
