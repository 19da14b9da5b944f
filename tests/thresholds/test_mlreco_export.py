"""The lists of `--export mlreco`, read by lartpc_mlreco3d's rules, written from their description.

Its fragment manager of SPICE clusters the classes in `cluster_classes`, by default none, and takes
the thresholds of a class at the place of its number in the lists: shower 0, track 1, Michel 2,
delta 3. It leaves out a class with fewer than `min_voxels` voxels in an event.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lartpc_ray.reconstruct.counted import cluster_counted
from lartpc_ray.thresholds.export import exported

NUMBERS = {"SHOWER": 0, "MIP": 1, "MICHEL": 2, "DELTA": 3}
CONTENT = {
    "classes": {name: {"s0": 0.3 + n / 10, "p0": 0.05 + n / 7} for name, n in NUMBERS.items()}
}
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"


def fragments(
    settings: dict[str, Any], semantic: np.ndarray, outputs: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Return the voxels of each fragment of an event, class after class."""
    found = []
    for code in settings.get("cluster_classes", []):
        voxels = np.flatnonzero(semantic == code)
        if len(voxels) < settings.get("min_voxels", 2):
            continue
        labels = joined(
            outputs["position"][voxels],
            outputs["margin"][voxels],
            outputs["seediness"][voxels],
            settings["s_thresholds"][code],
            settings["p_thresholds"][code],
        )
        found += [voxels[labels == label] for label in np.unique(labels) if label >= 0]
    return found


def joined(
    position: np.ndarray, margin: np.ndarray, seediness: np.ndarray, s: float, p: float
) -> np.ndarray:
    """Let seeds take voxels above p until the best is below s; each voxel joins its best seed.

    The loop also ends once the voxels above p, counted anew at each seed, are as many as there
    are. Without a seed all voxels are one cluster.
    """
    position, margin = position.astype(np.float32), margin.astype(np.float32)
    free, kernels, counted = seediness.astype(np.float32), [], 0
    while counted < len(position):
        seed = int(free.argmax())
        if seediness[seed] < s:
            break
        far = ((position - position[seed]) ** 2).sum(axis=1)
        kernels.append(np.exp(-far / (2 * margin[seed] ** 2)))
        free[kernels[-1] > np.float32(p)] = 0
        counted += int((kernels[-1] > np.float32(p)).sum())
    return np.argmax(kernels, axis=0) if kernels else np.ones(len(position), int)


def test_its_fragments_are_our_clusters(rng: np.random.Generator) -> None:
    count = 400
    semantic = rng.integers(0, 4, count)
    semantic[:2] = [4, 4]
    outputs = {
        "position": rng.uniform(-1, 1, (count, 3)),
        "margin": rng.uniform(0.1, 0.6, count),
        "seediness": rng.random(count),
    }
    lists = yaml.safe_load(exported(CONTENT, "mlreco"))
    assert fragments(lists, semantic, outputs) == [], "without cluster_classes it clusters nothing"
    found = fragments(lists | {"cluster_classes": [0, 1, 2, 3]}, semantic, outputs)
    ours = []
    for name, code in NUMBERS.items():
        voxels = np.flatnonzero(semantic == code)
        row = CONTENT["classes"][name]
        position, margin, seediness = (outputs[key][voxels] for key in outputs)
        labels = cluster_counted(position, margin, seediness, row["s0"], row["p0"])
        ours += [voxels[labels == label] for label in np.unique(labels) if label >= 0]
    assert len(found) > 20
    assert len({len(part) for part in found}) > 3
    for known, part in zip(ours, found, strict=True):
        np.testing.assert_array_equal(known, part)


def test_the_configuration_of_the_page_is_read() -> None:
    blocks = re.findall(r"^```\n(model:.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if "spice_fragment_manager" in block)
    settings = yaml.safe_load(block)["model"]["modules"]["spice"]["spice_fragment_manager"]
    assert settings["cluster_classes"] == sorted(NUMBERS.values())
    for name in yaml.safe_load(exported(CONTENT, "mlreco")):
        assert all(isinstance(value, float) for value in settings[name])
        assert len(settings[name]) == len(NUMBERS)
