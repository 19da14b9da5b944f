"""A search space: what is fixed in a study, what is searched, and its budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution

from lartpc_ray.terminal.text import nearest
from lartpc_ray.trials.budget import Budget
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.trial import Trial


@dataclass(frozen=True)
class Space:
    """The fixed and the searched settings of a study.

    Attributes:
        name: of the study.
        fixed: path to value, for every trial.
        search: path to the distribution of its values.
        first: path to value of trial 0, for every searched path.
        budget: the cost that the search may have.
        budget_name: its name in the file.
        overrides: path to value, of the settings that the command line fixed.
        points: of a grid, path to value each; they are tried in order.
        costs: numbers that are minimised beside the objective.
        text: the content of the file, for the record.
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
        """Return the trial of one sampled point.

        Raises:
            ValueError: for a path or a value that Trial does not know.
        """
        return make_trial({**self.fixed, **sampled})

    def first_trial(self) -> Trial:
        """Return trial 0: the defaults, scaled to the budget."""
        return self.trial(self.first)

    @property
    def trials(self) -> int:
        """Return the number of trials: of the budget, or of the points of a grid."""
        return len(self.points) or (self.budget.trials if self.search else 1)


def shipped(name: str) -> Path:
    """Return the folder search_spaces/ or dashboards/ of the installed package or the checkout."""
    inside = Path(__file__).parents[1] / name
    return inside if inside.is_dir() else Path(__file__).parents[2] / name


def find_space(name: str) -> Path:
    """Return the file of a study: search_spaces/NAME.yaml, or NAME as a path.

    Raises:
        ValueError: if there is no such file; lists the known names.
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
