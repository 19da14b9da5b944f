"""Asynchronous successive halving (Li et al. 2020, ASHA)."""

from __future__ import annotations

from lartpc_ray.tune.history import DEFAULT, History
from lartpc_ray.tune.schedulers.scheduler import Scheduler, Work


class SuccessiveHalving(Scheduler):
    """Let the best 1/r of the trials at a rung pass it, in the order of their objectives.

    A trial that does not pass waits with its checkpoint: it passes later if it is then among the
    best 1/r of more trials. A free slot takes the highest rung with such a trial, and a new trial
    if there is none. The default always passes. Once no further trial comes to a rung, the best one
    there passes, also of fewer than r.
    """

    def next(self, history: History, slots: int) -> Work:
        """Return the trials that pass a rung, then new trials."""
        passing = self._passing(history)[:slots]
        continued = {trial: self.after(history.trials[trial].step) for trial in passing}
        return Work(continued, len(passing) < slots and self.left(history) > 0)

    def passing(self, level: int) -> int:
        """Return the best 1/r of the trials at each rung, and the default."""
        return max(int(self.trials / self.reduction**level), 1) + 1

    def _passing(self, history: History) -> list[int]:
        """Return the trials that pass a rung, those at the highest one first."""
        found: list[int] = []
        more = self.left(history) > 0
        for rung in self.rungs[:-1]:
            more = more or any(one.running and one.until == rung for one in history.trials)
            results = history.at(rung)
            ranked = sorted(results, key=lambda trial: -results[trial].objective)
            best = ranked[: max(int(len(ranked) / self.reduction), int(not more))]
            at_rung = [trial for trial in (*best, DEFAULT) if trial in results]
            waiting = [t for t in dict.fromkeys(at_rung) if history.trials[t].until == rung]
            found = waiting + found
            more = more or bool(waiting)
        return found
