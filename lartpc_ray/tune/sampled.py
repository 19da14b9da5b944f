"""The settings of each trial of a search, written before they take effect.

A resumed search takes the written settings. So a driver may be killed at any moment; Tune's own
snapshots, which lag behind, are not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lartpc_ray.atomic import read_json, write_json
from lartpc_ray.terminal.command import log
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import flatten_settings, present_path

SAMPLED = "sampled.json"
"""The file in a trial's folder that holds its sampled settings."""


def trial_folder(study: Path, number: int) -> Path:
    """Return the folder of a trial's checkpoints."""
    return study / "trials" / str(number)


def sampled_settings(folder: Path, task: str) -> dict[str, Any]:
    """Return the sampled settings of a started trial by their present paths."""
    content: dict[str, Any] = read_json(folder / SAMPLED)
    if any(isinstance(value, dict) for value in content.values()):
        raise ValueError(f"{folder / SAMPLED}: damaged: a setting holds {{name: value}}")
    return {present_path(path, task): value for path, value in content.items()}


class SampledSettings:
    """The settings of the trials in a study's folder.

    Args:
        study: folder of the study.
        task: of its trials.
    """

    def __init__(self, study: Path, task: str) -> None:
        self._study = study
        self._task = task

    def __call__(self, number: int, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial: the written ones, else the proposed ones, now written."""
        path = trial_folder(self._study, number) / SAMPLED
        if path.is_file():
            try:
                return sampled_settings(path.parent, self._task)
            except ValueError as error:
                return self._restored(path, proposed, error)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(proposed))
        return dict(proposed)

    def _restored(
        self, path: Path, proposed: Mapping[str, Any], error: ValueError
    ) -> dict[str, Any]:
        """Write damaged settings again: those of the trial's checkpoint, else the proposed ones."""
        settings, source = dict(proposed), "the sampler"
        for kept in reversed(checkpoints.files(path.parent)):
            with suppress(ValueError):  # a damaged checkpoint: the one before it
                every = flatten_settings(checkpoints.load(kept).trial)
                settings, source = {name: every[name] for name in settings}, kept.name
                break
        log.warning(f"{error}; written again from {source}")
        write_json(path, settings)
        return settings
