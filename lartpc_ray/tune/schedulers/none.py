"""No scheduler: each trial trains to its end."""

from __future__ import annotations

from lartpc_ray.tune.history import History
from lartpc_ray.tune.schedulers.scheduler import Scheduler, Work


class NoScheduler(Scheduler):
    """Train every trial to its end."""

    @property
    def first(self) -> int:
        """Return the last rung."""
        return self.rungs[-1]

    @property
    def pauses(self) -> tuple[int, ...]:
        """Return the last rung."""
        return self.rungs[-1:]

    def next(self, history: History, slots: int) -> Work:
        """Return new trials only."""
        return Work(starts=self.left(history) > 0)
