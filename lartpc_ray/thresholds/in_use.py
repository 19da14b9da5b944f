"""Mark in MLflow which thresholds of a run are in use, for one command at a time.

`predict` reads the thresholds file of the run. Tag, name and description of each run of thresholds
follow from that file, so two commands at a time leave one result that is marked as in use.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lartpc_ray.atomic import only_holder
from lartpc_ray.predict.thresholds_file import read_thresholds_file
from lartpc_ray.tasks.clustering import LABELS
from lartpc_ray.terminal.phases import phase
from lartpc_ray.tracking.runs import NOTE, Tracking
from lartpc_ray.tracking.store import lock_file

IN_USE = " · in use"
"""End of the name of a run of thresholds that `predict` uses: its parent's page lists the names."""
IDENTITY = ("method", "cluster_rule", "rule", "split", "data", "refine", "min_voxels")
"""Entries of a thresholds file that, with the objectives, identify it among those of a run."""


@contextmanager
def only_command(tracking: Tracking, name: str) -> Iterator[None]:
    """Hold the lock of the thresholds of a run; wait while another process holds it.

    The lock holds for the processes that reach one SQLite store; with a server for those of this
    user on this machine.

    Args:
        tracking: store of the run.
        name: of the lock: the id of the run.
    """
    lock = lock_file(tracking.uri, f"thresholds-{name}", _locks)
    with ExitStack() as held:
        with phase("waiting for another command that logs thresholds"):
            held.enter_context(only_holder(lock, None))
        yield


def _locks() -> Path:
    from lartpc_ray.runtime.ray_session import locks_folder  # it imports Ray

    return locks_folder()


def used_thresholds(tracking: Tracking, run: str, method: str) -> dict[str, Any] | None:
    """Return the content of the thresholds file that `predict` uses; None if the run has none."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = tracking.fetch(run, file_name({"method": method}), Path(scratch))
        except ValueError:
            return None
        return read_thresholds_file(path)


def mark_used(
    tracking: Tracking, run: str, parent: str, method: str, child: str
) -> dict[str, Any] | None:
    """Mark the runs of thresholds of a method by the file that `predict` reads.

    A command on another machine may write the file meanwhile. So the file is read again after the
    marks are set, until it has stayed: the last marks are those of the last file.

    Args:
        tracking: store of the run.
        run: its id, or a folder of a run's files.
        parent: the MLflow run of the thresholds.
        method: name of the reconstruction.
        child: the run of the thresholds that a command has just logged.

    Returns:
        the content of the file.
    """
    while True:
        used = used_thresholds(tracking, run, method)
        found = False
        for other in dict.fromkeys([child, *tracking.children(parent, kind="thresholds")]):
            found |= _mark(tracking, other, method, None if found else used)
        if _is_equal(used_thresholds(tracking, run, method), used):
            return used


def _mark(tracking: Tracking, child: str, method: str, used: Mapping[str, Any] | None) -> bool:
    """Mark a run of thresholds; return whether it holds those in use."""
    about = tracking.run_info(child)
    identity, marked = about.get("of", ""), about.get("in_use")
    if identity.split()[1:2] != [method]:
        return False
    if marked == "false" and (used is None or identity != identify(used)):
        return False
    content = used_thresholds(tracking, child, method)
    if content is None:  # its command was stopped
        return False
    kept = used is not None and is_same(used, content)
    if marked != str(kept).lower() or about["name"].endswith(IN_USE) != kept:
        note, before = about.get(NOTE, ""), state(content, not kept)
        if note.startswith(before):
            tracking.describe(child, state(content, kept) + note.removeprefix(before))
        tracking.rename(child, about["name"].removesuffix(IN_USE) + IN_USE * kept)
        tracking.set_tags(child, {"in_use": str(kept).lower()})
    return kept


def is_same(used: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Return whether thresholds are those in use."""
    same_work = identify(used) == identify(content)
    return same_work and _is_equal(used["classes"], content["classes"])


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two contents are equal; NaN, the error of a single event, equals NaN."""
    return bool(one == other) or json.dumps(one, sort_keys=True) == json.dumps(
        other, sort_keys=True
    )


def identify(content: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal reconstructions, objectives, rules and events."""
    known = {key: content[key] for key in IDENTITY if key in content}
    objectives = {name: row["objective"] for name, row in content["classes"].items()}
    digest = short_digest(json.dumps([known, objectives], sort_keys=True))
    return f"thresholds {content['method']} {digest}"


def short_digest(text: str) -> str:
    """Return the first characters of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_name(content: Mapping[str, Any]) -> str:
    """Return the name of a thresholds file."""
    return f"thresholds-{content['method']}.yaml"


def method_words(content: Mapping[str, Any]) -> str:
    """Return for which reconstruction thresholds are used, where a run has several."""
    words = {**LABELS, "dbscan": "DBSCAN"}.get(content["method"])
    return f" for {words}" if words else ""


def state(content: Mapping[str, Any], kept: bool) -> str:
    """Return who uses the thresholds, the first line of a description."""
    user = "predict uses" if "split" in content else "in use for this file are"
    return f"{user} {'these' if kept else 'other'} thresholds{method_words(content)}"
