"""The table of a running search: its trials with their speeds, and the resources they wait for."""

from __future__ import annotations

from pathlib import Path

from lartpc_ray.terminal.pulse import FILE, read_pulse
from lartpc_ray.terminal.screen import Trials
from lartpc_ray.train.resources import missing_now
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.decisions import Decisions


def trial_table(folder: Path, space: Space) -> Trials:
    """Return the table of a search.

    Args:
        folder: of the study.
        space: that is searched.
    """
    first = space.first_trial()
    for old in (folder / "trials").glob(f"*/{FILE}"):  # of an earlier part of the search
        old.unlink(missing_ok=True)
    return Trials(
        folder.name,
        list(space.search),
        space.trials,
        first.optimizer.steps,
        every=first.optimizer.evaluate_every,
        parts=Decisions.of(space).scheduler.planned_parts,
        pulse=lambda number: read_pulse(folder / "trials" / str(number) / FILE),
        waits=lambda: missing_now(first.resources),
    )
