"""The folder of one run: its name, its lock, its plan."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from pydantic import ValidationError

from lartpc_ray.atomic import name_in_errors, read_json, write_holder, write_json
from lartpc_ray.runtime.failures import cause_of
from lartpc_ray.runtime.signals import resumed_by
from lartpc_ray.settings import Settings
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text, shown_uri
from lartpc_ray.trials.paths import reason

Plan = TypeVar("Plan", bound=Settings)
LOCK = "lock"
PLANNED = ("budget", "minutes", "data", "set", "workers", "seed", "tracking_uri", "run", "from")
"""Options that the plan of a run holds."""
DAMAGES = ("json_invalid", "missing")
"""Errors of pydantic for a file that no version has written."""


class DamagedPlanError(ValueError):
    """A plan file that is missing, truncated or overwritten, without a sound copy."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for this process; the system unlocks it when the process ends.

    Raises:
        ValueError: if another process holds the lock; names that process.
    """
    lock = folder / LOCK
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"  # which has not written its name yet
            raise ValueError(f"{folder}: in use by {holder}") from None
        file.truncate(0)
        write_holder(file, lock, f"process {os.getpid()} on {socket.gethostname()}")
        yield


@contextmanager
def resumable(again: str) -> Iterator[None]:
    """Add the command that resumes a run to an error that the user did not cause, and to a stop.

    Raises:
        RuntimeError: for an error of the machine, of Ray or of the tracking server.
    """
    try:
        with resumed_by(again):
            yield
    except Exception as error:
        if isinstance(error, ValueError | KeyError) and cause_of(error) != "machine":
            raise
        raise RuntimeError(
            f"{error_text(error)}; what is done is saved. To continue (failed trials, too: add "
            f"--retry), run: {again}"
        ) from error


def resume_command(command: str, study: str, folder: Path) -> str:
    """Return the line that resumes a run, as a shell reads it.

    Example:
        >>> resume_command("tune", "smoke", Path("my runs/smoke-1"))
        "python -m lartpc_ray.tune smoke --resume 'my runs/smoke-1'"
    """
    words = ["python", "-m", f"lartpc_ray.{command}", study, "--resume", str(folder)]
    return shlex.join(words)


def study_name(given: str) -> str:
    """Return the name of a study from the NAME of a command line, or from its file.

    Example:
        >>> study_name("spaces/mine-2.1.yaml"), study_name("mine-2.1")
        ('mine-2.1', 'mine-2.1')
    """
    return Path(given).name.removesuffix(".yaml").removesuffix(".yml")


def new_folder(runs: Path, name: str) -> Path:
    """Return the folder of a new run; its name is also the run's name in MLflow.

    The random end separates runs that start in the same second, also on several machines.
    """
    return runs.resolve() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"


def planned_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command line that the plan of its run keeps, without password."""
    given = {name: getattr(options, name, None) for name in PLANNED}
    return _readable({name: value for name, value in given.items() if value not in (None, [])})


def _readable(options: dict[str, Any]) -> dict[str, Any]:
    """Return options without the password of their store: others may read a plan."""
    if store := options.get("tracking_uri"):
        return options | {"tracking_uri": shown_uri(str(store))}
    return options


def resume_folder(options: argparse.Namespace, name: str) -> Path:
    """Return the folder that `--resume` names, as a path or as a name in the runs folder.

    The options that began the run are accepted: a scheduler repeats the whole command line.

    Raises:
        ValueError: if the folder holds no plan of that name, or for another value of an option
            that the plan holds; a damaged plan is left to `load_plan`.
    """
    given: Path = options.resume
    is_name = given.parent == Path() and not given.exists()
    folder = (options.runs / given if is_name else given).resolve()
    plans = [path for path in (folder / name, copy_of(folder / name)) if path.is_file()]
    if not plans:
        raise ValueError(
            f"{folder}: no study to resume here (no {name}); `tune` resumes the folder of a "
            "search, `train` that of a training, both in --runs"
        )
    kept = _kept_options(plans)
    if kept is None:
        return folder
    for option, value in planned_options(options).items():
        if kept.get(option) != value:
            flag = f"--{option.replace('_', '-')}"
            raise ValueError(
                f"{flag} {value}: a resumed run keeps its settings (here: "
                f"{kept.get(option, 'not given')}); leave out {flag}"
            )
    return folder


def _kept_options(plans: Sequence[Path]) -> dict[str, Any] | None:
    """Return the options of the first sound plan file; None without any, which is refused later."""
    for path in plans:
        with suppress(ValueError):
            content = read_json(path)
            kept = content.get("options", {})
            if "uri" in content and isinstance(kept, dict):  # a key that all plans have
                return _readable(kept)
    return None


def copy_of(path: Path) -> Path:
    """Return the copy of a plan file: it restores a damaged one."""
    return path.with_name(f"{path.stem}-copy{path.suffix}")


def write_plan(path: Path, plan: Settings) -> None:
    """Write a plan file and its copy."""
    for file in (copy_of(path), path):
        write_json(file, plan.model_dump())


def load_plan(path: Path, kind: type[Plan]) -> Plan:
    """Read a plan file; restore a damaged one from its copy.

    Raises:
        DamagedPlanError: in one line, if the file is damaged and has no sound copy.
        ValueError: in one line, if the file has a key or a value that this version does not know.
    """
    try:
        return _read_plan(path, kind)
    except DamagedPlanError as error:
        copy = copy_of(path)
        try:
            plan = _read_plan(copy, kind)
        except ValueError:
            raise error from None
        log.warning(f"{error}; restored from {copy.name}")
        write_json(path, plan.model_dump())
        return plan


def _read_plan(path: Path, kind: type[Plan]) -> Plan:
    try:
        with name_in_errors(path):
            content = path.read_bytes()
        return kind.model_validate_json(content)
    except FileNotFoundError:
        raise DamagedPlanError(f"{path}: missing") from None
    except ValidationError as error:
        kinds = {one["type"] for one in error.errors(include_url=False)}
        if "model_type" in kinds:
            raise DamagedPlanError(f"{path}: damaged: it holds no names and values") from None
        text = ": ".join(filter(None, (str(path), *reason(error, kind))))
        raise (DamagedPlanError if kinds & {*DAMAGES} else ValueError)(text) from None
