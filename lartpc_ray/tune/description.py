"""The description of a running search in MLflow: its trials so far, the best first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from lartpc_ray.terminal.text import align_columns, counted, format_value
from lartpc_ray.tracking.runs import NOTE, Tracking

EVERY = 5.0
"""Seconds between two descriptions, at least; each is a request to the store."""
SHOWN = 100
"""Trials in the table, at most: MLflow cuts a description of over 8,000 characters."""


@dataclass
class _Row:
    """A trial: its state, and the step and objective of its last validation."""

    state: str = ""
    step: int = 0
    objective: float | None = None


class Description:
    """The description of the run of a search, written again as its trials report.

    Args:
        tracking: the store.
        run: of the search; its description begins as it is now.
        planned: number of trials of the whole search.
    """

    def __init__(self, tracking: Tracking, run: str, planned: int) -> None:
        self._tracking = tracking
        self._run = run
        self._planned = planned
        self._head = tracking.run_info(run).get(NOTE, "")
        self._rows: dict[int, _Row] = {}
        self._changed = False
        self._written = -inf

    def change_state(self, trial: int, state: str) -> None:
        """Take a new state of a trial."""
        self._rows.setdefault(trial, _Row()).state = state
        self._changed = True

    def add_result(self, trial: int, step: int, objective: float) -> None:
        """Take the result of a validation."""
        row = self._rows.setdefault(trial, _Row())
        row.step, row.objective = step, objective
        self._changed = True

    def write(self, *, now: bool = False) -> None:
        """Write the description if it has changed, and is older than `EVERY` seconds.

        Args:
            now: write it at any age.
        """
        if self._changed and (now or time.monotonic() - self._written >= EVERY):
            self._tracking.describe(self._run, self.text())
            self._changed, self._written = False, time.monotonic()

    def text(self) -> str:
        """Return the description: the plan, and a table of the trials that have started."""
        ranked = sorted(
            self._rows.items(),
            key=lambda item: (-inf if item[1].objective is None else item[1].objective, -item[0]),
            reverse=True,
        )
        cells = [
            [str(number), row.state, str(row.step), format_value(row.objective)]
            for number, row in ranked[:SHOWN]
        ]
        table = align_columns([["trial", "state", "step", "objective"], *cells], "><>")
        more = len(ranked) - SHOWN
        table += [f"and {counted(more, 'more trial')}"] if more > 0 else []
        count = f"{len(ranked)} of {counted(self._planned, 'trial')} started, best first:"
        return "\n".join([self._head, "", count, "", "```", *table, "```"])
