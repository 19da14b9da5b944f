"""Find and read the thresholds files that `python -m lartpc_ray.thresholds` writes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from lartpc_ray.reconstruct.reconstructions import (
    LinkedClustering,
    Reconstruction,
    SeedClustering,
)
from lartpc_ray.settings import earlier_names, with_present_names
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.tracking.pages import store_arguments
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
            f"{error}; tune them: python -m lartpc_ray.thresholds NAME --run {shlex.quote(run)}"
            f"{store_arguments(tracking)} --method {method} --keep, or give --thresholds FILE.yaml"
        ) from None


def read_thresholds(path: Path, method: Reconstruction) -> Thresholds:
    """Read the thresholds of each class.

    Args:
        path: a thresholds file; one without `method` may be of any reconstruction.
        method: the reconstruction that uses them.

    Raises:
        ValueError: for a file without these thresholds, or of another reconstruction: `linked` has
            s0 and p0, too, with other best values than `seeds`.
    """
    content = read_thresholds_file(path)
    _refuse_other_method(path, content, method)
    classes, axes = content["classes"], list(method.axes())
    try:
        return {name: {axis: float(row[axis]) for axis in axes} for name, row in classes.items()}
    except (KeyError, TypeError, ValueError):
        names = " and ".join(axes)
        raise ValueError(f"{path}: no thresholds {names} in it; see thresholds --help") from None


def _refuse_other_method(path: Path, content: dict[str, Any], method: Reconstruction) -> None:
    """Refuse thresholds that a file names as those of another reconstruction or rule.

    Raises:
        ValueError: with both names.
    """
    given = content.get("method", method.name)
    if given != method.name:
        raise ValueError(
            f"{path}: thresholds of the reconstruction {given}, not of {method.name}; give "
            f"--method {given}, or another file"
        )
    if isinstance(method, SeedClustering):
        rule = content.get("cluster_rule", method.rule)
        if rule != method.rule:
            raise ValueError(
                f"{path}: thresholds for the clustering rule {rule}; this run clusters by "
                f"{method.rule}: tune them without --cluster-rule"
            )
