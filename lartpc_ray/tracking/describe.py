"""Log what a run trains, on which events and with which software."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lartpc_ray.terminal.text import format_value, short_names
from lartpc_ray.tracking.provenance import Source, tags
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.trial import Trial


def describe_trial(
    tracking: Tracking,
    run: str,
    trial: Trial,
    sources: dict[str, Source],
    settings: Mapping[str, Any],
) -> None:
    """Log a trial to its run: parameters, tags, datasets, trial.json and a description.

    Args:
        tracking: store of the run.
        run: of the trial, or of a search with this first trial.
        trial: its settings.
        sources: the files of its splits.
        settings: path to value of the settings to show as parameters.
    """
    tracking.log_params(run, settings)
    tracking.set_tags(run, tags(trial, sources))
    tracking.log_datasets(run, sources)
    tracking.log_text(run, trial.model_dump_json(indent=1), "trial.json")
    tracking.describe(run, settings_text(settings))


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings by their short names, in markdown.

    Example:
        >>> settings_text({"network.depth": 5, "optimizer.learning_rate": 1e-3})
        '`depth` 5, `learning_rate` 0.001'
    """
    names = short_names(settings).items()
    return ", ".join(f"`{name}` {format_value(settings[key])}" for name, key in names)
