"""A command on a terminal of its own, with the time of each piece of its output."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
POLL = 0.2


@dataclass(frozen=True)
class Watched:
    """A command that has ended.

    Attributes:
        status: its exit status.
        pieces: seconds since its start, and the output that came then.
        seconds: that it ran.
        crowd: processes that wanted a core of the machine, for each core; at least 1.
    """

    status: int
    pieces: list[tuple[float, str]]
    seconds: float
    crowd: float

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)


def on_a_terminal(
    arguments: Sequence[str], folder: Path, width: int = 100, height: int = 30, limit: float = 1200
) -> Watched:
    """Run `python -m ...` on a pseudo-terminal to its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("FORCE_COLOR", None)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    pieces, crowd = list[tuple[float, str]](), 1.0
    try:
        while time.monotonic() - began < limit:
            readable = select.select([ours], [], [], POLL)[0]
            now = time.monotonic() - began
            crowd = max(crowd, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
            if not readable:
                if process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            pieces.append((now, piece.decode(errors="replace")))
        status = process.wait(60)
        return Watched(status, pieces, time.monotonic() - began, crowd)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
