"""The present work of a command as a line with a clock, until the work ends.

    with phase("evaluating on the test split"):
        ...

On a terminal the line ticks. Elsewhere it is printed once the work has taken `FIRST` seconds, and
again every `AGAIN` seconds. A phase within a phase takes its line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import format_clock

FIRST = 1.5
"""Seconds until the first line without a terminal; quicker work prints none."""
AGAIN = 30.0
"""Seconds between two lines without a terminal."""
REFRESH = 4
"""Frames of the line per second."""


class _Work:
    """A phase: its text and the time of its start, and the time of its next line."""

    def __init__(self, text: str, waits: Callable[[], str]) -> None:
        self.text = text
        self.began = time.monotonic()
        self.next = self.began + FIRST
        self._waits = waits
        self._asked = self.began
        self._waiting = ""

    def text_now(self) -> str:
        """Return the text with the seconds so far, and what it waits for after `AGAIN` seconds."""
        now = time.monotonic()
        if now - self._asked >= AGAIN:
            self._asked, self._waiting = now, self._waits()
        text = f"{self.text}, {format_clock(now - self.began)}"
        return f"{text}; {self._waiting}" if self._waiting else text


class Line:
    """The one line of the process.

    Attributes:
        work: the phases, the innermost last.
    """

    def __init__(self) -> None:
        self.work: list[_Work] = []
        self._live: Live | None = None
        self._hidden = 0
        self._spinner = Spinner("dots")
        self._ended = threading.Event()

    def begin(self, text: str, waits: Callable[[], str]) -> None:
        """Show a phase."""
        self.work.append(_Work(text, waits))
        if len(self.work) == 1:
            self._ended = threading.Event()
            threading.Thread(target=self._print, args=[self._ended], daemon=True).start()
        self._draw()

    def end(self) -> None:
        """Show the phase around the innermost one, if there is one."""
        self.work.pop()
        if not self.work:
            self._ended.set()
            self._clear()

    def hide(self) -> None:
        """Leave the screen to a table or a bar."""
        self._hidden += 1
        self._clear()

    def show(self) -> None:
        """Take the screen again."""
        self._hidden -= 1
        if self.work:
            self._draw()

    def _draw(self) -> None:
        console = Console(stderr=True)
        wanted = console.is_terminal and log.level <= logging.INFO and not self._hidden
        if wanted and self._live is None:
            self._live = Live(
                console=console,
                get_renderable=self._frame,
                refresh_per_second=REFRESH,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start(refresh=True)

    def _clear(self) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()

    def _frame(self) -> Text | Spinner:
        work = self.work[-1:]
        self._spinner.update(text=Text(work[0].text_now() if work else "", no_wrap=True))
        return self._spinner

    def _print(self, ended: threading.Event) -> None:
        """Print the lines of a command without a terminal."""
        while not ended.wait(0.25):
            for work in self.work[-1:]:
                if not (self._live or self._hidden) and time.monotonic() >= work.next:
                    work.next = time.monotonic() + AGAIN
                    log.info(work.text_now())


line = Line()
"""The line of this process."""


@contextmanager
def phase(text: str, waits: Callable[[], str] = str) -> Iterator[None]:
    """Show the present work with a clock, until the body ends.

    Args:
        text: names the work.
        waits: returns what the work waits for; empty if nothing is absent.
    """
    line.begin(text, waits)
    try:
        yield
    finally:
        line.end()
