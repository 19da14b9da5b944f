"""Dotted paths to the settings of a Trial, and checks of their values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from lartpc_ray.settings import earlier_names
from lartpc_ray.sparse import engine_class, unavailable_engines
from lartpc_ray.tasks import TASKS
from lartpc_ray.terminal.text import nearest
from lartpc_ray.trials.trial import Trial
from lartpc_ray.trials.yaml_file import YamlFile


def check(key: str, value: Any, task: str) -> None:
    """Check that `key` is a setting of a trial of this task, and that it takes `value`.

    Raises:
        ValueError: with the error, and the nearest known name.
    """
    if key == "task.name":
        raise ValueError("write the name of the task as `task: NAME` in the search space")
    model: type[BaseModel] = Trial
    for part in key.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ValueError(f"{key} is not a group of settings")
        if part not in model.model_fields:
            raise ValueError(f"unknown setting {part!r}{nearest(key, _leaves(Trial, task))}")
        model = _annotation(model, part, task)
    if isinstance(model, type) and issubclass(model, BaseModel):
        raise ValueError(f"a group of settings; give one of {', '.join(model.model_fields)}")
    missing = unavailable_engines().get(str(value)) if key == "network.engine" else None
    if missing and not engine_class(value).needs_gpu:  # workers may have the GPU
        raise ValueError(f"{value}: {missing}")
    try:
        _trial({"task.name": task, key: value})
    except TypeError:  # of json, for a value that a Python program gives
        raise ValueError(f"{value!r}: write numbers, text, true, false, null or lists") from None
    except ValidationError as error:
        depth = len(key.split("."))
        if any(len(_position(detail["loc"])) >= depth for detail in error.errors()):
            raise ValueError(": ".join(reason(error, Trial))) from None
        # Errors of a whole group are checked once all of its settings are known.


def present_path(key: str, task: str) -> str:
    """Return the present path of a setting that an earlier version called otherwise.

    Example:
        >>> present_path("task.cut.grid_points", "clustering")
        'task.seeds.grid_points'
    """
    model: Any = Trial
    parts = []
    for part in key.split("."):
        known = isinstance(model, type) and issubclass(model, BaseModel)
        name = earlier_names(model).get(part, part) if known else part
        known = known and name in model.model_fields and (model is not Trial or task in TASKS)
        model = _annotation(model, name, task) if known else None
        parts.append(name)
    group, _, rest = ".".join(parts).partition(".")
    if group == "task" and task in TASKS:
        rest = TASKS[task].earlier_paths.get(rest, rest)
    return f"{group}.{rest}" if rest else group


def with_present_paths(file: YamlFile, task: str) -> YamlFile:
    """Replace the earlier paths of settings in a space file by the present paths.

    Raises:
        ValueError: for a setting that is given twice.
    """
    lines = dict(file.lines)

    def rename(value: Any, group: str) -> Any:
        if isinstance(value, str):
            return present_path(value, task)
        if isinstance(value, list):
            return [rename(entry, f"{group}.{number}") for number, entry in enumerate(value)]
        if not isinstance(value, dict):
            return value
        renamed: dict[str, Any] = {}
        for key, entry in value.items():
            present = present_path(key, task)
            if present in renamed:
                raise ValueError(f"{file.position(f'{group}.{key}')}: {present} is given twice")
            if f"{group}.{key}" in lines:
                lines[f"{group}.{present}"] = lines[f"{group}.{key}"]
            renamed[present] = entry
        return renamed

    content = {
        group: rename(value, group) if group in ("fixed", "search", "first", "series") else value
        for group, value in file.content.items()
    }
    budgets = content.get("budgets")
    for name, budget in budgets.items() if isinstance(budgets, dict) else ():
        if isinstance(budget, dict) and "fixed" in budget:
            fixed = rename(budget["fixed"], f"budgets.{name}.fixed")
            content["budgets"] = content["budgets"] | {name: budget | {"fixed": fixed}}
    return YamlFile(file.path, content, lines)


def _annotation(model: type[BaseModel], name: str, task: str) -> Any:
    """Return the type of a setting; for `task` the settings of the study's task."""
    if model is Trial and name == "task":
        return TASKS[task]
    return model.model_fields[name].annotation


def _leaves(model: type[BaseModel], task: str, prefix: str = "") -> list[str]:
    names = []
    for name in model.model_fields:
        kind = _annotation(model, name, task)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += _leaves(kind, task, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def make_trial(values: dict[str, Any]) -> Trial:
    """Return a trial with these paths set.

    Raises:
        ValueError: in one line: path, error and value.
    """
    try:
        return _trial(values)
    except ValidationError as error:
        raise ValueError(": ".join(filter(None, reason(error, Trial)))) from None


def _trial(values: dict[str, Any]) -> Trial:
    nested: dict[str, Any] = {}
    for key, value in {"task.name": "clustering", **values}.items():
        place = nested
        *parents, leaf = key.split(".")
        for part in parents:
            place = place.setdefault(part, {})
        place[leaf] = value
    return Trial.model_validate_json(json.dumps(nested))


def _position(loc: tuple[int | str, ...]) -> list[str]:
    """Return the path of an error without the name of the task that pydantic inserts."""
    parts = [str(part) for part in loc]
    return parts[:1] + parts[2:] if parts[:1] == ["task"] and len(parts) > 1 else parts


def reason(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Return path and reason of the first error."""
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = ".".join(_position(first["loc"]))
    if first["type"] == "extra_forbidden":
        return key, f"unknown{nearest(key, model.model_fields)}"
    if first["type"] in ("missing", "json_invalid"):
        return key, "missing" if key else f"truncated or not JSON ({first['ctx']['error']})"
    if first["type"] == "value_error":
        return key, str(first["ctx"]["error"])
    return key, f"{first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


IMPORTANT = (
    "network.depth",
    "network.filters",
    "optimizer.learning_rate",
    "optimizer.steps",
    "data.batch_events",
    "seed",
)
"""Settings that MLflow shows for every trial; the others are in its trial.json."""


def flatten_settings(trial: Trial) -> dict[str, Any]:
    """Return every setting of a trial by its dotted path."""

    def walk(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        settings: dict[str, Any] = {}
        for key, inner in value.items():
            settings |= walk(inner, f"{prefix}.{key}" if prefix else key)
        return settings

    return walk(json.loads(trial.model_dump_json()), "")


def key_settings(trial: Trial, searched: Iterable[str]) -> dict[str, Any]:
    """Return the searched and the important settings of a trial."""
    every = flatten_settings(trial)
    return {key: every[key] for key in dict.fromkeys([*searched, *IMPORTANT])}
