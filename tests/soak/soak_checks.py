"""Find what a command has lost, doubled or left behind: the checks of tests/soak/soak.py.

Each check returns lines, none where all is well.
"""

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from pathlib import Path
from stat import S_ISCHR

import psutil

Histories = dict[str, dict[str, list[tuple[int, float]]]]
"""Trial to metric to (step, value)."""
OF_THE_MACHINE = re.compile(r"(resources/)?seconds|system/|.*_gib")
"""Metrics that differ between two runs of the same settings."""
LOGGED_TWICE = ("thresholds/", "system/")
"""The last validation and the final evaluation both log the thresholds of the last step."""
RAY_SESSIONS = re.compile(r"lartpc-ray-\d+(/writers|/ray(/session_[^/]+|/[^/]+\.json)?)?$")
MIB = 2**20


def within(seconds: float, check: Callable[[], list[str]]) -> list[str]:
    """Repeat a check until it finds nothing, at most for some seconds; return what remains."""
    deadline = time.monotonic() + seconds
    while (found := check()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def processes(keep: Collection[int]) -> list[str]:
    """Return the living processes that descend from this one, but for some and their children.

    This process must be a subreaper, so that orphans descend from it, too.
    """
    own = psutil.Process()
    kept = set(keep)
    for number in keep:
        if psutil.pid_exists(number):
            kept |= {child.pid for child in psutil.Process(number).children(recursive=True)}
    found = []
    for child in own.children(recursive=True):
        try:
            if child.pid not in kept and child.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {child.pid} is left: {' '.join(child.cmdline())[:120]}")
        except psutil.NoSuchProcess:
            continue
    return found


def files(folders: Iterable[Path], sessions: int) -> list[str]:
    """Return the files that are left in folders for temporary files.

    Ray's sessions may stay for their logs, so many at most, without the link to the newest.
    """
    found, kept = [], set()
    for folder in folders:
        for path in folder.rglob("*"):
            if S_ISCHR(path.lstat().st_mode):  # removed from below the overlay
                continue
            name = path.relative_to(folder).as_posix()
            session = re.match(r"lartpc-ray-\d+/ray/(session_\d[^/]*)", name)
            if session:
                kept.add(session[1])
            elif not RAY_SESSIONS.match(name):
                found.append(f"{path} is left")
    if len(kept) > sessions:
        found.append(f"{len(kept)} sessions of Ray are kept, not {sessions}")
    return found


def unfinished(folders: Iterable[Path]) -> list[str]:
    """Return the unfinished files in the folders of finished work."""
    return [
        f"{path} is unfinished"
        for folder in folders
        for path in folder.rglob("*.part~*")
        if not path.name.endswith("~lock")
    ]


def store(database: Path, resumable: Collection[str]) -> list[str]:
    """Check the runs of an MLflow store in SQLite.

    Args:
        database: the file.
        resumable: the studies that have not ended; their runs may be marked as running.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        runs = dict(connection.execute("SELECT run_uuid, status FROM runs").fetchall())
        tags: dict[str, dict[str, str]] = {run: {} for run in runs}
        for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
            tags[run][key] = value
        doubled = connection.execute(
            "SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1"
        ).fetchall()
    found = [
        f"{key} of run {run} has {count} values at step {step}"
        for run, key, step, count in doubled
        if not key.startswith(LOGGED_TWICE)
    ]
    for run, tag in tags.items():
        parent = tag.get("mlflow.parentRunId")
        if parent and parent not in runs:
            found.append(f"run {run} has parent {parent}, which is not there")
        if runs[run] == "RUNNING" and tag.get("study") not in resumable:
            found.append(f"run {run} of {tag.get('study')} runs, but nothing works on it")
    names = Counter(one_run(tag) for tag in tags.values() if one_run(tag))
    return found + [f"{count} runs are {name}" for name, count in names.items() if count > 1]


def one_run(tags: dict[str, str]) -> str:
    """Name what may have only one run: a study, its trials, their thresholds; empty for others."""
    if tags.get("kind") == "thresholds" and "of" in tags:
        return f"thresholds {tags['of']} of {tags.get('mlflow.parentRunId')}"
    if tags.get("kind") == "search":
        return f"the search {tags.get('study')}"
    return f"trial {tags['trial']} of {tags.get('study')}" if is_trial(tags) else ""


def is_trial(tags: dict[str, str]) -> bool:
    """Return whether the tags are those of a trial, and not of thresholds or of a class."""
    return "trial" in tags and "class" not in tags and tags.get("kind") in (None, "trial")


def histories(database: Path, study: str) -> Histories:
    """Return what the store holds of a study's trials, but for metrics of the machine."""
    found: Histories = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
            tags.setdefault(run, {})[key] = value
        for run, tag in tags.items():
            if tag.get("study") != study or not is_trial(tag):
                continue
            numbers = found.setdefault(tag["trial"], {})
            query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 3"
            for key, step, value in connection.execute(query, (run,)):
                if not OF_THE_MACHINE.match(key):
                    numbers.setdefault(key, []).append((step, value))
    return found


def best_run(database: Path, study: str) -> str:
    """Return the run of a study's best trial."""
    query = "SELECT a.run_uuid FROM tags a JOIN tags b ON a.run_uuid = b.run_uuid "
    query += "WHERE a.key = 'study' AND a.value = ? AND b.key = 'best'"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ((run,),) = connection.execute(query, (study,)).fetchall()
    return str(run)


def differences(reference: Histories, measured: Histories) -> list[str]:
    """Return the metrics of a study that are not those of another one with the same settings."""
    found = [f"trial {name} is in one study only" for name in reference.keys() ^ measured.keys()]
    for name in reference.keys() & measured.keys():
        for key in sorted(reference[name].keys() | measured[name].keys()):
            before, now = reference[name].get(key), measured[name].get(key)
            if before != now:
                found.append(f"trial {name} has {key} {now}, the first such search {before}")
    return found


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    found = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found += path.stat().st_size
    return found
