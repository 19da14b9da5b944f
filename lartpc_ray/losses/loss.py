"""Loss: a total to minimise and its named terms."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Loss:
    """`total` carries the gradient; `terms` are detached and logged."""

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]

    def numbers(self) -> dict[str, float]:
        """Return the total and the terms as plain numbers."""
        named = {"loss": self.total, **self.terms}
        return {name: float(value.detach()) for name, value in named.items()}
