"""Read a search space from search_spaces/*.yaml and check it against Trial.

A file names its `task`, the `fixed` and the searched (`search`) settings and its `budgets`; every
setting is a dotted path into `Trial`:

    task: clustering
    fixed: {network.blocks: 1}
    search:
      network.depth: {int: [4, 6]}
      optimizer.learning_rate: {log: [1.0e-3, 1.0e-2]}
    budgets:
      laptop: {trials: 4, steps: 300}

If all of `search` are grids, every point is tried; `series` names the axes that are crossed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
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
from lartpc_ray.trials.space import Space

Kind = Literal["choice", "uniform", "log", "int", "grid"]
Distributions = dict[str, BaseDistribution]
KEYS = ("task", "about", "fixed", "search", "first", "series", "costs", "budgets")


def read_space(path: Path, budget: str, overrides: dict[str, Any] | None = None) -> Space:
    """Read a search space and check every path, type and bound in it.

    Args:
        path: the YAML file.
        budget: one of its budgets.
        overrides: path to value, fixed in place of the file's (`--set`).

    Raises:
        ValueError: with file, line, key and value of the first error, and the nearest known name.
    """
    text = path.read_text()
    file = _SpaceFile.parse(path, text)
    for key in file.content:
        if key not in KEYS:
            raise ValueError(f"{file.position(key)}: unknown key{nearest(key, KEYS)}")
    chosen = file.budget(budget)
    overrides = {present_path(key, file.task): value for key, value in (overrides or {}).items()}
    fixed = file.fixed({f"budgets.{budget}.fixed": chosen.fixed, "--set": overrides})
    fixed["optimizer.steps"] = overrides.get("optimizer.steps", chosen.steps)
    search, kinds = file.search(fixed)
    if "grid" in kinds and len(kinds) > 1:
        raise ValueError(f"{path}: a grid is searched whole; make all of search grids, or none")
    first = file.first(fixed, search)
    return Space(
        name=path.stem,
        fixed=fixed,
        search=search,
        first=first,
        budget=chosen,
        budget_name=budget,
        overrides=overrides,
        points=file.points(search, first) if kinds == {"grid"} else (),
        costs=file.costs(),
        text=text,
    )


def budgets(path: Path) -> dict[str, str]:
    """Return the budgets of a search-space file and their descriptions."""
    entries = _SpaceFile.parse(path, path.read_text()).group("budgets")
    return {name: str(entry.get("about", "")) for name, entry in entries.items()}


def searched(text: str) -> dict[str, tuple[Kind, list[Any]]]:
    """Return the searched paths of a space file that was read before, with kind and values.

    Paths and values are not checked, so that a study made with engines or settings that are not
    available here can still be shown.

    Example:
        >>> searched("search: {network.depth: {int: [5, 7]}}")
        {'network.depth': ('int', [5, 7])}
    """
    entries = (yaml.load(text, _Loader) or {}).get("search") or {}  # noqa: S506 (a safe loader)
    return {str(path): next(iter(entry.items())) for path, entry in entries.items()}


def minimised(text: str) -> list[str]:
    """Return the costs that a space file which was read before minimises beside the objective.

    Example:
        >>> minimised("costs: [training_gib]")
        ['training_gib']
    """
    names = (yaml.load(text, _Loader) or {}).get("costs") or []  # noqa: S506 (a safe loader)
    return [str(name) for name in names if name in COSTS]


def parse_setting(text: str) -> tuple[str, Any]:
    """Return path and value of `a.b=c` on the command line, with c read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {text}: write it as path=value, as in optimizer.steps=100")
    return key, yaml.load(value, _Loader)  # noqa: S506 (a safe loader)


class _Loader(yaml.SafeLoader):
    """Read safe YAML in which 1e-3 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
PATHS = re.compile(r"(budgets\.\w+\.)?(fixed|search|first)\.")
"""The groups of a space file whose keys are paths into Trial."""


def _index(path: Path, node: yaml.Node | None, task: str, prefix: str = "") -> dict[str, int]:
    """Give the keys of a YAML node the present paths of settings; return key to line.

    Raises:
        ValueError: for a key that is given twice.
    """
    lines: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if PATHS.fullmatch(prefix) and isinstance(key, yaml.ScalarNode):
            key.value = present_path(key.value, task)
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            raise ValueError(f"{path}:{line}: {name}: given twice (also line {lines[name]})")
        lines[name] = line
        if name == "series" and isinstance(value, yaml.SequenceNode):
            lists = [axes for axes in value.value if isinstance(axes, yaml.SequenceNode)]
            for axis in (axis for axes in lists for axis in axes.value):
                if isinstance(axis, yaml.ScalarNode):
                    axis.value = present_path(axis.value, task)
        lines |= _index(path, value, task, f"{name}.")
    return lines


@dataclass(frozen=True)
class _SpaceFile:
    """The content of a space file.

    Attributes:
        path: of the file.
        content: its keys and values, with the present paths of settings.
        lines: dotted key to its line.
        task: name of the study's task.
    """

    path: Path
    content: dict[str, Any]
    lines: dict[str, int]
    task: str

    @staticmethod
    def parse(path: Path, text: str) -> _SpaceFile:
        """Parse YAML."""
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            task = next((str(value.value) for key, value in pairs if key.value == "task"), "")
            lines = _index(path, node, task or "clustering")
            content = loader.construct_document(node) if node else None
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: not YAML: {error_text(error)}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path}: must be a mapping with task, search and budgets")
        return _SpaceFile(path, content, lines, task or "clustering")

    def position(self, key: str) -> str:
        """Return file, line and key for an error."""
        line = self.lines.get(key)
        return f"{self.path}:{line}: {key}" if line else f"{self.path}: {key}"

    def group(self, name: str) -> dict[str, Any]:
        """Return the entries under a key; none without the key."""
        return self.content.get(name) or {}

    def check(self, position: str, key: str, value: Any) -> None:
        """Check that `key` is a setting of Trial and that it takes `value`."""
        try:
            check(key, value, self.task)
        except ValueError as error:
            raise ValueError(f"{self.position(position)}: {error}") from None

    def budget(self, name: str) -> Budget:
        """Return a budget by its name."""
        entries = self.group("budgets")
        for key in entries:
            if key not in get_args(BudgetName):
                near = nearest(key, get_args(BudgetName))
                raise ValueError(f"{self.position(f'budgets.{key}')}: unknown budget{near}")
        if name not in entries:
            known = ", ".join(entries) or "none"
            raise ValueError(f"{self.path}: no budget {name!r}; there are {known}")
        try:
            return Budget.model_validate(entries[name])
        except ValidationError as error:
            key, why = reason(error, Budget)
            raise ValueError(f"{self.position(f'budgets.{name}.{key}')}: {why}") from None

    def fixed(self, further: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return the fixed settings: the task, the file's, then those of further groups."""
        if self.task not in TASKS:
            near = nearest(self.task, TASKS)
            raise ValueError(f"{self.position('task')}: no task {self.task!r}{near}")
        fixed: dict[str, Any] = {"task.name": self.task}
        for group, values in {"fixed": self.group("fixed"), **further}.items():
            for key, value in values.items():
                self.check(f"{group}.{key}", key, value)
            fixed.update(values)
        return fixed

    def search(self, fixed: dict[str, Any]) -> tuple[Distributions, set[Kind]]:
        """Return the distributions of the paths that are not fixed, and their kinds."""
        search, kinds = {}, set()
        for key, entry in self.group("search").items():
            kind, distribution = self._distribution(key, entry)
            if key in self.group("fixed"):
                position = self.position(f"search.{key}")
                raise ValueError(f"{position}: searched and fixed at once; keep one")
            if key not in fixed:
                search[key] = distribution
                kinds.add(kind)
        return search, kinds

    def _distribution(self, key: str, entry: Any) -> tuple[Kind, BaseDistribution]:
        position = self.position(f"search.{key}")
        if not isinstance(entry, dict) or len(entry) != 1:
            kinds = ", ".join(get_args(Kind))
            raise ValueError(f"{position}: write one of {kinds}, as in {{int: [4, 6]}}")
        kind, values = next(iter(entry.items()))
        if kind not in get_args(Kind):
            near = nearest(str(kind), get_args(Kind))
            raise ValueError(f"{position}: {kind!r} is unknown{near}")
        if not isinstance(values, list) or len(values) < 2:
            raise ValueError(
                f"{position}: {values!r}: give at least two values; a single value belongs under "
                "`fixed`"
            )
        for value in values:
            self.check(f"search.{key}", key, value)
        if kind not in ("choice", "grid"):
            return kind, self._range(key, kind, values)
        if len({json.dumps(value) for value in values}) < len(values):
            raise ValueError(f"{position}: {values}: a value is given twice")
        return kind, CategoricalDistribution(values)

    def _range(self, key: str, kind: Kind, values: list[Any]) -> BaseDistribution:
        position = f"{self.position(f'search.{key}')}: {values}"
        if len(values) != 2 or not all(_is_number(value) for value in values):
            raise ValueError(f"{position}: {kind} takes [low, high]")
        low, high = values
        if low >= high or (kind == "log" and low <= 0):
            raise ValueError(
                f"{position}: low must be below high{' and above 0' * (kind == 'log')}"
            )
        if kind == "int":
            if not (isinstance(low, int) and isinstance(high, int)):
                raise ValueError(f"{position}: int takes whole numbers")
            return IntDistribution(low, high)
        self.check(f"search.{key}", key, (low + high) / 2 + 0.123e-9)  # no whole number
        return FloatDistribution(low, high, log=kind == "log")

    def first(self, fixed: dict[str, Any], search: Distributions) -> dict[str, Any]:
        """Return trial 0's value of each searched path: from `first`, else the default."""
        given = self.group("first")
        for key, value in given.items():
            self.check(f"first.{key}", key, value)
        trial = json.loads(make_trial(fixed).model_dump_json())
        values = {}
        for key, distribution in search.items():
            value = given[key] if key in given else _get(trial, key)
            if not _contains(distribution, value):
                position = self.position(f"first.{key}" if key in given else f"search.{key}")
                raise ValueError(
                    f"{position}: trial 0 has {value!r}, outside {distribution}; set it in first"
                )
            values[key] = value
        return values

    def points(self, search: Distributions, first: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return the points of a grid, each point once.

        Each of the `series` crosses the axes that it names and keeps the others as in trial 0;
        without series all axes are crossed.
        """
        series = self.content.get("series") or [list(search)]
        named = {axis for axes in series for axis in axes}
        for axis in sorted(named | set(search)):
            entries = self.group("search")
            if axis not in entries or axis not in named:
                where = "in a series: it never varies" if axis in entries else "under search"
                near = nearest(axis, entries)
                raise ValueError(f"{self.position('series')}: {axis} is not {where}{near}")
        points: list[dict[str, Any]] = []
        for axes in series:
            varied = [axis for axis in search if axis in axes]
            choices = [search[axis].choices for axis in varied]  # type: ignore[attr-defined]
            for values in product(*choices):
                point = first | dict(zip(varied, values, strict=True))
                if point not in points:
                    points.append(point)
        return tuple(points)

    def costs(self) -> tuple[str, ...]:
        """Return the names of the costs."""
        names, position = self.content.get("costs") or [], self.position("costs")
        if not isinstance(names, list):
            raise ValueError(f"{position}: {names!r}: write a list, as in [seconds_an_event]")
        for name in names:
            if name not in COSTS:
                near = nearest(str(name), COSTS) or f"; known are {', '.join(COSTS)}"
                raise ValueError(f"{position}: {name!r} is no cost{near}")
        return tuple(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return _is_number(value) and distribution.low <= value <= distribution.high


def _get(nested: Any, key: str) -> Any:
    for part in key.split("."):
        nested = nested[part]
    return nested
