"""The head of a page: the data, the code, the network and the time of what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from lartpc_ray.data.splits import Split
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.terminal.text import format_duration, format_value
from lartpc_ray.tracking.runs import as_folder
from lartpc_ray.trials.paths import flatten_settings
from lartpc_ray.trials.trial import Trial

SHOWN = ("optimizer.learning_rate", "data.batch_events", "seed")
"""Settings in the head of the page of one network, beside those of `network_text`."""


def facts(subject: Subject, trial: Trial | None, compared: bool = False) -> dict[str, str]:
    """Return the facts below the title of a page.

    Args:
        subject: of the page.
        trial: of its network; None if no checkpoint can be read.
        compared: whether the search has compared its best trial with the default, event by event.
    """
    made: dict[str, str] = {}
    tracking, rows = subject.tracking, subject.rows
    about = tracking.run_info(subject.run or rows[0].run)
    search = tracking.run_info(about["mlflow.parentRunId"]) if rows else {}
    if rows:
        made |= _search_facts(subject, search, compared)
    known = search or about
    made |= {"begun": known["started"]} if "started" in known else {}
    made |= {"took": _took(known)} if "started" in known else {}
    if subject.result:
        made["task"] = subject.result.task
    made |= _data(subject, trial)
    if trial:
        made["network"] = network_text(trial)
        made["settings"] = _settings(subject, trial)
    commit = about.get("commit") or about.get("mlflow.source.git.commit")
    made |= {"commit": commit[:12]} if commit else {}
    if subject.run:
        made["folder" if as_folder(subject.run) else "MLflow run"] = subject.run
    return {name: text for name, text in made.items() if text}


def _search_facts(subject: Subject, search: dict[str, str], compared: bool) -> dict[str, str]:
    rows = subject.rows
    failed = sum(row.status == "FAILED" for row in rows)
    made = {
        "search": search["name"],
        "trials": f"{len(rows)}" + (f", {failed} failed" if failed else ""),
    }
    known = [row for row in rows if row.objective is not None]
    best = next((row for row in known if row.run == subject.run), None)
    return made | ({"best trial": _best(best, known[0], compared)} if best else {})


def _best(best: TrialRow, highest: TrialRow, compared: bool) -> str:
    """Return the trial of the page's network, and the trial of highest objective if another."""
    text = f"trial {best.trial}, objective {best.objective:.4f}"
    if highest.trial == best.trial:
        return text
    why = "not surely better" if compared else "the highest"
    return f"{text} (trial {highest.trial}: {highest.objective:.4f}, {why})"


def _took(about: dict[str, str]) -> str:
    """Return the time of a run."""
    if "hours" not in about:
        return "is still running"
    return format_duration(float(about["hours"]) * 3600)


def _data(subject: Subject, trial: Trial | None) -> dict[str, str]:
    """Return the files of the splits and their events; of another data set its path."""
    counted = subject.result.events if subject.result else {}
    if subject.data or trial is None:
        events = ", ".join(f"{name} {count} events" for name, count in counted.items())
        return {"measured on": subject.data or "", "events": events}
    splits, texts = trial.data.splits, []
    for split in get_args(Split):
        try:
            file = _short(splits.file(split))
            count = counted.get(split) or len(splits.events(split))
        except (ValueError, OSError):  # moved since; the events that were measured are known
            file, count = splits.path, counted.get(split, 0)
        texts.append(f"{split} {file}" + (f" ({count} events)" if count else ""))
    return {"data": "; ".join(texts)}


def _short(path: Path) -> str:
    return str(Path(*path.parts[-2:]))


def network_text(trial: Trial) -> str:
    """Return the network in words.

    Example:
        >>> network_text(Trial()).startswith("sparse UResNet, depth 7, 32 filters")
        True
    """
    network = trial.network
    blocks = f"{network.blocks} block" + "s" * (network.blocks != 1)
    parts = [f"depth {network.depth}", f"{network.filters} filters", blocks]
    return ", ".join(["sparse UResNet", *parts, f"{trial.optimizer.steps} steps"])


def _settings(subject: Subject, trial: Trial) -> str:
    """Return the settings in which the trials differ, as the network of the page has them.

    Of a single network return the important ones that are not in `network_text`.
    """
    every = flatten_settings(trial)
    names = subject.rows[0].settings if subject.rows else {}
    shown = {name: every[name] for name in names or SHOWN if name in every}
    return ", ".join(
        f"{name.rsplit('.', 1)[-1]} {format_value(value)}" for name, value in shown.items()
    )
