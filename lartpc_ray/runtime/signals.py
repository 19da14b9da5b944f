"""Stop a command: checkpoint on the first signal, end on the second."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that stop a run; a scheduler sends SIGUSR1 before a time limit."""
PATIENCE = 20.0
"""Seconds of waiting for checkpoints before a stop; SLURM kills 30 s after its SIGTERM."""


@contextmanager
def resumed_by(command: str) -> Iterator[None]:
    """Name the command that resumes a run as soon as a scheduler's signal arrives.

    A scheduler may send SIGTERM to all processes at once. Then Ray ends, too, and may end this
    process before its closing lines. While the main thread waits inside Ray, as during a training,
    Python calls no signal handler. So a thread reads the signals as they arrive.
    """
    if threading.current_thread() is not threading.main_thread():  # Python refuses it elsewhere
        yield
        return
    arrivals, arrived = os.pipe()
    os.set_blocking(arrived, False)
    earlier = signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    thread = threading.Thread(target=_name_command, args=(arrivals, command), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(arrived)
        thread.join()
        os.close(arrivals)


def _name_command(arrivals: int, command: str) -> None:
    """Log the command if a scheduler's signal is the first of `STOPS`; Ctrl-C has a closing line.

    Args:
        arrivals: end of a pipe with a byte for each signal.
        command: that resumes the run.
    """
    waits = True
    while received := os.read(arrivals, 1):
        if waits and received[0] in STOPS:
            waits = False
            if received[0] != signal.SIGINT:
                log.info(f"to continue afterwards, run:\n  {command}")


class CheckpointOnSignal:
    """Request checkpoints on the first of `STOPS`, then stop; stop at once on the second.

    Args:
        folders: returns the folders of the running trials.
        stop: a signal handler that stops.
    """

    def __init__(self, folders: Callable[[], list[Path]], stop: Callable[[int, Any], Any]) -> None:
        self._folders = folders
        self._stop = stop
        self._asking: threading.Thread | None = None

    def install(self) -> None:
        """Install the signal handlers, from the main thread."""
        for number in STOPS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: Any) -> None:
        if self._asking:
            self._stop(number, frame)
            return
        log.info("stopping after the next step, with a checkpoint; a second signal stops at once")
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def _ask(self) -> None:
        try:
            asked = [file for folder in self._folders() if (file := _request(folder))]
            deadline = time.monotonic() + PATIENCE
            while any(file.exists() for file in asked) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def _request(folder: Path) -> Path | None:
    """Request a checkpoint of a trial; None without its folder, or if the disk takes no file."""
    file = folder / CHECKPOINT_REQUEST
    try:
        if folder.is_dir():
            file.touch()
            return file
    except OSError as error:
        log.warning(f"{error_text(error)}; no checkpoint is requested")
    return None


def restore_interrupts() -> None:
    """Let `STOPS` raise KeyboardInterrupt, as Ctrl-C does, from the main thread."""
    handle_stops(signal.default_int_handler)


def handle_stops(handler: Callable[[int, Any], Any]) -> None:
    """Install a handler of all `STOPS`, from the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, handler)
