"""A part of a training: from one rung of a search to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPart:
    """The part of a training between two validations.

    Attributes:
        after: step of the last validation that was reported before.
        until: the part ends with the first validation at or after this step; None: with the last.
    """

    after: int = 0
    until: int | None = None

    def reports(self, history: Sequence[dict[str, float]]) -> Iterator[dict[str, float]]:
        """Yield the validations of the part among those of a checkpoint."""
        for numbers in history:
            if numbers["step"] > self.after:
                yield numbers
            if self.ends_with([numbers]):
                return

    def ends_with(self, history: Sequence[dict[str, float]]) -> bool:
        """Return whether the last of some validations ends the part.

        Example:
            >>> TrainingPart(until=100).ends_with([{"step": 50}]), WHOLE.ends_with([{"step": 50}])
            (False, False)
        """
        return bool(history) and self.until is not None and history[-1]["step"] >= self.until


WHOLE = TrainingPart()
