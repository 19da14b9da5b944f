"""Metrics: rows (event, class, metric, value), and their means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

MEAN = "mean"
"""The row of the mean over the classes; no class has this name."""


class Row(NamedTuple):
    """One measured value; a value that cannot be measured has no row."""

    event: int
    name: str
    metric: str
    value: float


class Metrics:
    """The measured values, event by event and class by class.

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
        """Return the values of a metric of one class, in the order of the events."""
        wanted = [row.value for row in self.rows if row.name == name and row.metric == metric]
        return np.array(wanted)

    def mean(self, name: str, metric: str) -> float | None:
        """Average over the events that have the value; None without such events."""
        values = self.values(name, metric)
        return float(values.mean()) if len(values) else None

    def means(self) -> dict[str, dict[str, float]]:
        """Average every metric by class."""
        sums: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            sums.setdefault(row.name, {}).setdefault(row.metric, []).append(row.value)
        return {
            name: {metric: float(np.mean(values)) for metric, values in metrics.items()}
            for name, metrics in sums.items()
        }

    def errors(self, classes: Sequence[str], draws: int = 1000) -> dict[str, dict[str, float]]:
        """Return the half width of the central 68 % of every mean, over bootstrap samples.

        Each of the `draws` samples holds as many events, drawn with replacement (Efron 1979). The
        mean of a single event has no error, and `MEAN` over a class with such a mean has none.

        Args:
            classes: the classes that `MEAN` averages.
            draws: number of samples.
        """
        if not self.rows:
            return {}
        column = _numbered(row[1:3] for row in self.rows)
        event = _numbered(row.event for row in self.rows)
        sums, counts = np.zeros((2, len(event), len(column)))
        for row in self.rows:
            sums[event[row.event], column[row[1:3]]] += row.value
            counts[event[row.event], column[row[1:3]]] += 1
        equal = np.full(len(event), 1 / len(event))
        drawn = np.random.default_rng(0).multinomial(len(event), equal, draws)
        samples = _ratio(drawn @ sums, drawn @ counts).T
        known_of = dict(zip(column, (counts > 0).sum(axis=0) > 1, strict=True))
        means = {key: samples[index] for key, index in column.items() if known_of[key]}
        for metric in {metric for name, metric in column if name in classes}:
            keys = [(name, metric) for name in classes if (name, metric) in column]
            if not all(known_of[key] for key in keys):
                continue
            rows = np.array([means[key] for key in keys])
            known = np.isfinite(rows)
            means[MEAN, metric] = _ratio(np.where(known, rows, 0).sum(axis=0), known.sum(axis=0))
        errors: dict[str, dict[str, float]] = {}
        for (name, metric), values in means.items():
            low, high = np.nanpercentile(values, [16, 84])
            errors.setdefault(name, {})[metric] = float(high - low) / 2
        return errors

    def json(self) -> str:
        """Return the rows as JSON, one list per row."""
        return json.dumps([list(row) for row in self.rows])


def _numbered(keys: Iterable[Any]) -> dict[Any, int]:
    """Map distinct keys to numbers, in their order."""
    return {key: number for number, key in enumerate(dict.fromkeys(keys))}


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.asarray(total / np.where(count > 0, count, np.nan))
