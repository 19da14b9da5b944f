"""Names of reconstructions and rules, and the untuned point: what a parser needs, without numpy."""

from typing import Literal

METHODS = ("seeds", "linked", "pieces", "dbscan")
"""Reconstructions that a run can be read with."""
UNTUNED = {"s0": 0.0, "p0": 0.5}
"""The untuned point of SPINE and lartpc_mlreco3d; every surface shows it."""
ClusterRule = Literal["argmax", "counted", "first_come"]
"""How seeds share the voxels: by the highest probability, with a list of seeds that may end early
(lartpc_mlreco3d), or the first seed keeps its members (SPINE)."""
Rule = Literal["best", "robust"]
"""How the point of a class is chosen: the highest mean, or the middle of the resamples' bests."""
