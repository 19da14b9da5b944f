"""The conditions of a search-space file, and its settings that have no effect."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from lartpc_ray.terminal.text import nearest
from lartpc_ray.trials.belongs import IDLE, RATIO, Need, need_of
from lartpc_ray.trials.paths import flatten_settings, make_trial
from lartpc_ray.trials.space import Condition, contains, cycle_of, option_text, values_text
from lartpc_ray.trials.space_entry import SearchEntry, check_setting
from lartpc_ray.trials.yaml_file import YamlFile

Entries = Mapping[str, SearchEntry]
"""Path of each searched setting to its entry."""


def check_conditions(file: YamlFile, task: str, entries: Entries) -> None:
    """Check that each condition names a setting of the file that can fulfil it and can fail it.

    Raises:
        ValueError: in one line: file, line, key, value and what to do.
    """
    conditions = {key: one.condition for key, one in entries.items() if one.condition}
    for key, condition in conditions.items():
        position = file.position(f"search.{key}.when")
        if condition.path not in entries:
            near = nearest(condition.path, entries)
            raise ValueError(
                f"{position}: {condition.path} is not searched{near or '; name a searched setting'}"
            )
        other = entries[condition.path].distribution
        options = _options(other)
        if options is None:
            raise ValueError(
                f"{position}: {condition.path} is a range of fractions; name a choice or an int"
            )
        for value in condition.values:
            if not contains(other, value):
                raise ValueError(
                    f"{position}: {condition.path} is never {option_text(value)}; it is one of "
                    f"{values_text(other)}"
                )
            check_setting(file, task, "search", condition.path, value)
        if all(option in condition.values for option in options):
            raise ValueError(
                f"{position}: holds for every value of {condition.path}; leave out when"
            )
        if cycle := cycle_of(key, conditions):
            raise ValueError(f"{position}: {' > '.join(cycle)}: depends on itself; leave out one")


def _options(distribution: BaseDistribution) -> list[Any] | range | None:
    """Return all values of a choice or an int; None for a range of fractions."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return None


def without_effect(entries: Entries, fixed: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings whose condition the fixed settings never fulfil, each with the reason.

    A setting that depends on one of them has no effect either.
    """
    reasons: dict[str, str] = {}
    left = {key: one.condition for key, one in entries.items() if one.condition}
    while left:
        key, condition = next(iter(left.items()))
        while condition.path in left:  # check_conditions refuses a cycle
            key, condition = condition.path, left[condition.path]
        del left[key]
        if condition.path in fixed:
            if not condition.holds(fixed):
                reasons[key] = f"{condition.path} is {option_text(fixed[condition.path])}"
        elif condition.path in reasons:
            reasons[key] = f"{condition.path} has none"
    return reasons


def check_needs(file: YamlFile, entries: Entries, fixed: Mapping[str, Any], *, costs: bool) -> None:
    """Check that each searched setting has an effect with the settings of the file itself.

    Args:
        file: the search-space file.
        entries: of the file.
        fixed: path to value, of the file, without those of a budget.
        costs: whether the search minimises costs, too.

    Raises:
        ValueError: in one line: file, line, key and what to do.
    """
    settings = {**flatten_settings(make_trial({"task.name": fixed["task.name"]})), **fixed}
    for key, entry in entries.items():
        position = file.position(f"search.{key}")
        if key in IDLE and not costs:
            raise ValueError(f"{position}: {IDLE[key]}; write one value under `fixed`")
        need = need_of(key)
        if need is None or _is_met(need, entry, entries, settings):
            continue
        wanted = f"above {need.above:g}"
        if need.values:
            wanted = " or ".join(map(option_text, need.values))
        text = f"{position}: has an effect only where {need.other} is {wanted}"
        if need.other in entries:
            raise ValueError(f"{text}; add when: {{{need.other}: VALUE}} to the entry")
        now = option_text(settings[need.other])
        raise ValueError(f"{text}, and it is {now}; fix {need.other}, or leave this out")


def _is_met(need: Need, entry: SearchEntry, entries: Entries, settings: Mapping[str, Any]) -> bool:
    if need.other not in entries:
        return need.met(settings[need.other])
    condition, other = entry.condition, entries[need.other].distribution
    if condition and condition.path == need.other:
        return all(map(need.met, condition.values))
    if isinstance(other, CategoricalDistribution):
        return all(map(need.met, other.choices))
    return need.met(getattr(other, "high", None))


def without_need(entries: Entries, fixed: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings to which a budget or the command line leaves no effect, with reasons."""
    needs = ((key, need_of(key)) for key in entries)
    return {
        key: f"{need.other} is {option_text(fixed[need.other])}"
        for key, need in needs
        if need and need.other in fixed and not need.met(fixed[need.other])
    }


def remarks(searched: Collection[str], reasons: Mapping[str, str]) -> tuple[str, ...]:
    """Return sentences about settings without an effect.

    Args:
        searched: paths of the searched settings.
        reasons: path to reason, of settings that are left out.
    """
    lines = [f"{key} is not searched: no effect, as {why}" for key, why in reasons.items()]
    if set(RATIO) <= set(searched):
        lines.append(f"of {' and '.join(RATIO)} only the ratio acts under Adam; search one")
    return tuple(lines)


def open_conditions(entries: Entries, searched: Collection[str]) -> dict[str, Condition]:
    """Return the conditions of searched settings on searched settings."""
    conditions = {key: entries[key].condition for key in searched}
    return {key: one for key, one in conditions.items() if one and one.path in searched}
