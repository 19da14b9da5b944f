"""One writer for the runs of a study or a training in MLflow, also from copies of its folder.

Two copies of a folder have one name, so they find the same runs in a store that both use. Two locks
protect the runs, both free at once after a SIGKILL:

1. A locked file, for the processes of one machine and for all that reach one SQLite store.
2. For a server, which several machines reach: an owner in the run of the search or the training.
   MLflow never changes a parameter of a run, so of several writers one alone sets the parameter
   `owner/N`. Its tag `owner_beat` changes while it writes. The next owner sets `owner/N+1` after
   the one before has ended: its tag is `ended`, its locks are free, or its tag has not changed for
   `PATIENCE` seconds. If several processes make a run for one folder, one run remains.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lartpc_ray.atomic import only_holder, write_holder
from lartpc_ray.runtime.ray_session import locks_folder
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import shown_uri
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import INVALID, StoreError, lock_file, one_try, with_tags

OWNER, BEAT = "owner/", "owner_beat"
"""Parameter of a run, before its number, and tag of a run."""
ENDED = "ended"
"""The tag of a run whose owner has ended."""
EVERY = 15.0
"""Seconds between two changes of the tag."""
PATIENCE = 50.0
"""Seconds without a change after which an owner on another machine has ended."""
LOOK = 1.0
"""Seconds between two looks at the tag."""
TRIES = 3
"""Times that a process looks for a run that others delete meanwhile."""
SHARED = ("nfs", "nfs4", "ceph", "gpfs", "lustre", "cifs", "smb3", "ocfs2", "gfs2")
"""File systems of several machines."""
LOCAL = ("nolock", "local_lock=all", "local_lock=flock", "localflock", "noflock", "nobrl")
"""Their options that keep locks on one machine."""


@contextmanager
def only_writer(uri: str, folder: Path) -> Iterator[None]:
    """Be the only writer of a study's runs among the processes of this machine.

    Args:
        uri: of the MLflow store.
        folder: of the study.

    Raises:
        ValueError: if another process writes them; names its folder and what to do.
    """
    lock = lock_file(uri, folder.name, locks_folder)
    with only_holder(lock, lambda holder: _refusal(holder.strip(), uri, folder)) as file:
        write_holder(file, lock, f"{folder} (process {os.getpid()} on {socket.gethostname()})")
        yield


def _refusal(holder: str, uri: str, folder: Path) -> str:
    return (
        f"{folder}: {holder or 'another process'} writes the runs of {folder.name} in MLflow "
        f"{shown_uri(uri)}; wait for its end or stop it, or give this copy of the folder "
        "another name: it then has runs of its own"
    )


@dataclass(frozen=True)
class Owner:
    """A process that writes a run.

    Attributes:
        folder: of the study.
        place: its inode and device.
        host, process: that write.
        writers: folder of the locks of `only_writer`, with its inode.
        shared: whether the lock of the study's folder holds on all machines that reach it.
    """

    folder: str
    place: tuple[int, int]
    host: str
    process: int
    writers: str
    shared: bool

    @staticmethod
    def of(folder: Path) -> Owner:
        """Return this process as the owner."""
        status, locks = folder.stat(), locks_folder()
        return Owner(
            folder=str(folder),
            place=(status.st_ino, status.st_dev),
            host=socket.gethostname(),
            process=os.getpid(),
            writers=f"{locks} {locks.stat().st_ino}",
            shared=locks_are_shared(folder),
        )

    @staticmethod
    def read(text: str) -> Owner:
        """Return the owner that a parameter holds.

        Raises:
            ValueError, TypeError: for the parameter of another version.
        """
        content = json.loads(text)
        return Owner(**content | {"place": tuple(content["place"])})

    def has_left(self, now: Owner) -> bool:
        """Return whether free locks prove that this owner has ended.

        Args:
            now: a process that holds the locks of its machine and of its folder.
        """
        if self.host == now.host:
            return self.writers == now.writers or self.place == now.place
        return self.shared and now.shared and self.place[0] == now.place[0]

    def __str__(self) -> str:
        return f"{self.folder} (process {self.process} on {self.host})"


def locks_are_shared(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether a lock in a folder holds on all machines that reach the folder."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    best, shared = "", False
    for _, point, kind, options, *_ in rows:
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and len(point) >= len(best):
            best = point
            shared = kind in SHARED and not set(LOCAL) & set(options.split(","))
    return shared


@contextmanager
def owned(
    tracking: Tracking, start: Callable[[], str], folder: Path, tags: Mapping[str, str]
) -> Iterator[str]:
    """Own a run on a server for this process; the locks of `only_writer` are held.

    Args:
        tracking: the store.
        start: returns the run of the folder; makes it if there is none.
        folder: of the study or the training.
        tags: which all runs that copies of the folder make have, and no other run.

    Yields:
        the run.

    Raises:
        ValueError: if another process owns the run; names its folder and what to do.
    """
    run, number = _own(tracking, start, folder, tags)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=[tracking, run, number, ended], daemon=True)
    beat.start()
    try:
        yield run
    finally:
        ended.set()
        beat.join(5)
        with suppress(StoreError), one_try():
            tracking.set_tags(run, {BEAT: ENDED})


def _own(
    tracking: Tracking, start: Callable[[], str], folder: Path, tags: Mapping[str, str]
) -> tuple[str, int]:
    """Return the run that this process owns, and the number of the owner.

    Raises:
        ValueError: if another process owns the run.
        StoreError: if the store refuses the run at the last try.
    """
    refused = None
    for _ in range(TRIES):
        try:
            run = start()
        except StoreError as error:
            if error.code != INVALID:
                raise
            refused = error  # the run that was found has been deleted by its maker since
            continue
        refused = None
        number = _claim(tracking, run, folder)
        if number and (number > 1 or _is_only_run(tracking, run, folder, tags)):
            tracking.set_tags(run, {BEAT: f"{number}:0"})
            return run, number
    raise refused or ValueError(_refusal("", tracking.uri, folder))


def _claim(tracking: Tracking, run: str, folder: Path) -> int:
    """Set the next `owner/N` of a run; return its number, 0 for a run that has been deleted.

    Raises:
        ValueError: if another process owns the run.
    """
    own = Owner.of(folder)
    number, owner, beat = _read(tracking, run)
    if owner and beat != ENDED and not owner.has_left(own) and _changes(tracking, run, owner, beat):
        raise ValueError(_refusal(str(owner), tracking.uri, folder))
    try:
        tracking.client.log_param(run, f"{OWNER}{number + 1}", json.dumps(asdict(own)))
    except StoreError as error:
        if error.code != INVALID:
            raise
        last, owner, _ = _read(tracking, run)
        if last == number:
            return 0
        raise ValueError(_refusal(str(owner or ""), tracking.uri, folder)) from None
    return number + 1


def _is_only_run(tracking: Tracking, run: str, folder: Path, tags: Mapping[str, str]) -> bool:
    """Return whether a new run is the folder's; delete it where another process has made one, too.

    MLflow looks for a run and makes one in two steps, so two processes may make two. A process has
    decided when it has set the tag. Of the undecided, the one whose run has the least id waits for
    the others, and the others leave: none waits for another one that waits. It waits for half of
    `PATIENCE`: a copy that has found its run waits for a sign of life for all of it.

    Raises:
        ValueError: if another process owns a run with these tags.
    """
    wanted = with_tags(tags)
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        found = tracking.client.search_runs([tracking.experiment], wanted)
        others = {str(one.info.run_id): one.data for one in found if one.info.run_id != run}
        others = {key: data for key, data in others.items() if f"{OWNER}1" in data.params}
        decided = [data for data in others.values() if BEAT in data.tags]
        undecided = [data for data in others.values() if BEAT not in data.tags]
        if decided or any(key < run for key in others):
            tracking.client.delete_run(run)
            if decided and all(data.tags[BEAT] == ENDED for data in decided):
                return False
            holder = Owner.read((decided or undecided)[0].params[f"{OWNER}1"])
            raise ValueError(_refusal(str(holder), tracking.uri, folder))
        if not undecided or time.monotonic() > deadline:
            return True
        time.sleep(LOOK)


def _read(tracking: Tracking, run: str) -> tuple[int, Owner | None, str]:
    """Return the number of the last owner of a run, the owner, and the tag."""
    data = tracking.client.get_run(run).data
    numbers = [int(key.removeprefix(OWNER)) for key in data.params if key.startswith(OWNER)]
    if not numbers:
        return 0, None, ""
    owner = None
    with suppress(ValueError, TypeError, KeyError):
        owner = Owner.read(data.params[f"{OWNER}{max(numbers)}"])
    return max(numbers), owner, data.tags.get(BEAT, "")


def _changes(tracking: Tracking, run: str, owner: Owner, beat: str) -> bool:
    """Return whether an owner on another machine still writes: its tag changes."""
    log.warning(
        f"run {run}: {owner} has not ended it; waiting at most {PATIENCE:.0f} s for a sign of life"
    )
    deadline = time.monotonic() + PATIENCE
    with phase("waiting for a sign of life of the study's other writer"):
        while time.monotonic() < deadline:
            time.sleep(LOOK)
            _, last, now = _read(tracking, run)
            if now != beat or last != owner:
                return now != ENDED
    return False


def _beat(tracking: Tracking, run: str, number: int, ended: threading.Event) -> None:
    """Change the tag of a run again and again, until this process ends or another owns the run."""
    count = 0
    while not ended.wait(EVERY):
        count += 1
        with suppress(StoreError):  # the store is away; the main thread reports it
            last, owner, _ = _read(tracking, run)
            if last > number:
                log.warning(f"run {run}: {owner} writes it, too; stop one of both")
                return
            tracking.set_tags(run, {BEAT: f"{number}:{count}"})
