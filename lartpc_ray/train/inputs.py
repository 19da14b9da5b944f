"""The inputs of a run by their digests: a resumed run must find the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from lartpc_ray.tracking.provenance import sources
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.trial import Trial

Digests = dict[str, str]
"""Name of an input to the SHA-256 of its content."""


def data_digests(trial: Trial, runs: Path) -> Digests:
    """Return the digests of the files that a trial reads.

    Args:
        trial: its splits and its first weights.
        runs: folder that keeps the digests; a file is read again if its size or time differs.
    """
    digests = {split: file.digest for split, file in sources(trial.data.splits, runs).items()}
    if trial.start_weights:
        path = Path(trial.start_weights)
        path = path / checkpoints.FILE if path.is_dir() else path
        digests["start_weights"] = text_digest(path.read_bytes())
    return digests


def text_digest(content: bytes) -> str:
    """Return the SHA-256 of a content in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def refuse_changed(folder: Path, planned: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Refuse to resume a run on other inputs than it began with.

    Args:
        folder: of the run.
        planned: digests of its plan; a plan of an earlier version has none.
        found: present digests of some inputs.

    Raises:
        ValueError: with the inputs that differ.
    """
    changed = [name for name, digest in found.items() if planned.get(name, digest) != digest]
    if changed:
        raise ValueError(
            f"{folder}: changed since it began: {', '.join(changed)}; restore the earlier content, "
            "or start a new study on the present one with --accept-data"
        )
