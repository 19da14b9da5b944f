"""Read a search space from search_spaces/*.yaml and check it against Trial.

A file names its `task`, the `fixed` and the searched (`search`) settings and its `budgets`; every
setting is a dotted path into `Trial`:

    task: clustering
    fixed: {network.blocks: 1}
    search:
      network.depth: {int: [4, 6]}
      network.filters: {int: [8, 32], step: 4, prior: [8, 16]}
      optimizer.learning_rate: {log: [1.0e-3, 1.0e-2]}
    budgets:
      laptop: {trials: 4, steps: 300}

An entry of `search` may have a `prior`, a `step`, a condition `when` (space_entry.py). `first` is
trial 0, or a list of the first trials. If all of `search` are grids, every point is tried;
`series` names the axes that are crossed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, get_args

from optuna.distributions import BaseDistribution
from pydantic import ValidationError

from lartpc_ray.metrics.costs import COSTS
from lartpc_ray.tasks import TASKS
from lartpc_ray.terminal.text import error_text, nearest
from lartpc_ray.trials.belongs import STEPS
from lartpc_ray.trials.budget import KEPT, Budget, BudgetName
from lartpc_ray.trials.conditions import (
    Entries,
    check_conditions,
    check_needs,
    open_conditions,
    remarks,
    without_effect,
    without_need,
)
from lartpc_ray.trials.paths import make_trial, present_path, reason, with_present_paths
from lartpc_ray.trials.space import Space, check_name, contains, values_text
from lartpc_ray.trials.space_entry import check_setting, read_entry
from lartpc_ray.trials.yaml_file import YamlFile, parse_value, parse_yaml, read_file

Distributions = dict[str, BaseDistribution]
MAX_POINTS = 10_000
"""Points of the largest grid; each is a trial."""
KEYS = ("task", "about", "fixed", "search", "first", "series", "costs", "budgets")


def read_space(
    path: Path, budget: str, overrides: dict[str, Any] | None = None, *, kept: bool = False
) -> Space:
    """Read a search space and check every path, type and bound in it.

    Args:
        path: the YAML file.
        budget: one of its budgets.
        overrides: path to value, fixed in place of the file's (`--set`).
        kept: whether a study has begun with it. What only a new study refuses is then read: names,
            settings without an effect or that change what is scored.

    Raises:
        ValueError: with file, line, key and value of the first error, and the nearest known name.
    """
    content = read_file(path)
    if not kept:
        check_name(path.stem)
    file = _SpaceFile.parse(path, content, kept=kept)
    file.check_keys()
    chosen = file.budget(budget)
    overrides = _present_overrides(overrides or {}, file.task)
    own = file.fixed({})
    fixed = file.fixed({f"budgets.{budget}.fixed": chosen.fixed, "--set": overrides})
    fixed[STEPS] = overrides.get(STEPS, chosen.steps)
    entries, costs = file.entries(), file.costs()
    if not kept:
        check_needs(file, entries, own, costs=bool(costs))
    reasons = {**without_need(entries, fixed), **without_effect(entries, fixed)}
    reasons = {key: why for key, why in reasons.items() if key not in fixed}
    searched = {key: one for key, one in entries.items() if key not in {*fixed, *reasons}}
    search = {key: one.distribution for key, one in searched.items()}
    grid = file.is_grid(searched, budget, chosen)
    first = file.first(fixed, entries, search)
    space = Space(
        name=path.stem,
        fixed=fixed,
        search=search,
        first=first,
        budget=chosen,
        budget_name=budget,
        overrides=overrides,
        points=file.points(search, first) if grid else (),
        costs=costs,
        priors={key: one.prior for key, one in searched.items() if one.prior},
        conditions=open_conditions(entries, searched),
        remarks=remarks(searched, reasons),
        kept=kept,
        text=content.decode("utf-8-sig"),
    )
    file.check_points(space)
    return _with_remark(file.with_starts(space, entries))


def _with_remark(space: Space) -> Space:
    """Return a space with a remark if it has fewer points than the budget has trials."""
    most = space.budget.trials
    if not space.search or space.points or space.trials >= most:
        return space
    few = f"the search has {space.trials} different points: {space.trials} trials, not the {most}"
    return replace(space, remarks=(*space.remarks, f"{few} of the budget"))


def _present_overrides(overrides: dict[str, Any], task: str) -> dict[str, Any]:
    """Return the settings of the command line by their present paths."""
    present: dict[str, Any] = {}
    for key, value in overrides.items():
        path = present_path(key, task)
        if path in present:
            raise ValueError(f"--set {key}: {path} is given twice")
        present[path] = value
    return present


def budgets(path: Path) -> dict[str, str]:
    """Return the budgets of a search-space file and their descriptions."""
    entries = _SpaceFile.parse(path, read_file(path)).group("budgets")
    return {
        name: str(entry.get("about", "")) if isinstance(entry, dict) else ""
        for name, entry in entries.items()
    }


def parse_setting(text: str) -> tuple[str, Any]:
    """Return path and value of `a.b=c` on the command line, with c read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key or not key.isprintable():
        raise ValueError(
            f"--set {error_text(text)}: write it as path=value, as in optimizer.steps=100"
        )
    return key, parse_value(value, f"--set {key}")


@dataclass(frozen=True)
class _SpaceFile(YamlFile):
    """The content of a space file, with the present paths of settings.

    Attributes:
        task: name of the study's task.
    """

    task: str

    @staticmethod
    def parse(path: Path, text: bytes, *, kept: bool = False) -> _SpaceFile:
        """Parse YAML and give the settings their present paths."""
        file = parse_yaml(path, text)
        task = file.content.get("task", "clustering")
        if not isinstance(task, str) or task not in TASKS:
            near = nearest(str(task), TASKS)
            raise ValueError(f"{file.position('task')}: no task {task!r}{near}")
        file = with_present_paths(file, task)
        return _SpaceFile(path, file.content, file.lines, task, kept=kept)

    def check_keys(self) -> None:
        """Refuse unknown keys of the file, and an `about` that is no text."""
        for key in self.content:
            if key not in KEYS:
                raise ValueError(f"{self.position(key)}: unknown key{nearest(key, KEYS)}")
        about = self.content.get("about", "")
        if not self.kept and not isinstance(about, str | None):
            raise ValueError(f"{self.position('about')}: {str(about)[:80]}: write one line of text")

    def group(self, name: str) -> dict[str, Any]:
        """Return the mapping under a key; an empty mapping without the key."""
        entries = self.content.get(name)
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            entry = repr(entries)[:80]
            raise ValueError(f"{self.position(name)}: {entry}: write a mapping, as in {{a.b: 1}}")
        return entries

    def check(self, group: str, key: str, value: Any) -> None:
        """Check that `key` is a setting that has an effect in a group and takes `value`."""
        check_setting(self, self.task, group, key, value)

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
        if not isinstance(entries[name], dict):
            position = self.position(f"budgets.{name}")
            raise ValueError(f"{position}: must be a mapping with trials, steps and min_steps")
        try:
            return Budget.model_validate(entries[name], context={KEPT: self.kept})
        except ValidationError as error:
            key, why = reason(error, Budget)
            raise ValueError(f"{self.position(f'budgets.{name}.{key}')}: {why}") from None

    def fixed(self, further: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return the fixed settings: the task, the file's, then those of further groups."""
        fixed: dict[str, Any] = {"task.name": self.task}
        for group, values in {"fixed": self.group("fixed"), **further}.items():
            for key, value in values.items():
                self.check(group, key, value)
            fixed.update(values)
        return fixed

    def entries(self) -> Entries:
        """Return all entries of `search`, also those that a budget fixes."""
        entries = {}
        for key, entry in self.group("search").items():
            entries[key] = read_entry(self, self.task, key, entry)
            if key in self.group("fixed"):
                position = self.position(f"search.{key}")
                raise ValueError(f"{position}: searched and fixed at once; keep one")
        kinds = {entry.kind for entry in entries.values()}
        crossed = self.content.get("series") is not None and not self.kept
        if crossed and kinds != {"grid"}:
            raise ValueError(f"{self.position('series')}: crosses grids; make all of search grids")
        check_conditions(self, self.task, entries)
        return entries

    def is_grid(self, searched: Entries, name: str, budget: Budget) -> bool:
        """Return whether the search is a grid, of which all points are tried."""
        kinds = {entry.kind for entry in searched.values()}
        if "grid" in kinds and len(kinds) > 1:
            raise ValueError(
                f"{self.path}: a grid is searched whole; make all of search grids, or none"
            )
        if kinds == {"grid"} and budget.sampler and not self.kept:
            position = self.position(f"budgets.{name}.sampler")
            raise ValueError(f"{position}: a grid tries all of its points; leave out the sampler")
        return kinds == {"grid"}

    def _given(self, entries: Entries, search: Distributions) -> list[dict[str, Any]]:
        """Return the values under `first`, trial by trial."""
        content = self.content.get("first")
        given = content if isinstance(content, list) else [self.group("first")]
        if not given or not all(isinstance(values, dict) for values in given):
            position = self.position("first")
            raise ValueError(f"{position}: takes a mapping, or a list of mappings, one a trial")
        for number, values in enumerate(given):
            group = f"first.{number}" if isinstance(content, list) else "first"
            for key, value in values.items():
                self.check(group, key, value)
                if self.kept and key not in search:
                    continue
                if key not in entries:
                    position = self.position(f"{group}.{key}")
                    raise ValueError(f"{position}: not searched; write it under `fixed`")
                self._within(group, key, value, entries[key].distribution, number)
        return given

    def first(
        self, fixed: dict[str, Any], entries: Entries, search: Distributions
    ) -> dict[str, Any]:
        """Return trial 0's value of each searched path: from `first`, else the default."""
        given = self._given(entries, search)[0]
        try:
            trial = json.loads(make_trial(fixed).model_dump_json())
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        values = {}
        for key, distribution in search.items():
            value = given[key] if key in given else _get(trial, key)
            self._within("search", key, value, distribution)
            values[key] = value
        return values

    def with_starts(self, space: Space, entries: Entries) -> Space:
        """Return a space with the further mappings under `first` as its starts.

        Mappings that the fixed settings make equal are one start.
        """
        starts: list[dict[str, Any]] = []
        given, position = self._given(entries, space.search), self.position("first")
        if space.points and len(given) > 1:
            raise ValueError(f"{position}: a grid tries all of its points; keep one mapping")
        known = [space.active(space.first)]
        for number, values in enumerate(given[1:], 1):
            if values in given[:number]:
                raise ValueError(f"{position}.{number}: given twice; leave it out")
            own = {key: value for key, value in values.items() if key in space.search}
            start = {**space.first, **own}
            try:
                space.trial(start)
            except ValueError as error:
                raise ValueError(f"{position}.{number}: {error}") from None
            if space.active(start) not in known:
                starts.append(start)
                known.append(space.active(start))
        if len(known) > space.trials:
            raise ValueError(
                f"{position}: {len(known)} trials to begin with, and budget {space.budget_name} "
                f"has {space.trials}; raise its trials, or leave some out"
            )
        return replace(space, starts=tuple(starts))

    def _within(
        self, group: str, key: str, value: Any, distribution: BaseDistribution, number: int = 0
    ) -> None:
        if not contains(distribution, value):
            raise ValueError(
                f"{self.position(f'{group}.{key}')}: trial {number} has {value!r}, outside "
                f"{values_text(distribution)}; set it in first"
            )

    def points(self, search: Distributions, first: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return the points of a grid, each point once.

        Each of the `series` crosses the axes that it names and keeps the others as in trial 0;
        without series all axes are crossed.
        """
        series = self._series(search)
        named = {axis for axes in series for axis in axes}
        for axis in sorted(named | set(search)):
            entries = self.group("search")
            if axis not in entries or axis not in named:
                where = "in a series: it never varies" if axis in entries else "under search"
                near = nearest(axis, entries)
                raise ValueError(f"{self.position('series')}: {axis} is not {where}{near}")
        choices_of = {axis: search[axis].choices for axis in search}  # type: ignore[attr-defined]
        varied = [{axis: choices_of[axis] for axis in search if axis in axes} for axes in series]
        count = sum(prod(map(len, choices.values())) for choices in varied)
        if count > MAX_POINTS and not self.kept:
            raise ValueError(
                f"{self.position('search')}: a grid of {count:,} points, of which each is a trial; "
                f"at most {MAX_POINTS:,}: leave out values, or write int, log or choice for grid"
            )
        points: dict[str, dict[str, Any]] = {}
        for choices in varied:
            for values in product(*choices.values()):
                point = first | dict(zip(choices, values, strict=True))
                points.setdefault(json.dumps(point), point)
        return tuple(points.values())

    def check_points(self, space: Space) -> None:
        """Refuse a new grid with a point whose settings do not fit together.

        Raises:
            ValueError: with the reason of the first such point.
        """
        for point in () if self.kept else space.points:
            try:
                space.trial(point)
            except ValueError as error:
                raise ValueError(
                    f"{self.position('search')}: a grid tries all of its points, and a trial "
                    f"refuses one: {error}; leave out a value, or write series"
                ) from None

    def _series(self, search: Distributions) -> list[list[str]]:
        """Return the axes of each of the `series`; without series one crosses all axes."""
        series = self.content.get("series")
        if series is None:
            return [list(search)]
        lists = _is_list_of(list, series) and all(_is_list_of(str, axes) for axes in series)
        if not lists or not series:
            position = self.position("series")
            raise ValueError(f"{position}: write a list of lists, as in [[network.depth]]")
        return list(series)

    def costs(self) -> tuple[str, ...]:
        """Return the names of the costs."""
        names, position = self.content.get("costs") or [], self.position("costs")
        if not _is_list_of(str, names):
            raise ValueError(f"{position}: {names!r}: write a list, as in [seconds_an_event]")
        for name in names:
            if name not in COSTS:
                near = nearest(name, COSTS) or f"; known are {', '.join(COSTS)}"
                raise ValueError(f"{position}: {name!r} is no cost{near}")
        if len(set(names)) < len(names):
            raise ValueError(f"{position}: {names}: a cost is given twice")
        return tuple(names)


def _is_list_of(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _get(nested: Any, key: str) -> Any:
    for part in key.split("."):
        nested = nested[part]
    return nested
