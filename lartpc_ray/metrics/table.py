"""Metrics: rows (event, class, metric, value), and their means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """One measured value; what cannot be measured has no row."""

    event: int
    name: str
    metric: str
    value: float


class Metrics:
    """What was measured, event by event and class by class.

    Example:
        >>> table = Metrics([Row(0, "MIP", "ari", 0.5), Row(1, "MIP", "ari", 1.0)])
        >>> table.mean("MIP", "ari")
        0.75
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        wrong = next((row for row in self.rows if not np.isfinite(row.value)), None)
        if wrong is not None:
            raise ValueError(f"event {wrong.event}: {wrong.name} {wrong.metric} is {wrong.value}")

    def values(self, name: str, metric: str) -> np.ndarray:
        """All values of a metric of one class, in the order of the events."""
        wanted = [row.value for row in self.rows if row.name == name and row.metric == metric]
        return np.array(wanted)

    def mean(self, name: str, metric: str) -> float | None:
        """Mean over the events that have the value; None without any."""
        values = self.values(name, metric)
        return float(values.mean()) if len(values) else None

    def means(self) -> dict[str, dict[str, float]]:
        """Mean of every metric by class."""
        sums: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            sums.setdefault(row.name, {}).setdefault(row.metric, []).append(row.value)
        return {
            name: {metric: float(np.mean(values)) for metric, values in metrics.items()}
            for name, metrics in sums.items()
        }

    def json(self) -> str:
        """The rows as JSON, one list a row."""
        return json.dumps([list(row) for row in self.rows])
