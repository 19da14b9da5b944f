"""An entry of `search` in a search-space file: its values, its prior and its condition.

network.filters: {int: [8, 32], step: 4, prior: [8, 16]}
task.linked.s0: {choice: [[0.1], [0.2]], when: {task.method: linked}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import exp, log
from typing import Any, Literal, get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lartpc_ray.terminal.text import nearest
from lartpc_ray.trials.belongs import misplaced
from lartpc_ray.trials.paths import check, present_path
from lartpc_ray.trials.space import (
    Condition,
    Prior,
    contains,
    is_number,
    nearest_value,
    option_text,
    values_text,
)
from lartpc_ray.trials.yaml_file import YamlFile

Kind = Literal["choice", "uniform", "log", "int", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OPTIONS = ("prior", "when", "step", "log")
"""Keys beside the kind; `log` is a kind, too."""
LEAVE_OUT = {
    ("grid", "prior"): "a grid tries all of its points",
    ("grid", "when"): "a grid tries all of its points",
    ("grid", "step"): "a grid lists its values",
    ("choice", "step"): "a choice lists its values",
    ("log", "step"): "a logarithmic range has no steps",
    ("grid", "log"): "a grid lists its values",
    ("choice", "log"): "a choice lists its values",
    ("uniform", "log"): "write {log: [low, high]}",
}
"""Kind and option that do not fit, to the reason."""
MOST_STEPS = 1_000_000
"""Steps of a range; with as many, fractions do as well."""
PRIOR = "[low, high], or {value: v, width: w}"
CENTRED = ("value", "width")
"""Keys of a prior that is a value and a width."""


@dataclass(frozen=True)
class SearchEntry:
    """A searched setting of a file.

    Attributes:
        kind: of its values.
        distribution: of its values.
        prior: of its author, if any.
        condition: under which it has an effect, if any.
    """

    kind: Kind
    distribution: BaseDistribution
    prior: Prior | None = None
    condition: Condition | None = None


def kind_and_values(entry: Mapping[str, Any]) -> tuple[Kind, Any]:
    """Return the kind of an entry and its values, whatever the order of its keys.

    Raises:
        ValueError: for no kind, or for several.

    Example:
        >>> kind_and_values({"prior": [8, 16], "log": True, "int": [4, 32]})
        ('int', [4, 32])
    """
    kinds = [kind for kind in KINDS if kind in entry]
    kinds = [kind for kind in kinds if kind != "log"] or kinds
    if not kinds:
        raise ValueError(f"write one of {', '.join(KINDS)}, as in {{int: [4, 6]}}")
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(kinds)}: keep one")
    return kinds[0], entry[kinds[0]]


def check_setting(
    file: YamlFile, task: str, group: str, key: str, value: Any, *, grid: bool = False
) -> None:
    """Check that `key` is a setting that has an effect in a group, or a grid, and takes `value`.

    Raises:
        ValueError: in one line, with file, line and key.
    """
    position = file.position(f"{group}.{key}")
    try:
        check(key, value, task)
    except ValueError as error:
        raise ValueError(f"{position}: {error}") from None
    if wrong := misplaced(group, key, grid=grid, kept=file.kept):
        raise ValueError(f"{position}: {wrong}")


def read_entry(file: YamlFile, task: str, key: str, entry: Any) -> SearchEntry:
    """Read the entry of a searched setting.

    Args:
        file: the search-space file.
        task: name of its task.
        key: dotted path of the setting.
        entry: its value under `search`.

    Raises:
        ValueError: in one line: file, line, key, value and what to do.
    """
    return _Reader(file, task, key).read(entry)


@dataclass(frozen=True)
class _Reader:
    """Read one entry."""

    file: YamlFile
    task: str
    key: str

    def _error(self, reason: str, option: str = "") -> ValueError:
        place = f"search.{self.key}.{option}" if option else f"search.{self.key}"
        return ValueError(f"{self.file.position(place)}: {reason}")

    def read(self, entry: Any) -> SearchEntry:
        kind, values = self._kind(entry)
        for value in values:
            check_setting(self.file, self.task, "search", self.key, value, grid=kind == "grid")
        options = {name: entry[name] for name in OPTIONS if name in entry and name != kind}
        if kind in ("choice", "grid"):
            distribution: BaseDistribution = self._choice(values)
        else:
            distribution = self._range(kind, values, options)
        prior = self._prior(options["prior"], distribution) if "prior" in options else None
        condition = self._condition(options["when"]) if "when" in options else None
        return SearchEntry(kind, distribution, prior, condition)

    def _kind(self, entry: Any) -> tuple[Kind, list[Any]]:
        """Return kind and values, after a check of all keys."""
        if not isinstance(entry, dict):
            entry = {}
        for name in entry:
            if name not in (*KINDS, *OPTIONS):
                raise self._error(f"{name!r} is unknown{nearest(name, (*KINDS, *OPTIONS))}")
        try:
            kind, values = kind_and_values(entry)
        except ValueError as error:
            raise self._error(str(error)) from None
        if not isinstance(values, list) or len(values) < 2:
            raise self._error(
                f"{values!r}: give at least two values; a single value belongs under `fixed`"
            )
        for name in entry:
            if (kind, name) in LEAVE_OUT:
                raise self._error(f"{LEAVE_OUT[kind, name]}; leave out {name}", name)
        return kind, values

    def _choice(self, values: list[Any]) -> BaseDistribution:
        if len({_text(value) for value in values}) < len(values):
            raise self._error(f"{values}: a value is given twice")
        return CategoricalDistribution(values)

    def _range(self, kind: Kind, values: list[Any], options: Mapping[str, Any]) -> BaseDistribution:
        if len(values) != 2 or not all(is_number(value) for value in values):
            raise self._error(f"{values}: {kind} takes [low, high]")
        low, high = values
        logarithmic = kind == "log" or self._flag(options)
        if low >= high or (logarithmic and low <= 0):
            above = " and above 0" * logarithmic
            raise self._error(f"{values}: low must be below high{above}")
        step = self._step(kind, values, options, logarithmic=logarithmic)
        if kind == "int":
            if not (isinstance(low, int) and isinstance(high, int)):
                raise self._error(f"{values}: int takes whole numbers")
            return IntDistribution(low, high, log=logarithmic, step=step or 1)
        try:
            check(self.key, (low + high) / 2 + 0.123e-9, self.task)  # no whole number
        except ValueError as error:
            reason = f"{kind} gives fractions, and {self.key} does not take them ({error})"
            raise self._error(
                f"{values}: {reason}; write {{int: [low, high]}} or {{choice: [...]}}"
            ) from None
        return FloatDistribution(low, high, log=logarithmic, step=step)

    def _flag(self, options: Mapping[str, Any]) -> bool:
        flag = options.get("log", False)
        if not isinstance(flag, bool):
            raise self._error(f"{flag!r}: takes true or false", "log")
        return flag

    def _step(
        self, kind: Kind, values: list[Any], options: Mapping[str, Any], *, logarithmic: bool
    ) -> Any:
        """Return the step of a range; None without one."""
        if "step" not in options:
            return None
        step = options["step"]
        if not is_number(step) or step <= 0 or (kind == "int" and not isinstance(step, int)):
            number = "a whole number" if kind == "int" else "a number"
            raise self._error(f"{step!r}: takes {number} above 0", "step")
        if logarithmic:
            raise self._error("a logarithmic range has no steps; leave out step or log", "step")
        low, high, width = (Decimal(str(number)) for number in (*values, step))
        if high - low > MOST_STEPS * width:
            raise self._error(f"{step}: gives more than {MOST_STEPS:,} steps; leave it out", "step")
        if (high - low) % width:
            last = low + (high - low) // width * width
            raise self._error(
                f"{step}: {values} are no whole number of steps apart; write "
                f"[{low}, {last if last > low else low + width}], or another step",
                "step",
            )
        return step

    def _prior(self, given: Any, distribution: BaseDistribution) -> Prior:
        choice = isinstance(distribution, CategoricalDistribution)
        if isinstance(given, dict) and not choice:
            return self._centred(given, distribution)
        if not isinstance(given, list) or len(given) != 2:
            raise self._error(f"{given!r}: takes {'two options' if choice else PRIOR}", "prior")
        for value in given:
            self._inside(value, distribution)
        low, high = given
        if choice and low == high:
            raise self._error(f"{given}: takes two options that differ", "prior")
        if not choice and low >= high:
            raise self._error(f"{given}: low must be below high", "prior")
        return Prior(low, high)

    def _inside(self, value: Any, distribution: BaseDistribution) -> None:
        if not contains(distribution, value):
            inside = values_text(distribution)
            raise self._error(
                f"{option_text(value)} is outside {inside}; give values of the setting", "prior"
            )

    def _centred(self, given: Mapping[str, Any], distribution: BaseDistribution) -> Prior:
        """Return v - w and v + w, of a logarithmic range v / w and v w, both in the range."""
        for name in given:
            if name not in CENTRED:
                raise self._error(f"{name!r} is unknown{nearest(name, CENTRED)}", "prior")
        if len(given) < len(CENTRED):
            raise self._error(f"{dict(given)}: takes {PRIOR}", "prior")
        value, width = given["value"], given["width"]
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        least = 1 if distribution.log else 0
        if not is_number(width) or width <= least:
            factor = ", as value / width to value * width is meant" * distribution.log
            raise self._error(f"width {width!r}: takes a number above {least}{factor}", "prior")
        self._inside(value, distribution)
        if distribution.log:
            ends = [exp(min(max(log(value) + sign * log(width), -700), 700)) for sign in (-1, 1)]
        else:
            ends = [value - width, value + width]
        low, high = (nearest_value(distribution, end) for end in ends)
        if low >= high:
            raise self._error(f"width {width}: holds {low} alone; give a larger one", "prior")
        return Prior(low, high)

    def _condition(self, given: Any) -> Condition:
        if not isinstance(given, dict) or len(given) != 1:
            raise self._error(
                f"{given!r}: takes one setting and its values, as in {{task.method: [linked]}}",
                "when",
            )
        ((path, values),) = given.items()
        path = present_path(path, self.task)
        values = values if isinstance(values, list) else [values]
        if not values:
            raise self._error(f"{path}: takes at least one value", "when")
        return Condition(path, tuple(values))


def _text(value: Any) -> str:
    """Return a value as text, the same for 1 and 1.0."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value)
