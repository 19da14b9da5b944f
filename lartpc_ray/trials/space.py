"""Space: one search_spaces/*.yaml, checked against Trial when it is read.

A file names its `task`, what is `fixed`, what is searched (`search`), and its `budgets`; every
setting is a dotted path into `Trial`:

    task: clustering
    fixed: {network.blocks: 1}
    search:
      network.depth: {int: [4, 6]}
      optimizer.learning_rate: {log: [1.0e-3, 1.0e-2]}
    budgets:
      laptop: {trials: 4, steps: 300}

Where all of `search` are grids every point is tried; `series` says which axes are crossed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.tasks import TASKS
from lartpc_ray.terminal.text import error_text, nearest
from lartpc_ray.trials.budget import Budget, BudgetName
from lartpc_ray.trials.paths import check, make_trial, present_path, reason
from lartpc_ray.trials.trial import Trial

Kind = Literal["choice", "uniform", "log", "int", "grid"]


@dataclass(frozen=True)
class Space:
    """What a study varies and what it keeps.

    Attributes:
        name: of the study.
        fixed: path to value, for every trial.
        search: path to the distribution it is drawn from.
        first: path to value of trial 0, for every searched path.
        budget, budget_name: how much the search may cost.
        overrides: what the command line fixed.
        points: of a grid, path to value each; they are tried in order.
        costs: what is minimised beside the objective.
        text: the file, for the record.
    """

    name: str
    fixed: dict[str, Any]
    search: dict[str, BaseDistribution]
    first: dict[str, Any]
    budget: Budget
    budget_name: str
    overrides: dict[str, Any]
    points: tuple[dict[str, Any], ...] = ()
    costs: tuple[str, ...] = ()
    text: str = field(default="", repr=False)

    def trial(self, sampled: dict[str, Any]) -> Trial:
        """The trial of one sampled point.

        Raises:
            ValueError: for a path or a value that Trial does not know.
        """
        return make_trial({**self.fixed, **sampled})

    def first_trial(self) -> Trial:
        """Trial 0: the defaults, scaled to the budget."""
        return self.trial(self.first)

    @property
    def trials(self) -> int:
        """How many trials there will be: those of the budget, or all points of a grid."""
        return len(self.points) or (self.budget.trials if self.search else 1)


def shipped(name: str) -> Path:
    """search_spaces/ or dashboards/: inside an installed package, beside a checkout's."""
    inside = Path(__file__).parents[1] / name
    return inside if inside.is_dir() else Path(__file__).parents[2] / name


def find_space(name: str) -> Path:
    """The file of a study: search_spaces/NAME.yaml, or NAME as a path.

    Raises:
        ValueError: with the names there are.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ValueError(f"{name}: no such search-space file")
    folder = shipped("search_spaces")
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        near = nearest(name, known)
        raise ValueError(
            f"study {name!r}: known are {', '.join(known)}{near}; or give a .yaml path"
        )
    return path


def read_space(path: Path, budget: str, overrides: dict[str, Any] | None = None) -> Space:
    """Read a search space and check every path, type and bound in it.

    Args:
        path: the YAML file.
        budget: one of its budgets.
        overrides: path to value, fixed whatever the file says (`--set`).

    Raises:
        ValueError: with file, line, key and value of what is wrong, and the nearest known name.
    """
    text = path.read_text()
    content, lines = _load(path, text)
    content, lines, overrides = _with_present_paths(content, lines, overrides or {})
    known = ("task", "about", "fixed", "search", "first", "series", "costs", "budgets")
    source = _Source(path, lines, str(content.get("task", "clustering")))
    for key in content:
        if key not in known:
            raise ValueError(f"{source.at(key)}: unknown key{nearest(key, known)}")
    chosen = _budget(source, content.get("budgets") or {}, budget)
    if source.task not in TASKS:
        near = nearest(source.task, TASKS)
        raise ValueError(f"{source.at('task')}: no task {source.task!r}{near}")
    fixed: dict[str, Any] = {"task.name": source.task}
    sources = (("fixed", content.get("fixed") or {}), (f"budgets.{budget}.fixed", chosen.fixed))
    for place, values in (*sources, ("--set", overrides or {})):
        for key in values:
            _check(source, f"{place}.{key}", values, key)
        fixed.update(values)
    fixed["optimizer.steps"] = overrides.get("optimizer.steps", chosen.steps)
    search, kinds = {}, set()
    for key, entry in (content.get("search") or {}).items():
        place = f"search.{key}"
        kind, distribution = _distribution(source, place, key, entry)
        if key not in (content.get("fixed") or {}):
            if key not in fixed:
                search[key] = distribution
                kinds.add(kind)
        else:
            raise ValueError(f"{source.at(place)}: searched and fixed at once; keep one")
    if "grid" in kinds and len(kinds) > 1:
        raise ValueError(f"{path}: a grid is searched whole; make all of search grids, or none")
    first = _first(source, content.get("first") or {}, fixed, search)
    return Space(
        path.stem,
        fixed,
        search,
        first,
        chosen,
        budget,
        overrides,
        _points(source, content, search, first) if kinds == {"grid"} else (),
        _costs(source, content.get("costs") or []),
        text,
    )


PATHS = re.compile(r"^((?:budgets\.\w+\.)?(?:fixed|search|first)\.)(.+)$")
"""Where a space file holds paths into Trial, as a dotted key."""


def _with_present_paths(
    content: dict[str, Any], lines: dict[str, int], overrides: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, int], dict[str, Any]]:
    """Replace paths of earlier versions, in a file and on the command line."""
    task = str(content.get("task", "clustering"))

    def present(group: Any) -> Any:
        if isinstance(group, dict):
            return {present_path(str(key), task): value for key, value in group.items()}
        if isinstance(group, list):
            return [present_path(axis, task) if isinstance(axis, str) else axis for axis in group]
        return group

    content = {
        key: present(group) if key in ("fixed", "search", "first") else group
        for key, group in content.items()
    }
    if isinstance(content.get("series"), list):
        content["series"] = [present(axes) for axes in content["series"]]
    for entry in content["budgets"].values() if isinstance(content.get("budgets"), dict) else ():
        if isinstance(entry, dict) and "fixed" in entry:
            entry["fixed"] = present(entry["fixed"])
    lines = {
        PATHS.sub(lambda found: found[1] + present_path(found[2], task), key): line
        for key, line in lines.items()
    }
    return content, lines, present(overrides)


def budgets(path: Path) -> dict[str, str]:
    """The budgets of a search-space file and what each is for."""
    content, _ = _load(path, path.read_text())
    return {
        name: str(entry.get("about", "")) for name, entry in (content.get("budgets") or {}).items()
    }


def searched(text: str) -> dict[str, tuple[Kind, list[Any]]]:
    """What a space file that was read before searches: path to kind and values.

    Unchecked: a study made with engines or settings that are not here can still be looked at.

    Example:
        >>> searched("search: {network.depth: {int: [5, 7]}}")
        {'network.depth': ('int', [5, 7])}
    """
    entries = (yaml.load(text, _Loader) or {}).get("search") or {}  # noqa: S506 (a safe loader)
    return {str(path): next(iter(entry.items())) for path, entry in entries.items()}


def minimised(text: str) -> list[str]:
    """The costs that a space file which was read before minimises beside the objective.

    Unchecked but for their names, as in `searched`.

    Example:
        >>> minimised("costs: [training_gib]")
        ['training_gib']
    """
    names = (yaml.load(text, _Loader) or {}).get("costs") or []  # noqa: S506 (a safe loader)
    return [str(name) for name in names if name in COSTS]


def parse_setting(text: str) -> tuple[str, Any]:
    """`a.b=c` of a command line as path and value, c read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {text}: write it as path=value, as in optimizer.steps=100")
    return key, yaml.load(value, _Loader)  # noqa: S506 (a safe loader)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number and a repeated key an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class _Source:
    """The file that is read: where its keys stand, and what task it is about."""

    path: Path
    lines: dict[str, int]
    task: str

    def at(self, key: str) -> str:
        line = self.lines.get(key)
        return f"{self.path}:{line}: {key}" if line else f"{self.path}: {key}"


def _load(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The content of a file, and the line of each dotted key in it."""
    try:
        node = yaml.compose(text, _Loader)
        lines: dict[str, int] = {}
        _mark(path, node, "", lines)
        content = yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error_text(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a mapping with task, search and budgets")
    return content, lines


def _mark(path: Path, node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            line = key.start_mark.line + 1
            if name in lines:
                raise ValueError(f"{path}:{line}: {name}: given twice (also line {lines[name]})")
            lines[name] = line
            _mark(path, value, f"{name}.", lines)


def _budget(source: _Source, entries: dict[str, Any], name: str) -> Budget:
    for key in entries:
        if key not in get_args(BudgetName):
            near = nearest(key, get_args(BudgetName))
            raise ValueError(f"{source.at(f'budgets.{key}')}: unknown budget{near}")
    if name not in entries:
        raise ValueError(
            f"{source.path}: no budget {name!r}; there are {', '.join(entries) or 'none'}"
        )
    try:
        return Budget.model_validate(entries[name])
    except ValidationError as error:
        key, why = reason(error, Budget)
        raise ValueError(f"{source.at(f'budgets.{name}.{key}')}: {why}") from None


def _costs(source: _Source, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise ValueError(f"{source.at('costs')}: {names!r}: write a list, as in [seconds_an_event]")
    for name in names:
        if name not in COSTS:
            near = nearest(str(name), COSTS) or f"; known are {', '.join(COSTS)}"
            raise ValueError(f"{source.at('costs')}: {name!r} is no cost{near}")
    return tuple(names)


def _distribution(
    source: _Source, place: str, key: str, entry: Any
) -> tuple[Kind, BaseDistribution]:
    at = source.at(place)
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"{at}: write one of {', '.join(get_args(Kind))}, as in {{int: [4, 6]}}")
    kind, values = next(iter(entry.items()))
    if kind not in get_args(Kind):
        raise ValueError(f"{at}: {kind!r} is unknown{nearest(str(kind), get_args(Kind))}")
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError(f"{at}: {values!r}: give at least two values; one stands under fixed")
    for value in values:
        _check(source, place, {key: value}, key)
    if kind in ("choice", "grid"):
        if len({json.dumps(value) for value in values}) < len(values):
            raise ValueError(f"{at}: {values}: a value is given twice")
        return kind, CategoricalDistribution(values)
    if len(values) != 2 or not all(_is_number(value) for value in values):
        raise ValueError(f"{at}: {values}: {kind} takes [low, high]")
    low, high = values
    if low >= high or (kind == "log" and low <= 0):
        raise ValueError(
            f"{at}: {values}: low must be below high{' and above 0' * (kind == 'log')}"
        )
    if kind == "int":
        if not (isinstance(low, int) and isinstance(high, int)):
            raise ValueError(f"{at}: {values}: int takes whole numbers")
        return kind, IntDistribution(low, high)
    _check(source, place, {key: (low + high) / 2 + 0.123e-9}, key)
    return kind, FloatDistribution(low, high, log=kind == "log")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first(
    source: _Source,
    given: dict[str, Any],
    fixed: dict[str, Any],
    search: dict[str, BaseDistribution],
) -> dict[str, Any]:
    """Trial 0's value of each searched path: `first`, or the default; it must lie in the range."""
    for key in given:
        _check(source, f"first.{key}", given, key)
    trial = json.loads(make_trial(fixed).model_dump_json())
    values = {}
    for key, distribution in search.items():
        value = given[key] if key in given else _get(trial, key)
        if not _contains(distribution, value):
            where = source.at(f"first.{key}" if key in given else f"search.{key}")
            raise ValueError(
                f"{where}: trial 0 has {value!r}, outside {distribution}; set it in first"
            )
        values[key] = value
    return values


def _points(
    source: _Source,
    content: dict[str, Any],
    search: dict[str, BaseDistribution],
    first: dict[str, Any],
) -> tuple[dict[str, Any], ...]:
    """The points of a grid: in each of its `series` the axes named are crossed, the others are as
    in trial 0; without series all axes are crossed."""
    series = content.get("series") or [list(search)]
    named = {axis for axes in series for axis in axes}
    searched = content.get("search") or {}
    for axis in sorted(named | set(search)):
        if axis not in searched or axis not in named:
            where = "in a series: it never varies" if axis in searched else "under search"
            raise ValueError(
                f"{source.at('series')}: {axis} is not {where}{nearest(axis, searched)}"
            )
    found = []
    for axes in series:
        varied = [axis for axis in search if axis in axes]
        each = [search[axis].choices for axis in varied]  # type: ignore[attr-defined]
        for values in product(*each):
            point = first | dict(zip(varied, values, strict=True))
            if point not in found:
                found.append(point)
    return tuple(found)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return _is_number(value) and distribution.low <= value <= distribution.high


def _get(nested: Any, key: str) -> Any:
    for part in key.split("."):
        nested = nested[part]
    return nested


def _check(source: _Source, place: str, values: dict[str, Any], key: str) -> None:
    """Is `key` a setting of Trial, and its value one that it takes?"""
    try:
        check(key, values[key], source.task)
    except ValueError as error:
        raise ValueError(f"{source.at(place)}: {error}") from None
