"""Tuned thresholds as other programs read them."""

from __future__ import annotations

from typing import Any

import yaml

from lartpc_ray.tasks.clustering import UNTUNED

FORMS = ("spine", "mlreco")


def exported(content: dict[str, Any], form: str) -> str:
    """The thresholds in another program's form.

    Both count shower 0, track 1, Michel 2, delta 3, and know one kind of track: it takes those of
    MIP, of which there are more voxels. lartpc_mlreco3d (SPICEFragmentManager) reads two lists by
    that number; SPINE one entry a class. An untuned class keeps their default (0, 0.5).
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
        values = {
            shape: {"seed_threshold": row["s0"], "probability_threshold": row["p0"]}
            for shape, row in zip(shapes, found, strict=True)
        }
    return yaml.safe_dump(values, sort_keys=False)
