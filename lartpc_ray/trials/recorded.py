"""Read the search space that a study records as text, without a check of its paths and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.trials.space_entry import Kind, kind_and_values
from lartpc_ray.trials.yaml_file import parse_yaml


def searched(text: str) -> dict[str, tuple[Kind, list[Any]]]:
    """Return the searched paths of a space file that was read before, with kind and values.

    Paths and values are not checked, so that a study made with engines or settings that are not
    available here can still be shown.

    Example:
        >>> searched("search: {network.depth: {int: [5, 7]}}")
        {'network.depth': ('int', [5, 7])}
    """
    entries = _content(text).get("search") or {}
    return {path: kind_and_values(entry) for path, entry in entries.items()}


def minimised(text: str) -> list[str]:
    """Return the costs that a space file which was read before minimises beside the objective.

    Example:
        >>> minimised("costs: [training_gib]")
        ['training_gib']
    """
    return [name for name in _content(text).get("costs") or [] if name in COSTS]


def _content(text: str) -> dict[str, Any]:
    if not text:  # a single run belongs to no search
        return {}
    return parse_yaml(Path("the search space that the study keeps"), text.encode()).content
