"""Find and read the thresholds files that `python -m lartpc_ray.thresholds` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lartpc_ray.reconstruct.reconstructions import LinkedClustering
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.yaml_file import read_yaml

EARLIER_NAMES = {"cut": "method", "goal": "objective"}


def read_thresholds_file(path: Path) -> dict[str, Any]:
    """Read the content of a thresholds file, also one of an earlier version.

    Args:
        path: a YAML file with `method` and, under `classes`, one mapping per class.

    Raises:
        ValueError: for a file without thresholds.
    """
    file = read_yaml(path)
    try:
        content = with_present_names(file.content, EARLIER_NAMES)
        linked = content.get("method") == "linked"
        axes = earlier_names(LinkedClustering) if linked else {}
        content["classes"] = {
            str(name): _class_with_present_names(row, axes)
            for name, row in content["classes"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: no thresholds in it; see thresholds --help") from None
    return content


def _class_with_present_names(row: dict[str, Any], axes: dict[str, str]) -> dict[str, Any]:
    present = with_present_names(row, EARLIER_NAMES | axes)
    if "interval" in present:
        present["interval"] = with_present_names(present["interval"], axes)
    return present


def fetch_thresholds(tracking: Tracking, run: str, method: str, folder: Path) -> Path:
    """Return the file of the thresholds that a run uses.

    Args:
        tracking: store of the run.
        run: its id, or a folder of its files.
        method: name of the reconstruction.
        folder: for a downloaded file.

    Raises:
        ValueError: for a run without such thresholds; names the command that tunes them.
    """
    try:
        return tracking.fetch(run, f"thresholds-{method}.yaml", folder)
    except ValueError as error:
        raise ValueError(
            f"{error}; tune them: python -m lartpc_ray.thresholds NAME --run {run} --method "
            f"{method} --keep, or give --thresholds FILE.yaml"
        ) from None


def read_thresholds(path: Path, axes: Sequence[str]) -> Thresholds:
    """Read the thresholds of each class.

    Args:
        path: a thresholds file.
        axes: names of the thresholds that each class must have.

    Raises:
        ValueError: for a file without these thresholds.
    """
    classes = read_thresholds_file(path)["classes"]
    try:
        return {name: {axis: float(row[axis]) for axis in axes} for name, row in classes.items()}
    except (KeyError, TypeError, ValueError):
        names = " and ".join(axes)
        raise ValueError(f"{path}: no thresholds {names} in it; see thresholds --help") from None
