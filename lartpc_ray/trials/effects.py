"""The effects of searched settings on the objective, as the trials of a search measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, NonNegativeInt

from lartpc_ray.settings import Settings

SURE = 2.0
"""An effect is significant if it is more than so many errors from zero."""


@dataclass(frozen=True)
class Effect:
    """The change of the objective from one value of a setting to another.

    Attributes:
        setting: dotted path.
        low: the one value; of a choice that of trial 0.
        high: the other value.
        change: objective at `high` less objective at `low`.
        error: of the change.
    """

    setting: str
    low: Any
    high: Any
    change: float
    error: float

    @property
    def significant(self) -> bool:
        """Return whether the effect is more than `SURE` errors from zero.

        Example:
            >>> Effect("network.filters", 4, 8, 0.03, 0.01).significant
            True
        """
        return abs(self.change) > SURE * self.error


class Effects(Settings):
    """The effects of the settings of a search, and the verdict on it.

    Attributes:
        effects: of the settings; none for too few trials.
        step: after which the trials were compared.
        trials: with a result after this step.
        verdict: sentences about the best trial and the default; none in files of earlier versions.
    """

    effects: list[Effect]
    step: NonNegativeInt
    trials: NonNegativeInt
    verdict: list[str] = Field(default=[])
