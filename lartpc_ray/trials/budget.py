"""The budgets of a search, by the names of their sizes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field, PositiveInt

from lartpc_ray.settings import Settings

BudgetName = Literal["smoke", "laptop", "overnight", "gpu", "cluster"]


class Budget(Settings):
    """The cost that a search may have."""

    about: str = Field(default="", description="what it is for and what it gives, in one line")
    trials: PositiveInt = Field(description="trials, the first with the default settings")
    steps: PositiveInt = Field(description="training steps of a trial that is not stopped")
    min_steps: PositiveInt = Field(
        validation_alias=AliasChoices("min_steps", "first_rung"),
        description="steps before a trial may be stopped early",
    )
    reduction: float = Field(default=3.0, gt=1, description="1 of so many trials passes a rung")
    concurrent: PositiveInt = Field(default=1, description="trials at a time, resources allowing")
    deterministic: bool = Field(
        validation_alias=AliasChoices("deterministic", "in_order"),
        default=True,
        description="sample and compare batch by batch: the same seed gives the same study; "
        "false: compare with the trials so far, no worker ever waits",
    )
    fixed: dict[str, Any] = Field(default={}, description="settings of this budget, by path")
