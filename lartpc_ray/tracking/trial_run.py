"""A trial as MLflow has it, with the present names of its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lartpc_ray.settings import with_present_names

LONGEST = 500
"""Characters of a parameter's value: what the compare view can show."""
EARLIER_METRICS = {"goal": "objective"}
"""Earlier name to present name of a metric, for runs of earlier versions."""
RESOURCES = "resources/"
"""Group of the costs in MLflow."""


@dataclass(frozen=True)
class TrialRun:
    """A trial as MLflow has it: its parameters and the last value of each metric."""

    id: str
    number: int
    parameters: dict[str, str]
    numbers: dict[str, float]
    status: str
    error: str = ""


def present_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by the names that the commands use: costs without their group."""
    present: dict[str, float] = with_present_names(dict(metrics), EARLIER_METRICS)
    return {name.removeprefix(RESOURCES): value for name, value in present.items()}


def logged_text(value: Any) -> str:
    """Return the value of a parameter as MLflow has it: numbers rounded, long texts cut."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:LONGEST]
