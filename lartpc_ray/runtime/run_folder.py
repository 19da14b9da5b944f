"""The folder of one run: its name, its lock, its plan."""

from __future__ import annotations

import argparse
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from pydantic import ValidationError

from lartpc_ray.settings import Settings
from lartpc_ray.trials.paths import reason

Plan = TypeVar("Plan", bound=Settings)
LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for this process; the system unlocks it when the process ends.

    Raises:
        ValueError: if another process holds the lock; names that process.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"{folder}: in use by {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def new_folder(runs: Path, name: str) -> Path:
    """Return the folder of a new run; its name is also the run's name in MLflow.

    The random end separates runs that start in the same second, also on several machines.
    """
    return runs.resolve() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"


def resume_folder(options: argparse.Namespace, name: str) -> Path:
    """Return the folder that `--resume` names, as a path or as a name in the runs folder.

    Raises:
        ValueError: if the folder holds no plan of that name.
    """
    given: Path = options.resume
    folder = (given if given.exists() else options.runs / given).resolve()
    if not (folder / name).is_file():
        raise ValueError(f"{folder}: no study to resume here (no {name})")
    return folder


def load_plan(path: Path, kind: type[Plan]) -> Plan:
    """Read a plan file.

    Raises:
        ValueError: in one line, if the file is truncated or has a key that this version does not
            know.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(": ".join(filter(None, (str(path), *reason(error, kind))))) from None
