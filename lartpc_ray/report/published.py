"""The published numbers beside our own, from dashboards/published.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from lartpc_ray.trials.shipped import shipped


@cache
def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = yaml.safe_load((shipped("dashboards") / "published.yaml").read_text())
    return tables


def published(path: str) -> Any:
    """Return the numbers at a dotted path of dashboards/published.yaml.

    Raises:
        KeyError: if the file has no such path.

    Example:
        >>> published("koh2020.table_II.HIP")
        {'s0': 0.65, 'p0': 0.29}
    """
    numbers: Any = _tables()
    for name in path.split("."):
        numbers = numbers[name]
    return numbers


def resolved(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Replace the paths in a row of a layout by numbers: class to metric to value.

    Args:
        row: of `published` or `thresholds`; `metric` names the numbers of a table that has one
            number per class.
        key: where the row holds its numbers: `means` or `points`.
    """
    means = row[key]
    classes = published(means) if isinstance(means, str) else means
    numbers = {
        name: published(values) if isinstance(values, str) else values
        for name, values in classes.items()
    }
    if "metric" in row:
        numbers = {name: {row["metric"]: value} for name, value in numbers.items()}
    return {**row, key: numbers}
