"""What the user sees while it works: a live table of trials, the lines of a training job."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from lartpc_ray.command import say


class Trials:
    """The trials of a study, best first: a table on a terminal, a line for each change elsewhere.

    Args:
        title: of the table.
        searched: dotted paths of the settings to show.
    """

    def __init__(self, title: str, searched: Sequence[str]) -> None:
        self._title = title
        self._searched = searched
        self._rows: dict[int, dict[str, Any]] = {}
        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def start(self) -> None:
        """Begin to draw."""
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Leave the last table on the screen."""
        if self._live:
            self._live.stop()

    def step(self, number: int) -> int:
        """The last step that a trial reported."""
        return int(self._rows.get(number, {}).get("step", 0))

    def show(self, number: int, status: str, **changes: Any) -> None:
        """Show a trial's status, and what changed: `step`, `loss`, `goal` or its settings."""
        row = self._rows.setdefault(number, {})
        row |= {"status": status, **changes}
        if self._live:
            self._live.update(self._table(), refresh=True)
        else:
            step, goal = cell(row.get("step")), cell(row.get("goal"))
            say(f"trial {number}  {step} steps  goal {goal}  {status}")

    def _table(self) -> Table:
        shown = Table(title=f"{self._title}: best first", title_justify="left")
        for title in ("trial", "status", "step", "loss", "goal", *self._searched):
            shown.add_column(title.rsplit(".", 1)[-1])
        for number, row in sorted(self._rows.items(), key=lambda item: -item[1].get("goal", -1)):
            cells = [row["status"], row.get("step"), row.get("loss"), row.get("goal")]
            settings = [row.get("settings", {}).get(key) for key in self._searched]
            shown.add_row(str(number), *[cell(value) for value in (*cells, *settings)])
        return shown


def cell(value: Any) -> str:
    """A value as a short text; '-' for none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def said(path: Path) -> Iterator[None]:
    """Say the lines of a growing file while the body runs.

    What Ray forwards of its processes' output holds much of its own; hence a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    ended = threading.Event()

    def follow() -> None:
        with path.open() as file:
            while not ended.wait(0.5):
                for text in file:
                    say(text.rstrip())
            for text in file:
                say(text.rstrip())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Bar:
    """A progress bar on a terminal; elsewhere a line at each tenth.

    Args:
        title: what is done.
        total: how many of it.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        console = Console(stderr=True)
        self._bar = Progress(console=console) if console.is_terminal else None

    def __enter__(self) -> Bar:
        if self._bar:
            self._bar.start()
            self._bar.add_task(self._title, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        before, self._done = self._done, self._done + count
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], count)
        elif 10 * before // self._total < 10 * self._done // self._total:
            say(f"{self._title}: {self._done} of {self._total}")
