"""The one base of everything that can be configured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen record of typed values; an unknown key or a wrong type is an error.

    Example:
        >>> class Size(Settings):
        ...     side: int = 512
        >>> Size(side=768).side
        768
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )
