"""Progress on the terminal: a live table of trials, the lines of a training job, bars."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import AGAIN, line
from lartpc_ray.terminal.pulse import STEPS, Pulse
from lartpc_ray.terminal.text import format_clock, format_duration, format_value, short_names

Item = TypeVar("Item")
STATUS = 24
"""Characters of a status in the table; MLflow has the whole reason of a failure."""
PAUSE = 10.0
"""Least seconds between two lines of a bar without a terminal."""
FIRST = 1.5
"""Seconds until the first line of a bar without a terminal; quicker work prints none."""
TICK = 1.0
"""Seconds between two drawings of the table."""
FRAME = 7
"""Lines of the screen without a trial: title, head, borders, the two last lines."""


class Trials:
    """Show the trials of a study, best first: as a table on a terminal, else a line per change.

    The table ticks. Between two validations it shows the step and the speed of each training, from
    the file that the training writes. Without a terminal a line of both is printed after the first
    `STEPS` steps, and whenever `AGAIN` seconds passed without another line.

    Args:
        title: of the table.
        searched: dotted paths of the settings to show, as many as fit.
        trials: their number at the end.
        steps: of a trial that is not stopped.
        console: for the table; stderr by default.
        every: steps between two validations; 0 if unknown.
        parts: first step, last step and planned number of trials of each part of a race, if some
            trials stop before `steps`; by default all train on.
        pulse: reads the step and the speed of a trial that runs.
        waits: returns the resources that a trial waits for; empty if it has them.
    """

    def __init__(
        self,
        title: str,
        searched: Sequence[str],
        trials: int,
        steps: int,
        console: Console | None = None,
        *,
        every: int = 0,
        parts: Sequence[tuple[int, int, int]] = (),
        pulse: Callable[[int], Pulse | None] = lambda number: None,
        waits: Callable[[], str] = str,
    ) -> None:
        self._title = title
        self._searched = searched
        self._trials = trials
        self._steps = steps
        self._every = every
        self._parts = parts or [(0, steps, trials)]
        self._pulse = pulse
        self._waits = waits
        self._rows: dict[int, dict[str, Any]] = {}
        self._began = self._printed = self._worked = time.monotonic()
        self._trained: float | None = None
        self._waiting = ""
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._console = console or Console(stderr=True)
        drawn = self._console.is_terminal and log.level <= logging.INFO
        # Tune prints to stdout, which the search sends to a file
        self._live = (
            Live(console=self._console, auto_refresh=False, redirect_stdout=False)
            if drawn
            else None
        )

    def start(self) -> None:
        """Start to draw."""
        self._began = self._printed = self._worked = time.monotonic()
        line.hide()
        if self._live:
            self._live.start()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Leave the last table on the screen."""
        if self._ended.is_set():
            return
        self._ended.set()
        with self._lock:
            if self._live:
                self._live.update(self.table(), refresh=True)
                self._live.stop()
        line.show()

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            self.tick()

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
        with self._lock:
            row = self._rows.setdefault(number, {})
            row |= {"status": status, **changes}
            if self._live:
                self._live.update(self.table(), refresh=True)
                return
            step, objective = format_value(row.get("step")), format_value(row.get("objective"))
            left = self.left(self._passed())
            more = f"  ({format_duration(left)} left)" if left else ""
            self._print(f"trial {number}  {step} steps  objective {objective}  {status}{more}")

    def tick(self) -> None:
        """Read the steps and speeds; draw the table again, or print a line if one is due."""
        with self._lock:
            if self._ended.is_set():
                return
            first = self._trained is None
            self._read()
            now = time.monotonic()
            if now - self._worked >= AGAIN:
                self._waiting = self._waits()
                self._worked = now if not self._waiting else self._worked
            if self._live:
                self._live.update(self.table(), refresh=True)
            elif (first and self._trained is not None) or now - self._printed >= AGAIN:
                early = self._trained is None and not self._waiting
                clock = f", {format_clock(now - self._began)}" if early else ""
                self._print(self.status() + clock)

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        log.info(text)

    def _read(self) -> None:
        """Read the pulses of the trials that run."""
        for number, row in self._rows.items():
            pulse = self._pulse(number) if row["status"] == "running" else None
            row["pulse"] = pulse
            if pulse:
                self._worked, self._waiting = time.monotonic(), ""
            done = (pulse.step or 0) - row.get("before", 0) if pulse else 0
            if pulse and self._trained is None and done >= min(STEPS, self._steps):
                self._trained = time.monotonic() - done / pulse.steps_per_second

    def _passed(self) -> float:
        """Return the seconds since the first training began."""
        return time.monotonic() - (self._trained or self._began)

    def left(self, passed: float) -> float | None:
        """Return the seconds to the end of the search at its speed so far; None if unknown.

        Where all trials train on, one that was stopped counts as done. In a race more trials than
        planned may train on in a part, after some that did have been dropped.
        """
        rows = self._rows.values()
        gained = sum(_step(row) - row.get("before", 0) for row in rows)
        rest = -sum(map(_step, rows))
        for start, end, planned in self._parts:
            rest += (end - start) * max(planned, sum(_step(row) > start for row in rows))
        if all(planned == self._trials for *_, planned in self._parts):
            rest -= sum(self._steps - _step(row) for row in rows if row.get("ended"))
        known = self._trained is not None or any("step" in row for row in rows)
        return passed * max(rest, 0) / gained if gained > 0 and known else None

    def status(self) -> str:
        """Return the number of trials that train, their speed and the time left."""
        if self._waiting:
            return self._waiting
        running = [row for row in self._rows.values() if not row.get("ended")]
        words = Counter(self._word(row) for row in running)
        nothing = "no trial runs" if self._rows else "starting the first trials"
        if len(self._rows) == self._trials:
            nothing = "all trials have ended"
        parts = [f"{count} {word}" for word, count in words.items()] or [nothing]
        pulses = [row["pulse"] for row in running if row.get("pulse")]
        if speed := sum(pulse.steps_per_second for pulse in pulses):
            voxels = sum(pulse.voxels_per_second for pulse in pulses)
            parts += [f"{speed:.3g} steps per s", f"{float(f'{voxels:.2g}'):,.0f} voxels per s"]
        left = self.left(self._passed())
        return ", ".join(parts + ([f"about {format_duration(left)} left"] if left else []))

    def _word(self, row: Mapping[str, Any]) -> str:
        """Return the state of a trial: of one that runs by its step."""
        pulse = row.get("pulse")
        if row["status"] != "running" or not (self._every or pulse):
            return str(row["status"])
        if pulse is None or pulse.step is None:
            return "training" if row.get("step") else "starting"
        full = pulse.step >= self._steps or (self._every and not pulse.step % self._every)
        return "validating" if full and pulse.step > row.get("step", 0) else "training"

    def table(self) -> RenderableType:
        """Return a table of as many of the best trials and of the settings as fit."""
        with self._lock:
            ended = sum(bool(row.get("ended")) for row in self._rows.values())
            passed = format_clock(time.monotonic() - self._began)
            title = f"{self._title}: {ended} of {self._trials} trials, {passed}"
            best = sorted(self._rows.items(), key=lambda item: -item[1].get("objective", -1))
            shown = best[: max(1, self._console.height - FRAME)]
            columns = self._columns(shown)
            kept = fitting(columns, self._console.width)
            left_out = (len(columns) - len(kept)) * bool(shown)
            hidden = [f"{left_out} settings"] * bool(left_out)
            hidden += [f"{len(best) - len(shown)} trials"] * (len(shown) < len(best))
            drawn = Table()
            for name in kept:
                drawn.add_column(name, no_wrap=True)
            for cells in zip(*kept.values(), strict=True):
                drawn.add_row(*cells)
            state, rest = self.status(), f"not shown: {', '.join(hidden)}"
            last = [f"{state}; {rest}"] if hidden else [state]
            last = last if len(last[0]) <= self._console.width else [state, rest]
            head, *foot = (Text(text, no_wrap=True, overflow="ellipsis") for text in (title, *last))
            return Group(head, drawn, *foot) if shown else Group(head, *foot)

    def _columns(self, shown: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, list[str]]:
        """Return the cells of all columns by their names."""
        columns = {
            "trial": [str(number) for number, _ in shown],
            "status": [self._word(row)[:STATUS] for _, row in shown],
            "step": [format_value(_step(row) or None) for _, row in shown],
            **{
                key: [format_value(row.get(key)) for _, row in shown]
                for key in ("loss", "objective")
            },
        }
        for name, key in short_names(self._searched).items():
            columns[name] = [format_value(row.get("settings", {}).get(key)) for _, row in shown]
        return columns


def _step(row: Mapping[str, Any]) -> int:
    """Return the step of a trial: the last one reported, or read from its file."""
    pulse = row.get("pulse")
    return max(int(row.get("step", 0)), int(pulse.step or 0) if pulse else 0)


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
    """Show a progress bar on a terminal; elsewhere print lines.

    The first line is printed after two seconds, the others at each tenth and after `AGAIN` seconds.
    A line has the items per second and the time left. Both count from the first items on, without
    the start of the workers.

    Args:
        title: of the work.
        total: number of its items.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._first: tuple[float, int] | None = None
        self._began = time.monotonic()
        self._next = self._began + FIRST
        console = Console(stderr=True)
        drawn = console.is_terminal and log.level <= logging.INFO
        columns = [
            *Progress.get_default_columns(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}"),
        ]
        self._bar = Progress(*columns, console=console) if drawn else None

    def __enter__(self) -> ProgressBar:
        line.hide()
        if self._bar:
            self._bar.start()
            self._bar.add_task(self._title, total=self._total, speed="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        line.show()

    def advance(self, count: int = 1) -> None:
        """Count further items as done."""
        before, self._done = self._done, self._done + count
        now = time.monotonic()
        self._first = self._first or (now, self._done)
        passed, done = now - self._first[0], self._done - self._first[1]
        text = ""
        if passed >= 0.5 and done:  # two workers end their first chunks at nearly the same time
            left = format_duration((self._total - self._done) * passed / done)
            text = f", {done / passed:.3g} per s, {left} left"
        if self._bar:
            words = text.split(", ")[1:2]
            self._bar.update(self._bar.task_ids[0], advance=count, speed="".join(words))
        tenth = 10 * before // self._total < 10 * self._done // self._total
        first = self._next == self._began + FIRST
        due = tenth or first or now >= self._next - PAUSE + AGAIN
        if not self._bar and now >= self._next and due:
            self._next = now + PAUSE
            log.info(f"{self._title}: {self._done} of {self._total}{text}")


def track(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """Give the items one by one, under a progress bar."""
    with ProgressBar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()
