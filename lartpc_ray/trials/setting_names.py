"""The names of all settings, read without the libraries that the settings themselves need.

`setting_names.json` beside this module holds them, so a mistyped name is found before torch is
imported. `python -m lartpc_ray settings --names` prints the file anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lartpc_ray.terminal.text import nearest
from lartpc_ray.trials.yaml_file import YamlFile, parse_yaml, read_file

FILE = Path(__file__).with_name("setting_names.json")
GROUPS = ("fixed", "search", "first")
"""The groups of a search space whose keys are paths of settings."""


@cache
def _names() -> dict[str, dict[str, list[str]]]:
    names: dict[str, dict[str, list[str]]] = json.loads(FILE.read_text())
    return names


def unknown_setting(key: str, task: str) -> str:
    """Return the error about a path that is no setting of a task; an empty text for any other.

    Example:
        >>> unknown_setting("network.filers", "clustering")
        "unknown setting 'filers'; did you mean 'network.filters'?"
    """
    names = _names()[task]
    known = {
        ".".join(parts[:count])
        for parts in (path.split(".") for path in (*names["present"], *names["earlier"]))
        for count in range(1, len(parts) + 1)
    }
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        if path in names["present"]:  # what follows it is another mistake
            return ""
        if path not in known:
            return f"unknown setting {parts[count - 1]!r}{nearest(key, names['present'])}"
    return ""


def refuse_unknown(space: Path, given: Iterable[str]) -> None:
    """Check the names of all settings in a search-space file and on the command line.

    Args:
        space: the file.
        given: `path=value`, as on the command line.

    Raises:
        ValueError: with file, line, path and the nearest name.
    """
    file = parse_yaml(space, read_file(space))
    task = file.content.get("task", "clustering")
    if not isinstance(task, str) or task not in _names():
        return  # another mistake
    paths = [("--set", text.partition("=")[0]) for text in given if "=" in text]
    for group, key in [*_paths(file), *paths]:
        if wrong := unknown_setting(key, task):
            raise ValueError(f"{file.position(f'{group}.{key}')}: {wrong}")


def _paths(file: YamlFile) -> Iterator[tuple[str, str]]:
    budgets = file.content.get("budgets")
    groups: dict[str, Any] = {name: file.content.get(name) for name in GROUPS}
    for name, budget in budgets.items() if isinstance(budgets, dict) else ():
        groups[f"budgets.{name}.fixed"] = budget.get("fixed") if isinstance(budget, dict) else None
    for group, entries in groups.items():
        for number, each in enumerate(entries if isinstance(entries, list) else [entries]):
            place = f"{group}.{number}" if isinstance(entries, list) else group
            yield from ((place, key) for key in (each if isinstance(each, dict) else ()))
