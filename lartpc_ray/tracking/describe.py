"""Log what a run trains, on which events and with which software."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.terminal.text import format_value, short_names
from lartpc_ray.tracking.provenance import Source, tags
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.trial_run import RESOURCES
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
    """Return settings by their short names.

    Example:
        >>> settings_text({"network.depth": 5, "optimizer.learning_rate": 1e-3})
        'depth 5, learning_rate 0.001'
    """
    names = short_names(settings).items()
    return ", ".join(f"{name} {format_value(settings[key])}" for name, key in names)


def metric_names(numbers: Mapping[str, float], metric: str) -> dict[str, float]:
    """Return the numbers of a validation by the names that MLflow shows, in groups.

    MLflow sorts names: the objective comes first, then the objective of each class. Losses stand in
    a group of their own, because trials with different losses cannot be compared by them.

    Example:
        >>> metric_names({"HIP/ari": 0.5, "HIP/s0": 0.9, "loss": 1.0, "training_gib": 2.0}, "ari")
        {'objective/HIP': 0.5, 'thresholds/HIP/s0': 0.9, 'training/loss': 1.0, \
'resources/training_gib': 2.0}
    """
    return {_metric_name(name, metric): value for name, value in numbers.items()}


def _metric_name(name: str, metric: str) -> str:
    label, _, end = name.rpartition("/")
    if name.startswith(("objective", "system/")):
        return name
    if label:
        return f"objective/{label}" if end == metric else f"thresholds/{name}"
    return f"{RESOURCES}{name}" if name in COSTS else f"training/{name}"
