"""The provenance of a run's numbers: events, code, machine."""

from __future__ import annotations

import hashlib
import platform
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import get_args

import torch

from lartpc_ray.atomic import name_in_errors, read_json, write_json
from lartpc_ray.data.shards import list_shards
from lartpc_ray.data.splits import Split, Splits
from lartpc_ray.sparse import resolve_name
from lartpc_ray.trials.trial import Trial

DIGESTS = "digests.json"
KEPT = 100
"""Files whose digests are remembered."""
SAMPLED_BYTES = 2**20
"""Bytes at both ends of a file in a folder that its digest covers."""
PACKAGES = ("lartpc-ray", "torch", "ray", "optuna", "mlflow", "numpy")


@dataclass(frozen=True)
class Source:
    """The file of a split, or the folder of its files.

    Attributes:
        path: of the file or folder.
        size: in bytes.
        digest: SHA-256 in hexadecimal, of the content of a file; of a folder: of the name, size,
            first and last MiB of each file.
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
        split: _folder_source(path)
        if path.is_dir()
        else Source(path, path.stat().st_size, file_digest(path, folder / DIGESTS))
        for split, path in paths.items()
    }


def _folder_source(folder: Path) -> Source:
    """Return a folder of event files without a full read: PILArNet-M has 151 GB in one."""
    digest, total = hashlib.sha256(), 0
    for path in list_shards(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with name_in_errors(path), path.open("rb") as content:
            digest.update(content.read(SAMPLED_BYTES))
            content.seek(max(0, size - SAMPLED_BYTES))
            digest.update(content.read(SAMPLED_BYTES))
        total += size
    return Source(folder, total, digest.hexdigest())


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
    return known | source_tags()


def source_tags() -> dict[str, str]:
    """Return the tags of MLflow's column "Source": this package, in a checkout with its commit."""
    commit = _commit(Path(__file__).parents[2])
    known = {"mlflow.source.name": "lartpc-ray", "mlflow.source.type": "LOCAL"}
    return known | ({"mlflow.source.git.commit": commit} if commit else {})


def file_digest(path: Path, file: Path) -> str:
    """Return the SHA-256 of a file's content, from the digests in `file` or computed and kept."""
    changed = path.stat()
    times = f"{changed.st_mtime_ns} {changed.st_ctime_ns}"  # cp -p keeps the first one
    key = f"{path} {changed.st_size} {times}"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):  # a damaged file: its digests are computed again
        known = {key: text for key, text in read_json(file).items() if isinstance(text, str)}
    if key not in known:
        with name_in_errors(path), path.open("rb") as content:
            known[key] = hashlib.file_digest(content, "sha256").hexdigest()
        with suppress(OSError):  # the folder of another user's runs; the digest is found
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
