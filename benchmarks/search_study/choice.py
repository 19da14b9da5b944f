"""How well a search knows its own winner: the estimated gain against the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.winner import KEPT_BELOW
from search_study.ours import Plan, winner
from search_study.simulate import WORSE
from search_study.surrogate import Surrogate
from search_study.world import Run, World


@dataclass(frozen=True)
class Choice:
    """The best trial beside the default of a simulated search.

    Attributes:
        measured: paired difference to the default on the tune events, and `p_measured`.
        estimated: gain with the choice among all trials counted, its `error` and `p_estimated`.
        true: difference of the true scores.
    """

    measured: float
    p_measured: float
    estimated: float
    error: float
    p_estimated: float
    true: float


def choice(
    surrogate: Surrogate, seed: int, trials: int, events: int, shrink: float, seeds: float
) -> Choice | None:
    """Simulate a search with rungs at 1/5, 3/5 and 5/5 of the steps; None without a rival.

    Args:
        surrogate: of the world.
        seed: of the world.
        trials: of the search.
        events: tune events of each class.
        shrink: factor on the effects of the settings.
        seeds: factor on the noise of the seeds; both 0: all trials are equal.
    """
    world = World(surrogate, seed, events, shrink)
    world._of_seed = world._of_seed * seeds
    world.default = world.train(world.first)
    plan = Plan(first=80, count=trials)
    decisions, runs = Decisions.of(plan._space(world, 0)), dict[int, Run]()
    for _ in plan.search(world, decisions, runs):
        pass
    found = winner(decisions)
    if found.rival is None or found.gain is None or found.difference is None:
        return None
    return Choice(
        found.difference.difference,
        found.difference.p_better,
        found.gain.difference,
        found.gain.error,
        found.gain.p_better,
        world.gain(runs[found.rival], world.lengths),
    )


def summary(found: list[Choice | None]) -> list[str]:
    """Return the table of two rules: P of the pair alone, and P with the choice counted."""
    known = [one for one in found if one]
    true = np.array([one.true for one in known])
    estimated = np.array([one.estimated for one in known])
    inside = np.abs(estimated - true) <= np.array([one.error for one in known])
    measured = np.array([one.measured for one in known])
    lines = [
        f"{len(found)} searches, {len(known)} with a rival: true gain {true.mean():+.4f}, measured "
        f"{measured.mean():+.4f}, estimated {estimated.mean():+.4f}, within its error in "
        f"{inside.mean():.0%}"
    ]
    for name, values, chances in (
        ("measured", measured, [one.p_measured for one in known]),
        ("estimated", estimated, [one.p_estimated for one in known]),
    ):
        claims = np.array(chances) >= KEPT_BELOW
        gains = true[claims]
        text = f"{name}: a better trial is claimed in {claims.mean():.0%}"
        if claims.any():
            text += f", by {values[claims].mean():+.4f}; true {gains.mean():+.4f}"
        share = (gains < -WORSE).sum() / len(found)
        lines.append(f"{text}; gain {gains.sum() / len(found):+.4f}, worse in {share:.1%}")
    return lines
