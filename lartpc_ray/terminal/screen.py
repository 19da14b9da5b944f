"""Progress on the terminal: a live table of trials, the lines of a training job, bars."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import format_duration, format_value, short_names

Item = TypeVar("Item")
STATUS = 24
"""Characters of a status in the table; MLflow has the whole reason of a failure."""
PAUSE = 10.0
"""Seconds between two lines of a bar without a terminal; quick work prints none."""
FRAME = 6
"""Lines of the screen without a trial: title, head, borders, caption."""


class Trials:
    """Show the trials of a study, best first: as a table on a terminal, else a line per change.

    Args:
        title: of the table.
        searched: dotted paths of the settings to show, as many as fit.
        trials: their number at the end.
        steps: of a trial that is not stopped.
        console: for the table; stderr by default.
    """

    def __init__(
        self,
        title: str,
        searched: Sequence[str],
        trials: int,
        steps: int,
        console: Console | None = None,
    ) -> None:
        self._title = title
        self._searched = searched
        self._trials = trials
        self._steps = steps
        self._rows: dict[int, dict[str, Any]] = {}
        self._began = time.monotonic()
        self._console = console or Console(stderr=True)
        drawn = self._console.is_terminal and log.level <= logging.INFO
        self._live = Live(console=self._console, auto_refresh=False) if drawn else None

    def start(self) -> None:
        """Start to draw."""
        self._began = time.monotonic()
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Leave the last table on the screen."""
        if self._live:
            self._live.stop()

    def step(self, number: int) -> int:
        """Return the last step that a trial reported."""
        return int(self._rows.get(number, {}).get("step", 0))

    def show(self, number: int, status: str, **changes: Any) -> None:
        """Show a trial's status and changed values.

        Args:
            number: index of the trial.
            status: in words.
            changes: `step`, `loss`, `objective`, `settings`; `before`, the last step of an earlier
                part of the search; `ended`, whether the trial has ended.
        """
        row = self._rows.setdefault(number, {})
        row |= {"status": status, **changes}
        if self._live:
            self._live.update(self.table(), refresh=True)
        else:
            step, objective = format_value(row.get("step")), format_value(row.get("objective"))
            left = self.left(time.monotonic() - self._began)
            more = f"  ({format_duration(left)} left)" if left else ""
            log.info(f"trial {number}  {step} steps  objective {objective}  {status}{more}")

    def left(self, passed: float) -> float | None:
        """Return the seconds to the end of the search at its speed so far; None if unknown.

        A trial that was stopped counts as done.
        """
        done = before = 0.0
        for row in self._rows.values():
            done += 1 if row.get("ended") else row.get("step", 0) / self._steps
            before += row.get("before", 0) / self._steps
        gained = done - before
        return passed * (self._trials - done) / gained if gained > 0 else None

    def table(self) -> Table:
        """Return a table of as many of the best trials and of the settings as fit."""
        ended = sum(bool(row.get("ended")) for row in self._rows.values())
        passed = time.monotonic() - self._began
        left = self.left(passed)
        title = f"{self._title}: {ended} of {self._trials} trials, {format_duration(passed)}"
        title += f", about {format_duration(left)} left" if left else ""
        best = sorted(self._rows.items(), key=lambda item: -item[1].get("objective", -1))
        shown = best[: max(1, self._console.height - FRAME)]
        columns = {
            "trial": [str(number) for number, _ in shown],
            "status": [str(row["status"])[:STATUS] for _, row in shown],
            **{
                key: [format_value(row.get(key)) for _, row in shown]
                for key in ("step", "loss", "objective")
            },
        }
        for name, key in short_names(self._searched).items():
            columns[name] = [format_value(row.get("settings", {}).get(key)) for _, row in shown]
        kept = fitting(columns, self._console.width)
        hidden = [f"{len(columns) - len(kept)} more settings"] if len(kept) < len(columns) else []
        hidden += [f"{len(best) - len(shown)} more trials"] if len(shown) < len(best) else []
        drawn = Table(title=title, title_justify="left", caption=", ".join(hidden) or None)
        for name in kept:
            drawn.add_column(name, no_wrap=True)
        for cells in zip(*kept.values(), strict=True):
            drawn.add_row(*cells)
        return drawn


def fitting(columns: dict[str, list[str]], width: int) -> dict[str, list[str]]:
    """Return the first columns of a table that fit a line with their borders.

    Example:
        >>> list(fitting({"trial": ["0"], "depth": ["5"], "mask": ["bce"]}, 20))
        ['trial', 'depth']
    """
    fit, room = {}, width - 1
    for name, cells in columns.items():
        room -= max(map(len, (name, *cells))) + 3
        if room < 0:
            break
        fit[name] = cells
    return fit


@contextmanager
def follow_file(path: Path) -> Iterator[None]:
    """Print the lines of a growing file while the body runs.

    The output that Ray forwards from its processes holds many lines of Ray; hence a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    ended = threading.Event()

    def follow() -> None:
        with path.open() as file:
            while not ended.wait(0.5):
                for text in file:
                    log.info(text.rstrip())
            for text in file:
                log.info(text.rstrip())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class ProgressBar:
    """Show a progress bar on a terminal; elsewhere print a line at a tenth of slow work.

    Args:
        title: of the work.
        total: number of its items.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._printed = time.monotonic()
        console = Console(stderr=True)
        drawn = console.is_terminal and log.level <= logging.INFO
        self._bar = Progress(console=console) if drawn else None

    def __enter__(self) -> ProgressBar:
        if self._bar:
            self._bar.start()
            self._bar.add_task(self._title, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """Count further items as done."""
        before, self._done = self._done, self._done + count
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], count)
        elif 10 * before // self._total < 10 * self._done // self._total:
            now = time.monotonic()
            if now - self._printed >= PAUSE:
                self._printed = now
                log.info(f"{self._title}: {self._done} of {self._total}")


def track(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """Give the items one by one, under a progress bar."""
    with ProgressBar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()
