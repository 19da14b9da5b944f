"""Tuned thresholds as other programs read them."""

from __future__ import annotations

from typing import Any

import yaml

from lartpc_ray.reconstruct.names import UNTUNED, ClusterRule

RULES: dict[str, ClusterRule] = {"spine": "first_come", "mlreco": "counted"}
"""Program to the rule by which its seeds share the voxels (SPINE 1.4, lartpc_mlreco3d)."""


def exported(content: dict[str, Any], form: str) -> str:
    """Write the thresholds in another program's form.

    Both programs count shower 0, track 1, Michel 2, delta 3. They know one kind of track, which
    takes the thresholds of MIP, the class with more voxels. lartpc_mlreco3d (SPICEFragmentManager)
    reads two lists in that order. SPINE (model.modules.spice.clusterer) reads two mappings from
    shape to threshold. An untuned class keeps their default (0, 0.5).
    """
    order = ("SHOWER", "MIP", "MICHEL", "DELTA")
    found = [content["classes"].get(name, UNTUNED) for name in order]
    if form == "mlreco":
        values: Any = {
            "s_thresholds": [row["s0"] for row in found],
            "p_thresholds": [row["p0"] for row in found],
        }
    else:
        shapes = ("shower", "track", "michel", "delta")
        thresholds = {
            name: {shape: row[axis] for shape, row in zip(shapes, found, strict=True)}
            for name, axis in (("seed_threshold", "s0"), ("probability_threshold", "p0"))
        }
        values = {"clusterer": thresholds}
    return yaml.safe_dump(values, sort_keys=False)
