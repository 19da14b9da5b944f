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
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that stop a run; a scheduler sends SIGUSR1 before a time limit."""
PATIENCE = 20.0
"""Seconds of waiting for checkpoints before a stop; SLURM kills 30 s after its SIGTERM."""
_resume_commands: list[str] = []


@contextmanager
def resumed_by(command: str) -> Iterator[None]:
    """Name the command that resumes a run as soon as a scheduler's signal arrives.

    A scheduler may send SIGTERM to all processes at once. Then Ray ends, too, and may end this
    process before its closing lines.
    """
    _resume_commands.append(command)
    try:
        yield
    finally:
        _resume_commands.pop()


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
        if number != signal.SIGINT and _resume_commands:
            log.info(f"to continue afterwards, run:\n  {_resume_commands[-1]}")
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def _ask(self) -> None:
        asked = [folder / CHECKPOINT_REQUEST for folder in self._folders() if folder.is_dir()]
        for file in asked:
            file.touch()
        deadline = time.monotonic() + PATIENCE
        while any(file.exists() for file in asked) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)


def restore_interrupts() -> None:
    """Let `STOPS` raise KeyboardInterrupt, as Ctrl-C does, from the main thread."""
    handle_stops(signal.default_int_handler)


def handle_stops(handler: Callable[[int, Any], Any]) -> None:
    """Install a handler of all `STOPS`, from the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, handler)
