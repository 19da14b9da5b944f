"""The scores of a trial by class and event, one file per validation in the trial's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.formats.arrays import read_arrays
from lartpc_ray.data.formats.source import locate_errors
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.system_errors import of_system
from lartpc_ray.terminal.text import error_text

EventScores = dict[str, dict[int, float]]
"""Class to event to score, at the best thresholds of a validation."""


def scores_file(folder: Path, step: int) -> Path:
    """Return the file of the scores after a step."""
    return folder / f"scores-{step:09d}.npz"


def write_scores(folder: Path, step: int, scores: Mapping[str, Mapping[int, float]]) -> None:
    """Write the scores of a validation whole or not at all, as two arrays per class."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for name, events in scores.items():
        arrays[f"{name}/event"] = np.array(list(events), np.int32)
        arrays[f"{name}/score"] = np.array(list(events.values()), np.float32)
    with replace_file(scores_file(folder, step)) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_scores(folder: Path, step: int) -> EventScores:
    """Return the scores of a validation; none for a missing or damaged file.

    Trials of earlier versions have no such files: they are compared by their objectives.

    Raises:
        ValueError: with the name of the file, if the system cannot read it now.
    """
    path = scores_file(folder, step)
    try:
        with locate_errors(path):
            arrays = read_arrays(path)
            names = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
            return {
                name: _by_event(arrays[f"{name}/event"], arrays[f"{name}/score"]) for name in names
            }
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        if of_system(error):
            raise
        log.warning(f"{error_text(error)}; damaged: the trial is compared by its objective")
        return {}


def _by_event(events: np.ndarray, scores: np.ndarray) -> dict[int, float]:
    """Return the score of each event.

    Raises:
        ValueError: for arrays that hold anything else.
    """
    kinds = events.dtype.kind, scores.dtype.kind
    if events.ndim != 1 or scores.shape != events.shape or kinds != ("i", "f"):
        raise ValueError(f"{scores.dtype} {scores.shape} for {events.dtype} {events.shape}")
    return dict(zip(events.tolist(), scores.tolist(), strict=True))
