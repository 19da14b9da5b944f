"""`tune --dry-run`: the settings of a search, its time and its problems, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import wrap
from typing import Any, get_args

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event
from lartpc_ray.data.splits import Split
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import align_columns, counted, format_duration, format_value
from lartpc_ray.train.resources import absent_here
from lartpc_ray.train.speed import Speed, measured_speed
from lartpc_ray.trials.space import Space, option_text, values_text
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.timed import trials_at_once

LOOKED_AT = 100
"""Events of a split that are read, the first ones."""
FEW = 10
"""Events with a cluster of a class; fewer give scores whose errors hide most differences."""
WIDTH = 80
"""Characters of a line."""
NARROWEST = 24
"""Characters of the last column of a table."""


@dataclass(frozen=True)
class Estimate(Speed):
    """The time of a search, from steps of trial 0 that were done on this machine.

    Attributes:
        total_seconds: of all trials, as many steps as the scheduler plans.
    """

    total_seconds: float


def dry_run(
    space: Space, *, as_json: bool, speed: Speed | None = None, concurrent: int | None = None
) -> str:
    """Check the settings, data and resources of a search, and estimate its time.

    Args:
        space: of the search.
        as_json: for a program: one JSON object.
        speed: of its trials, if it was measured.
        concurrent: trials at a time; by default as many as fit.

    Returns:
        the text to print.
    """
    at_once = {"concurrent": trials_at_once(space, concurrent)}
    space = replace(space, budget=space.budget.model_copy(update=at_once))
    trial = space.first_trial()
    with phase("counting clusters"):
        splits = {split: _counts(trial, split) for split in get_args(Split)}
    problems = [*absent_here(trial.resources).values(), *too_few(splits, trial.task)]
    with phase("measuring some steps of trial 0"):
        time_needed = estimate(space, speed)
    if as_json:
        content = {
            "study": space.name,
            "budget": space.budget_name,
            "trials": space.trials,
            "steps": trial.optimizer.steps,
            "minutes": space.budget.minutes,
            "search": {name: str(values) for name, values in space.search.items()},
            "priors": {name: [one.low, one.high] for name, one in space.priors.items()},
            "conditions": {
                name: {one.path: list(one.values)} for name, one in space.conditions.items()
            },
            "starts": list(space.starts),
            "remarks": list(space.remarks),
            "trial": trial.model_dump(mode="json"),
            "splits": splits,
            "estimate": asdict(time_needed) if time_needed else None,
            "problems": problems,
        }
        return json.dumps(content, indent=1)
    return "\n".join(_lines(space, splits, time_needed, problems))


def _lines(
    space: Space, splits: Mapping[str, Any], time_needed: Estimate | None, problems: list[str]
) -> list[str]:
    trial = space.first_trial()
    size = f"{counted(space.trials, 'trial')} of at most {trial.optimizer.steps} steps"
    at_a_time = f"at most {space.budget.concurrent} at a time"
    lines = fold(f"{space.name}, budget {space.budget_name}: {size}, {at_a_time}")
    lines += ["", *search_table(space)] if space.search else []
    lines += [line for remark in space.remarks for line in fold(f"note: {remark}")]
    fixed = [[name, format_value(value)] for name, value in sorted(space.fixed.items())]
    lines += ["", *narrow_columns([["fixed", "value"], *fixed])]
    lines += ["", *split_table(splits)]
    lines += ["", *(line for text in estimate_lines(space, time_needed) for line in fold(text))]
    if problems:
        lines += ["", *(line for text in problems for line in fold(f"problem: {text}"))]
    return [*lines, "", "nothing was started or written; without --dry-run the search begins"]


def fold(text: str) -> list[str]:
    """Return a line as lines of at most `WIDTH` characters; a longer word, as a path, stays whole.

    Example:
        >>> fold("a" * 50 + " " + "b" * 50) == ["a" * 50, "  " + "b" * 50]
        True
    """
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return _wrap(text, WIDTH, indent)


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    return wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def narrow_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of at most `WIDTH` characters: the last column is continued below.

    Example:
        >>> narrow_columns([["one", "a" * 50 + " " + "b" * 50], ["two", "c"]])[1] == (
        ...     "     " + "b" * 50)
        True
    """
    before = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:-1])
    width = max(WIDTH - before, NARROWEST)
    lines = []
    for *cells, last in rows:
        first, *more = _wrap(last, width) or [""]
        lines += [[*cells, first], *([*("" for _ in cells), part] for part in more)]
    return align_columns(lines, "<")


def search_table(space: Space) -> list[str]:
    """Return the table of the searched settings, and how the starts differ from trial 0."""
    first = space.active(space.first)
    rows = [["searched", "trial 0", "prior", "values"]]
    for name, values in space.search.items():
        prior, condition = space.priors.get(name), space.conditions.get(name)
        only = ""
        if condition:
            options = " or ".join(map(option_text, condition.values))
            only = f"; only where {condition.path} is {options}"
        rows.append(
            [
                name,
                option_text(first[name]) if name in first else "-",
                " to ".join(map(option_text, (prior.low, prior.high))) if prior else "",
                values_text(values) + only,
            ]
        )
    if not space.priors:
        rows = [[name, default, values] for name, default, _, values in rows]
    lines = narrow_columns(rows)
    for number, start in enumerate(space.starts, 1):
        changes = [
            f"{name} {option_text(value)}"
            for name, value in space.active(start).items()
            if name not in first or first[name] != value
        ]
        lines += fold(f"trial {number} begins with {', '.join(changes)}")
    return lines


def _counts(trial: Trial, split: Split) -> dict[str, Any]:
    """Return the file of a split, its events, and in how many of the first each class can score."""
    events = trial.data.splits.events(split)
    looked_at = min(len(events), LOOKED_AT)
    prepared = [trial.task.prepare(events[number]) for number in range(looked_at)]
    smallest = trial.task.smallest_cluster if trial.task.methods else 1
    names = [name for name in trial.task.scored_classes if name in CLASS_NAMES]
    return {
        "file": str(trial.data.splits.file(split)),
        "events": len(events),
        "looked_at": looked_at,
        "voxels": int(np.mean([len(event) for event in prepared])) if prepared else 0,
        "with_cluster": {
            name: sum(has_cluster(event, name, smallest) for event in prepared) for name in names
        },
    }


def has_cluster(event: Event, name: str, smallest: int) -> bool:
    """Return whether an event has a true cluster of a class with at least `smallest` voxels.

    Example:
        >>> event = Event.of(np.eye(3, dtype=int), np.ones(3), (4, 4, 4),
        ...     semantic=np.array([0, 0, 1]), cluster=np.array([5, 5, 6]))
        >>> has_cluster(event, CLASS_NAMES[0], 2), has_cluster(event, CLASS_NAMES[1], 2)
        (True, False)
    """
    of_class = (event.semantic == CLASS_NAMES.index(name)) & (event.cluster >= 0)
    _, sizes = np.unique(event.cluster[of_class], return_counts=True)
    return bool((sizes >= smallest).any())


def split_table(splits: Mapping[str, Any]) -> list[str]:
    """Return the table of the splits, and in how many events each class can be scored."""
    names = list(next(iter(splits.values()))["with_cluster"])
    rows = [["split", "events", "voxels per event", *names]]
    for split, content in splits.items():
        read, total = content["looked_at"], content["events"]
        counts = [str(content["with_cluster"][name]) for name in names]
        number = str(total) if read == total else f"{total} (first {read} read)"
        rows.append([split, number, f"{content['voxels']}", *counts])
    lines = align_columns(rows, "<>")
    if names:
        lines.append("below a class: events with a cluster of it that is large enough to be scored")
    return [*lines, *align_columns([[split, row["file"]] for split, row in splits.items()], "<")]


def too_few(splits: Mapping[str, Any], task: Task) -> list[str]:
    """Name the classes that the tune and the test split can hardly score."""
    texts = []
    for split in ("tune", "test"):
        content = splits[split]
        if content["events"] > content["looked_at"]:  # the rest may have more
            continue
        texts += [
            f"{content['file']}: {count or 'no'} events of the {split} split have a cluster of "
            f"{name}; fewer than {FEW} cannot tell networks apart: give more events"
            for name, count in content["with_cluster"].items()
            if count < FEW
        ]
    return texts


def estimate(space: Space, speed: Speed | None = None) -> Estimate | None:
    """Estimate the time of all trials; None if their GPUs are absent.

    Args:
        space: of the search.
        speed: of its trials; measured on trial 0 if it is not given.
    """
    trial = space.first_trial()
    speed = speed or measured_speed(trial)
    if speed is None:
        return None
    total = Decisions.of(space).scheduler.planned_seconds(
        speed.seconds_per_step,
        speed.seconds_per_validation,
        trial.optimizer.evaluate_every,
        min(space.budget.concurrent, space.trials),
    )
    return Estimate(**asdict(speed), total_seconds=total)


def estimate_lines(space: Space, needed: Estimate | None) -> list[str]:
    """Return the estimated time in words."""
    if needed is None:
        return ["estimated time: unknown, as the GPUs of a trial are absent"]
    voxels = float(f"{needed.voxels_per_second:.2g}")
    total, together = needed.total_seconds, min(space.budget.concurrent, space.trials)
    return [
        f"estimated time: {format_duration(total)}, with {counted(together, 'trial')} at a time",
        f"  measured on this machine now: {needed.steps} steps of trial 0, "
        f"{needed.seconds_per_step:.2g} s per step, {voxels:,.0f} voxels per s; "
        f"a validation {needed.seconds_per_validation:.2g} s",
        "  other settings of the network are faster or slower; joined pieces, thresholds and tests "
        "at the end come on top",
    ]
