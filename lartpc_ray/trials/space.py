"""A search space: what is fixed in a study, what is searched, and its budget."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product
from math import prod
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lartpc_ray.trials.belongs import misplaced
from lartpc_ray.trials.budget import Budget, SamplerName, SchedulerName
from lartpc_ray.trials.earlier import EarlierResults
from lartpc_ray.trials.paths import key_settings, make_trial
from lartpc_ray.trials.trial import Trial

FEW_TRIALS = 4
"""Fewer trials are not raced by default: each trains to its end."""
FEW_POINTS = 1000
"""A space of at most so many points has no point twice, while there is an untried one."""
STEP_ERROR = 1e-8
"""Rounding error of a number of steps; Optuna allows as much."""


@dataclass(frozen=True)
class Prior:
    """The values of a setting that the author of a space expects to be good.

    Attributes:
        low: the lower one of two values; of a choice the first option.
        high: the other one.
    """

    low: Any
    high: Any


@dataclass(frozen=True)
class Condition:
    """The condition under which a setting has an effect: another setting has one of these values.

    Attributes:
        path: of the other setting.
        values: of the other setting.
    """

    path: str
    values: tuple[Any, ...]

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Return whether a point fulfils the condition."""
        return point.get(self.path) in self.values


@dataclass(frozen=True)
class Space:
    """The fixed and the searched settings of a study.

    Attributes:
        name: of the study.
        fixed: path to value, for every trial.
        search: path to the distribution of its values.
        first: path to value of trial 0, for every searched path.
        starts: the same of the trials after trial 0, in their order, before any is sampled.
        priors: path to the values that its author expects to be good.
        conditions: path to the condition under which a setting has an effect; a point in which it
            has none takes the value of trial 0.
        budget: the cost that the search may have.
        budget_name: its name in the file.
        overrides: path to value, of the settings that the command line fixed.
        points: of a grid, path to value each; they are tried in order.
        costs: numbers that are minimised beside the objective.
        earlier: results of an earlier study, from which the model of the search begins.
        remarks: sentences about settings that the file searches and that have no effect here.
        text: the content of the file, for the record.
        kept: whether a study has begun with it: what only a new study refuses is searched on.

    Raises:
        ValueError: for a setting, a prior, a condition or a start that has no effect.
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
    starts: tuple[dict[str, Any], ...] = ()
    priors: Mapping[str, Prior] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    earlier: EarlierResults | None = None
    remarks: tuple[str, ...] = ()
    text: str = field(default="", repr=False)
    kept: bool = False

    def __post_init__(self) -> None:
        """Check that all of the space has an effect."""
        for key in self.search:
            if wrong := misplaced("search", key, grid=bool(self.points), kept=self.kept):
                raise ValueError(f"search.{key}: {wrong}")
        for key, prior in self.priors.items():
            self._check_values("prior", key, (prior.low, prior.high))
        for key, condition in self.conditions.items():
            self._check_values("when", key, ())
            if condition.path == key or condition.path not in {*self.fixed, *self.search}:
                raise ValueError(
                    f"when of {key}: {condition.path} is neither searched nor fixed; name "
                    "another setting of `search` or `fixed`"
                )
            if condition.path in self.search:
                self._check_values("when", condition.path, condition.values)
            if cycle := cycle_of(key, self.conditions):
                raise ValueError(f"when of {key}: depends on itself ({' > '.join(cycle)})")
        for start in self.starts:
            for key, value in start.items():
                self._check_values("start", key, (value,))

    def _check_values(self, what: str, key: str, values: tuple[Any, ...]) -> None:
        if key not in self.search:
            raise ValueError(f"{what} of {key}: not searched; write {key} under `search`")
        for value in values:
            if not contains(self.search[key], value):
                inside = values_text(self.search[key])
                raise ValueError(f"{what} of {key}: {value!r} is outside {inside}")

    def trial(self, sampled: dict[str, Any]) -> Trial:
        """Return the trial of one sampled point.

        Raises:
            ValueError: for a path or a value that Trial does not know.
        """
        return make_trial({**self.unsampled, **sampled})

    @property
    def unsampled(self) -> dict[str, Any]:
        """Return the settings of a trial before those of its point: trial 0's and the fixed."""
        return {**self.first, **self.fixed}

    def first_trial(self) -> Trial:
        """Return trial 0: the defaults, scaled to the budget."""
        return self.trial(self.first)

    def active(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point without the settings that have no effect in it."""
        point = {**self.unsampled, **sampled}
        return {key: point[key] for key in self.search if self._acts(key, point)}

    def allowed(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Return the active settings of a point, or of one near it if a trial refuses the point.

        Each setting may be in its range and two of them not fit together. Then one setting is as in
        trial 0, else one after the other until a trial takes the point.
        """
        point = self.active(sampled)
        first = [(key, self.first[key]) for key in point]
        singly = ({**point, key: value} for key, value in first)
        further = ({**point, **dict(first[:count])} for count in range(2, len(first) + 1))
        return next(filter(self.takes, map(self.active, chain([point], singly, further))), point)

    def takes(self, point: dict[str, Any]) -> bool:
        """Return whether a trial can have these settings together."""
        try:
            self.trial(point)
        except ValueError:
            return False
        return True

    def _acts(self, key: str, point: Mapping[str, Any]) -> bool:
        condition = self.conditions.get(key)
        return not condition or (condition.holds(point) and self._acts(condition.path, point))

    def key_settings(self, trial: Trial) -> dict[str, Any]:
        """Return the searched settings that have an effect in a trial, and the important ones."""
        shown = key_settings(trial, self.search)
        acting = self.active({key: shown[key] for key in self.search})
        idle = self.search.keys() - acting.keys()
        return {key: value for key, value in shown.items() if key not in idle}

    @property
    def trials(self) -> int:
        """Return the number of trials: of the budget, of a grid, or of a space of fewer points."""
        most = self.budget.trials if self.search else 1
        return len(self.points) or min(most, self._few_points or most)

    @cached_property
    def every_point(self) -> list[dict[str, Any]]:
        """Return the points of a space of at most `FEW_POINTS`, trial 0 first; else none."""
        options = [values_of(distribution) for distribution in self.search.values()]
        if not options or not 0 < prod(map(len, options)) <= FEW_POINTS:
            return []
        points = (dict(zip(self.search, values, strict=True)) for values in product(*options))
        active = map(self.active, chain([self.first], points))
        return list({json.dumps(point): point for point in active}.values())

    @cached_property
    def _few_points(self) -> int:
        """Return how many points a trial takes, if the budget has a trial for each; else 0."""
        few = self.every_point
        return sum(map(self.takes, few)) if len(few) <= self.budget.trials else 0

    @property
    def sampler(self) -> SamplerName:
        """Return the sampler of the budget, or the default for this space."""
        return self.budget.sampler or ("tpe" if self.costs else "screening")

    @property
    def scheduler(self) -> SchedulerName:
        """Return the scheduler of the budget, or the default for its size."""
        if self.budget.scheduler or self.trials < FEW_TRIALS or self.points:
            return self.budget.scheduler or "none"
        return "racing" if self.budget.deterministic else "halving"


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a value can be sampled from a distribution.

    Example:
        >>> contains(IntDistribution(3, 5), 5), contains(IntDistribution(3, 5), True)
        (True, False)
    """
    if isinstance(distribution, CategoricalDistribution):
        kind = isinstance(value, bool)
        return any(value == one and isinstance(one, bool) == kind for one in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not is_number(value) or not distribution.low <= value <= distribution.high:
        return False
    if not distribution.step:
        return True
    steps = (value - distribution.low) / distribution.step
    return bool(abs(steps - round(steps)) < STEP_ERROR)


def nearest_value(distribution: BaseDistribution, value: float) -> float:
    """Return the number of a distribution that is nearest to a number.

    Example:
        >>> nearest_value(IntDistribution(4, 10, step=2), 7.2)
        8
        >>> nearest_value(FloatDistribution(0.1, 0.5, step=0.2), 0.45)
        0.5
    """
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    value = min(max(value, distribution.low), distribution.high)
    if not distribution.step:
        return value
    steps = round((value - distribution.low) / distribution.step)
    value = min(distribution.low + steps * distribution.step, distribution.high)
    return int(value) if isinstance(distribution, IntDistribution) else value


def values_of(distribution: BaseDistribution) -> list[Any]:
    """Return all values of a distribution; none of a continuous one, or of one of too many.

    Example:
        >>> values_of(IntDistribution(4, 10, step=3)), values_of(FloatDistribution(0.1, 1.0))
        ([4, 7, 10], [])
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if not step or (high - low) / step > FEW_POINTS:
        return []
    count = 1 + int((high - low) / step + STEP_ERROR)
    return [nearest_value(distribution, low + number * step) for number in range(count)]


def values_text(values: BaseDistribution) -> str:
    """Return the values of a searched setting as text.

    Example:
        >>> values_text(IntDistribution(4, 6)), values_text(FloatDistribution(1e-3, 1e-2, log=True))
        ('4 to 6', '0.001 to 0.01, log')
        >>> values_text(CategoricalDistribution(["bce", "lovasz", None]))
        'bce, lovasz, null'
    """
    if isinstance(values, CategoricalDistribution):
        return ", ".join(map(option_text, values.choices))
    assert isinstance(values, IntDistribution | FloatDistribution)
    step = f", in steps of {values.step:g}" if values.step and values.step != 1 else ""
    return f"{values.low:g} to {values.high:g}{', log' * values.log}{step}"


def option_text(option: Any) -> str:
    """Return a value as a search-space file has it.

    Example:
        >>> option_text(None), option_text(True), option_text(0.004)
        ('null', 'true', '0.004')
    """
    if option is None or isinstance(option, bool):
        return {None: "null", True: "true", False: "false"}[option]
    return f"{option:g}" if isinstance(option, float) else str(option)


def cycle_of(key: str, conditions: Mapping[str, Condition]) -> list[str]:
    """Return the settings of a cycle of conditions that starts at a setting; empty without one.

    Example:
        >>> cycle_of("a", {"a": Condition("b", (1,)), "b": Condition("a", (2,))})
        ['a', 'b', 'a']
    """
    path = [key]
    while path[-1] in conditions and len(path) <= len(conditions):
        path.append(conditions[path[-1]].path)
        if path[-1] == key:
            return path
    return []


def is_number(value: Any) -> bool:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_name(name: str) -> None:
    """Check the name of a study, which MLflow, Prometheus, folders and addresses share.

    Raises:
        ValueError: for a name that one of them cannot hold.

    Example:
        >>> check_name("my-study_2.1")
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError(
            f"study {name!a}: a name has at most 80 letters (A-Z, a-z), digits, '.', '_' and '-'; "
            "rename the search-space file"
        )
