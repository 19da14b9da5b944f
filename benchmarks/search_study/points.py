"""Points of a search space: as settings, in a unit cube, and the plan of the recorded trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Settings = dict[str, Any]
"""Path to value of a point."""
Cube = np.ndarray
"""(setting,) in [0, 1] for numbers; the position among the choices for the other settings."""
WIDTH = 0.25
"""Standard deviation of a point near the default, as a share of the range of each setting."""
OTHER_CHOICE = 0.3
"""Probability that a point near the default has another choice of a setting."""
DESIGN = (1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1)
"""First row of the Plackett-Burman design of 12 runs (Plackett & Burman 1946)."""
KINDS = ("default", "near", "random", "design", "near", "design", "random", "near")
"""The kinds of the recorded trainings, in a cycle; `longer` replaces some of the defaults."""
LONGER = {16: 2, 40: 4, 56: 2, 80: 8, 104: 4, 128: 2, 152: 4, 176: 8}
"""Index of a training to the factor on its steps: defaults that are trained longer."""


@dataclass(frozen=True)
class Planned:
    """A training that is recorded: its kind, its settings, its length and its seed."""

    kind: str
    settings: Settings
    factor: int
    seed: int


def is_ordered(distribution: BaseDistribution) -> bool:
    """Return whether the values are numbers, so that values between them have a meaning."""
    if not isinstance(distribution, CategoricalDistribution):
        return True
    return all(isinstance(value, int | float) for value in distribution.choices)


def encode(search: Mapping[str, BaseDistribution], settings: Mapping[str, Any]) -> Cube:
    """Return the position of settings in the unit cube; of a choice, its number."""
    return np.array([_position(search[path], settings[path]) for path in search])


def decode(search: Mapping[str, BaseDistribution], cube: Cube) -> Settings:
    """Return the settings at a position, the nearest ones of those that the space has."""
    return {path: _value(search[path], float(at)) for path, at in zip(search, cube, strict=True)}


def _position(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        number = distribution.choices.index(value)
        last = len(distribution.choices) - 1
        return number / last if is_ordered(distribution) else float(number)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, value = distribution.low, distribution.high, float(value)
    if distribution.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / (high - low))


def _value(distribution: BaseDistribution, position: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        last = len(distribution.choices) - 1
        number = position * last if is_ordered(distribution) else position
        return distribution.choices[int(np.clip(round(number), 0, last))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, position = distribution.low, distribution.high, float(np.clip(position, 0, 1))
    if distribution.log:
        return float(np.exp(np.log(low) + position * (np.log(high) - np.log(low))))
    value = low + position * (high - low)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def plan(search: Mapping[str, BaseDistribution], first: Mapping[str, Any], index: int) -> Planned:
    """Return training `index` of the record: the same for the same space, whatever ran before."""
    rng = np.random.default_rng((2, index))
    kind = KINDS[index % len(KINDS)]
    factor = LONGER.get(index, 1)
    kind = "longer" if factor > 1 else kind
    default = encode(search, first)
    if kind in ("default", "longer"):
        return Planned(kind, dict(first), factor, index)
    if kind == "random":
        cube = random_point(search, rng)
    elif kind == "near":
        cube = near_point(search, default, rng)
    else:
        cube = _design_point(search, default, index)
    return Planned(kind, decode(search, cube), factor, index)


def random_point(search: Mapping[str, BaseDistribution], rng: np.random.Generator) -> Cube:
    """Return a point drawn evenly."""
    return np.array([_draw(distribution, rng) for distribution in search.values()])


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> float:
    if isinstance(distribution, CategoricalDistribution):
        number = int(rng.integers(len(distribution.choices)))
        return _position(distribution, distribution.choices[number])
    return float(rng.uniform())


def near_point(
    search: Mapping[str, BaseDistribution], default: Cube, rng: np.random.Generator
) -> Cube:
    """Return a point near another one: numbers move by `WIDTH`, other choices sometimes change."""
    cube = default.copy()
    for number, distribution in enumerate(search.values()):
        if is_ordered(distribution):
            cube[number] = np.clip(cube[number] + WIDTH * rng.normal(), 0, 1)
        elif rng.random() < OTHER_CHOICE:
            cube[number] = _draw(distribution, rng)
    return cube


def _design_point(search: Mapping[str, BaseDistribution], default: Cube, index: int) -> Cube:
    """Return a run of a Plackett-Burman design around the default; later designs fold it over.

    The two levels of a number are the default ± `WIDTH`. The two choices of another setting are
    the default's and the one before it.
    """
    run = sum(KINDS[number % len(KINDS)] == "design" for number in range(index))
    block, row = divmod(run, 12)
    order = np.random.default_rng((3, block // 2)).permutation(len(DESIGN))
    levels = np.roll(DESIGN, row)[order] if row < 11 else np.full(len(DESIGN), -1)
    levels = levels * (-1) ** block
    cube = default.copy()
    for number, distribution in enumerate(search.values()):
        level = levels[number]
        if is_ordered(distribution):
            cube[number] = np.clip(cube[number] + WIDTH * level, 0, 1)
        elif level < 0:
            cube[number] = max(cube[number] - 1, 0)
    return cube
