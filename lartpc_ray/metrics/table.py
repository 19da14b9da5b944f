"""Metrics: rows (event, class, metric, value), and their means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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


class Block(NamedTuple):
    """A metric of several methods beside each other: a row a method, a column a class."""

    title: str
    heads: list[str]
    rows: list[tuple[str, list[float | None]]]


def blocks(
    part: Mapping[str, Any], methods: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[Block]:
    """The blocks of one part of a table's layout, as dashboards/*.yaml describe it.

    Args:
        part: `columns` and `metrics`, name to title; whether there is a `mean` of the columns;
            whether `only_this`, the first, method is shown.
        methods: method to class to metric to value; one without any value has no row.

    Example:
        >>> part = {"columns": {"MIP": "tracks"}, "metrics": {"ari": "ARI"}}
        >>> blocks(part, {"new": {"MIP": {"ari": 0.9}}, "old": {}})
        [Block(title='ARI', heads=['tracks'], rows=[('new', [0.9])])]
    """
    shown = list(methods.items())[: 1 if part.get("only_this") else None]
    heads = [*part["columns"].values(), *["mean"] * part.get("mean", False)]
    return [
        Block(
            title,
            heads,
            [row for method, means in shown for row in _row(part, metric, method, means)],
        )
        for metric, title in part["metrics"].items()
    ]


def _row(
    part: Mapping[str, Any], metric: str, method: str, means: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, list[float | None]]]:
    """One row, or none."""
    row = [means.get(name, {}).get(metric) for name in part["columns"]]
    known = [value for value in row if value is not None]
    mean = [sum(known) / len(known)] * part.get("mean", False) if known else []
    return [(method, [*row, *mean])] if known else []
