"""The results of an earlier study, from which the model of a search begins."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeFloat

from lartpc_ray.settings import Settings


class EarlierTrial(Settings):
    """A trial of an earlier study.

    Attributes:
        settings: path to value, of the settings that are searched now.
        value: its objective less the mean of the earlier trials, over the classes that vary.
        variance: of the value, from the spread over events.
    """

    settings: dict[str, Any]
    value: float
    variance: NonNegativeFloat


class EarlierResults(Settings):
    """The trials of an earlier study, compared after the same steps on the same events.

    Attributes:
        study: its name.
        step: after which its trials are compared.
        trials: of the comparison.
    """

    study: str
    step: int
    trials: list[EarlierTrial]
