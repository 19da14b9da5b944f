"""The one base of everything that can be configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen record of typed values; an unknown key or a wrong type is an error.

    A setting that an earlier version called otherwise names both in
    `validation_alias=AliasChoices(present, earlier)`, so that earlier files still load.

    Example:
        >>> class Size(Settings):
        ...     side: int = 512
        >>> Size(side=768).side
        768
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        loc_by_alias=False,
    )


def earlier_names(model: type[BaseModel]) -> dict[str, str]:
    """Return the earlier names of settings, each with the present name."""
    return {
        str(earlier): name
        for name, field in model.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for earlier in field.validation_alias.choices
        if earlier != name
    }


def with_present_names(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Replace earlier keys of a mapping by present ones.

    Example:
        >>> with_present_names({"goal": 0.9, "step": 3}, {"goal": "objective"})
        {'objective': 0.9, 'step': 3}
    """
    return {names.get(key, key): value for key, value in values.items()}
