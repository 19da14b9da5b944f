"""The provenance of a run's numbers: events, code, machine."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import get_args

import torch

from lartpc_ray.atomic import write_json
from lartpc_ray.data.splits import Split, Splits
from lartpc_ray.sparse import resolve_name
from lartpc_ray.trials.trial import Trial

DIGESTS = "digests.json"
KEPT = 100
"""Files whose digests are remembered."""
PACKAGES = ("lartpc-ray", "torch", "ray", "optuna", "mlflow", "numpy")


@dataclass(frozen=True)
class Source:
    """The file of a split.

    Attributes:
        path: of the file.
        size: in bytes.
        digest: SHA-256 of its content, in hexadecimal.
    """

    path: Path
    size: int
    digest: str


def sources(splits: Splits, folder: Path) -> dict[str, Source]:
    """Return the files of the three splits; keep their digests in a folder.

    A file is read again if its size or its time of change differs.
    """
    paths = {split: splits.file(split).resolve() for split in get_args(Split)}
    return {
        split: Source(path, path.stat().st_size, _digest(path, folder / DIGESTS))
        for split, path in paths.items()
    }


def data_hash(files: dict[str, Source]) -> str:
    """Return one digest of all splits: their names, sizes and contents."""
    lines = (f"{split} {file.path.name} {file.size} {file.digest}" for split, file in files.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def tags(trial: Trial, found: dict[str, Source]) -> dict[str, str]:
    """Return the tags that show the provenance of a run's numbers."""
    known = {
        "task": trial.task.name,
        "engine": resolve_name(trial.network.engine),
        "data": data_hash(found),
        "versions": ", ".join([f"python {platform.python_version()}", *_versions()]),
        "host": socket.gethostname(),
    }
    if torch.cuda.is_available():
        known["gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    commit = _commit(Path(__file__).parents[2])
    return known | ({"mlflow.source.git.commit": commit} if commit else {})


def _digest(path: Path, file: Path) -> str:
    changed = path.stat()
    key = f"{path} {changed.st_size} {changed.st_mtime_ns}"
    known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    if key not in known:
        with path.open("rb") as content:
            known[key] = hashlib.file_digest(content, "sha256").hexdigest()
        write_json(file, dict(list(known.items())[-KEPT:]), indent=0)
    return known[key]


@cache
def _versions() -> list[str]:
    """Return the versions of the installed packages; a checkout may lack some."""
    found = {str(one.name).lower(): one.version for one in distributions()}
    return [f"{name} {found[name]}" for name in PACKAGES if name in found]


@cache
def _commit(folder: Path) -> str:
    """Return the commit of a checkout, with `-dirty` if files differ; empty elsewhere."""
    git = shutil.which("git")
    if not git or not (folder / ".git").exists():
        return ""
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    command.append("--exclude=*")  # tags: the commit itself is wanted
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()
