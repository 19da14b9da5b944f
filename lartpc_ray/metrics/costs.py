"""Costs of a trial beside its objective, and the Pareto front."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

COSTS = {
    "seconds_a_step": "s per step",
    "training_gib": "training GiB",
    "seconds_an_event": "s per event",
    "inference_gib": "inference GiB",
}
"""The costs that a trial reports, each with a short title."""
TOLERANCE = 0.01
"""`pick` takes objectives that differ by less as equal: chance makes differences as large."""


def pareto(
    objective: Float[np.ndarray, " trial"], costs: Float[np.ndarray, "trial cost"]
) -> Bool[np.ndarray, " trial"]:
    """Mark the trials on the Pareto front: no other has as good an objective at no higher cost.

    Example:
        >>> pareto(np.array([0.9, 0.8, 0.7]), np.array([[2.0], [1.0], [1.0]])).tolist()
        [True, True, False]
    """
    values = np.column_stack([-objective, costs])
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    beaten = (no_worse & better).any(axis=0)
    return np.logical_not(np.asarray(beaten))


def pick(objective: Float[np.ndarray, " trial"], costs: Float[np.ndarray, "trial cost"]) -> int:
    """Pick the trial of least first cost among those within `TOLERANCE` of the best objective.

    Example:
        >>> pick(np.array([0.9, 0.895, 0.7]), np.array([[2.0], [1.0], [0.1]]))
        1
    """
    near = np.flatnonzero(objective >= objective.max() - TOLERANCE)
    return int(near[costs[near, 0].argmin()])
