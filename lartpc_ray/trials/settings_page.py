"""The reference of all settings: `python -m lartpc_ray settings` prints docs/settings.md."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

from lartpc_ray.data.dead_regions import Box, DeadMap, Slab
from lartpc_ray.data.simulation.generator import BombSettings, Primaries
from lartpc_ray.reconstruct.michels import MichelSettings
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.settings import Settings, earlier_names
from lartpc_ray.tasks import TASKS
from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.trial import Trial

HEAD = """\
# Settings

<!-- made by `python -m lartpc_ray settings > docs/settings.md`; change the code, not this page -->

A search space names a setting by its path (`network.depth: {int: [4, 6]}`), and so does `--set
network.depth=5` of `tune` and `train`. Defaults are those of the code, most of them the papers';
a search space fixes others under `fixed` and `budgets`. Unknown paths and values outside of the
limits are refused before anything starts.
"""
PARTS = (DeadMap, Slab, Box)
"""Settings in a list or in a file of their own."""
IN_PYTHON = (ChoiceSettings, MichelSettings, BombSettings, Primaries)
WORDS = {"integer": "whole number", "number": "number", "string": "text"}
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
}
Schema = dict[str, Any]


def page() -> str:
    """Return all settings as Markdown, a table for each group."""
    trial = Trial.model_fields.keys() - {"task"}
    parts = [HEAD, "## A trial\n", *_tables(Trial, "", trial)]
    for name, task in TASKS.items():
        parts += [f"## The task {name}\n", *_tables(task, "task.")]
    parts += ["## A budget of a search space\n", *_tables(Budget, "budgets.NAME.")]
    parts += ["## Dead regions\n", *_unreached(PARTS)]
    parts += ["## In Python only\n", *_unreached(IN_PYTHON)]
    return "\n".join(parts)


def names() -> dict[str, dict[str, list[str]]]:
    """Return the paths of the settings of each task, and earlier names of them."""
    found = {}
    for task, model in TASKS.items():
        paths = dict(_paths(model, "task."))
        paths |= dict(_paths(Trial, "", Trial.model_fields.keys() - {"task"}))
        earlier = [f"task.{path}" for path in model.earlier_paths]
        found[task] = {
            "present": [path for path, present in paths.items() if present],
            "earlier": [path for path, present in paths.items() if not present] + earlier,
        }
    return found


def _paths(
    model: type[BaseModel], prefix: str, names: Collection[str] = ()
) -> Iterator[tuple[str, bool]]:
    """Return the paths of settings, each with whether all of its names are present ones."""
    for name in (name for name in model.model_fields if name in (names or model.model_fields)):
        kind = model.model_fields[name].annotation
        spelled = [name, *(old for old, new in earlier_names(model).items() if new == name)]
        for each in spelled:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner = _paths(kind, f"{prefix}{each}.")
                yield from ((path, present and each == name) for path, present in inner)
            else:
                yield f"{prefix}{each}", each == name


def _unreached(models: tuple[type[Settings], ...]) -> Iterator[str]:
    for model in models:
        yield f"### {model.__name__}\n"
        yield from _tables(model, "")


def _tables(model: type[Settings], prefix: str, names: Any = None) -> Iterator[str]:
    """Yield the table of a group, then the tables of the groups in it.

    Args:
        model: of the group.
        prefix: of the paths.
        names: its settings that are shown; all by default.
    """
    schema = model.model_json_schema()
    groups: list[tuple[str, type[Settings]]] = []
    rows = []
    for name, setting in schema["properties"].items():
        kind = model.model_fields[name].annotation
        if names and name not in names:
            continue
        if isinstance(kind, type) and issubclass(kind, Settings):
            groups.append((name, kind))
        elif "const" not in setting:
            rows.append(_row(f"{prefix}{name}", setting, name in schema.get("required", ())))
    yield f"{schema['description']}\n"
    if rows:
        head = "| setting | type | default | limits | what it is |\n|---|---|---|---|---|"
        yield "\n".join([head, *rows, ""])
    for name, kind in groups:
        yield f"### `{prefix}{name}`\n"
        yield from _tables(kind, f"{prefix}{name}.")


def _row(path: str, setting: Schema, required: bool) -> str:
    if "description" not in setting:
        raise ValueError(f"{path}: no description; give its Field one, this page shows it")
    default = "required" if required else f"`{_plain(setting['default'])}`"
    cells = [f"`{path}`", _kind(setting), default, _limits(setting), setting["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: Any) -> str:
    """Return a value as a search space has it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} in the code"
    return value if value and isinstance(value, str) else json.dumps(value)


def _kind(setting: Schema) -> str:
    """Return the type of a setting in words."""
    if "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting["enum"])
    if "anyOf" in setting:
        return " or ".join(_kind(one) for one in setting["anyOf"])
    if "$ref" in setting:
        return str(setting["$ref"]).rsplit("/", 1)[-1]
    kind = setting["type"]
    if kind == "array":
        several = setting.get("prefixItems")
        items = _kind(several[0] if several else setting["items"])
        return f"{len(several)} of: {items}" if several else f"list of: {items}"
    named = {"boolean": "`true`, `false`", "null": "`null`", "object": "paths and values"}
    return WORDS.get(kind) or named[kind]


def _limits(setting: Schema) -> str:
    """Return the limits of a setting, or of the items of a list."""
    several = setting.get("prefixItems", ())[:1]
    own = (
        []
        if several
        else [text.format(setting[key]) for key, text in LIMITS.items() if key in setting]
    )
    inner = [*setting.get("anyOf", ()), *several]
    if isinstance(setting.get("items"), dict):
        inner.append(setting["items"])
    return ", ".join(filter(None, [*own, *map(_limits, inner)]))
