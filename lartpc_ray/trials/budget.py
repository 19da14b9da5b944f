"""The budgets of a search, by the names of their sizes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    AliasChoices,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from lartpc_ray.settings import Settings

BudgetName = Literal["smoke", "laptop", "overnight", "gpu", "cluster"]

SamplerName = Literal["screening", "tpe", "gp", "random", "nsga2"]
SchedulerName = Literal["racing", "halving", "none"]


MOST_MINUTES = 525_600
"""Minutes of a year; the end of a search has a date."""
KEPT = "kept"
"""In the context of a validation: whether a study has begun with the budget."""
TRIALS, STEPS, RUNGS = 12, 3000, 6
"""Defaults of a budget with `minutes`: trials, steps, and the ratio of steps to `min_steps`."""


class Budget(Settings):
    """The cost that a search may have."""

    about: str = Field(default="", description="what it is for and what it gives, in one line")
    trials: PositiveInt = Field(
        description="trials, the first with the default settings; with `minutes` "
        f"{TRIALS} by default"
    )
    steps: PositiveInt = Field(
        description="training steps of a trial that is not stopped; with `minutes` "
        f"{STEPS} by default"
    )
    min_steps: PositiveInt = Field(
        validation_alias=AliasChoices("min_steps", "first_rung"),
        description="steps before a trial may be stopped early; with `minutes` "
        f"steps / {RUNGS} by default",
    )
    minutes: PositiveFloat | None = Field(
        default=None,
        le=MOST_MINUTES,
        description="time of the search: shorter or fewer trials if it is short, longer trials if "
        "it is long, by the measured speed",
    )
    sampler: SamplerName | None = Field(
        default=None, description="default: tpe for a space with costs, else screening"
    )
    scheduler: SchedulerName | None = Field(
        default=None,
        description="default: racing; below 4 trials none; halving if not deterministic",
    )
    reduction: float = Field(default=3.0, gt=1, description="1 of so many trials passes a rung")
    concurrent: PositiveInt = Field(default=1, description="trials at a time, resources allowing")
    deterministic: bool = Field(
        validation_alias=AliasChoices("deterministic", "in_order"),
        default=True,
        description="decide round by round: the same seed gives the same study; "
        "false: decide with the results so far, no worker ever waits",
    )
    fixed: dict[str, Any] = Field(default={}, description="settings of this budget, by path")

    @model_validator(mode="before")
    @classmethod
    def _sized_by_time(cls, values: Any) -> Any:
        """Give a budget of minutes the size from which its own is derived."""
        if not isinstance(values, dict) or values.get("minutes") is None:
            return values
        size = {"trials": TRIALS, "steps": STEPS, **values}
        if not {"min_steps", "first_rung"} & values.keys() and isinstance(size["steps"], int):
            size["min_steps"] = max(size["steps"] // RUNGS, 1)
        return size

    @model_validator(mode="after")
    def _fit_together(self, info: ValidationInfo) -> Budget:
        if self.scheduler == "racing" and not self.deterministic:
            raise ValueError("scheduler: racing decides in rounds; use halving, or deterministic")
        if self.min_steps > self.steps and not (info.context or {}).get(KEPT):
            raise ValueError(
                f"min_steps: {self.min_steps} is more than steps {self.steps}; no trial would be "
                "stopped early, which `scheduler: none` says"
            )
        return self
