"""Write a file whole or not at all; read back what was written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any, TextIO

DISK_ERRORS = (*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS), errno.ESTALE)
"""Errors of a disk; where a read or a write fails, the system names no file."""
PART = ".part~"
"""Between the name of a file and the rest of the name of its temporary file."""


@contextmanager
def replace_file(
    path: Path, *, keep_existing: bool = False, exclusive: bool = False, new: bool = False
) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename that file to `path` if the body succeeds.

    Readers see the earlier file or the complete new file, also after a crash of the machine. If
    the body fails, the temporary file is removed and `path` is unchanged. The temporary name holds
    the host and the process, so that the next write removes the files of killed processes.

    Args:
        path: the file to write; its folder exists.
        keep_existing: keep a file that another process has written meanwhile.
        exclusive: refuse to write while another process writes the same file.
        new: refuse to write over a file, at the start and at the end.

    Raises:
        ValueError: if another process writes the file, or with `new` has written it.
        OSError: with the name of the file, if its disk is full or fails, or if it has no folder.
    """
    refuse_missing_folder(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder; give the name of a file")
    with name_in_errors(path), _only_writer(path) if exclusive else nullcontext():
        if new:
            refuse_existing(path)
        yield from _replace(path, keep_existing, new)


def refuse_existing(path: Path) -> None:
    """Refuse a new file whose name is taken since its caller has looked.

    Raises:
        ValueError: with the name of the file.
    """
    if os.path.lexists(path):
        raise ValueError(
            f"{path}: another process has written this file meanwhile; it stays as it is: give "
            "another name, or remove it"
        )


def refuse_missing_folder(path: Path) -> None:
    """Refuse a file to write whose folder does not exist.

    Raises:
        FileNotFoundError: with the name of the folder.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}; make it first")


def _replace(path: Path, keep_existing: bool, new: bool) -> Iterator[Path]:
    start = f"{path.name}{PART}{gethostname()}~"  # no hostname holds ~
    for abandoned in path.parent.glob(f"{escape(start)}*"):
        if not _is_running(int(abandoned.name[len(start) :].split("~")[0])):
            abandoned.unlink(missing_ok=True)
    part = path.with_name(f"{start}{os.getpid()}~{token_hex(4)}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        if keep_existing:
            with suppress(FileExistsError):
                os.link(part, path)
        elif new:
            _name_new(part, path)
        else:
            os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _name_new(part: Path, path: Path) -> None:
    """Give a complete file its name.

    Raises:
        ValueError: if the name is taken.
    """
    try:
        os.link(part, path)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError:  # a disk without hard links
        refuse_existing(path)
        os.replace(part, path)


def _sync_folder(folder: Path) -> None:
    """Make the new name in a folder last through a crash of the machine, where the disk can."""
    with suppress(OSError):  # some network disks cannot; the file itself is written
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Give an error of the disk the name of the file, if it has none or that of the file's part."""
    try:
        yield
    except OSError as error:
        nameless = not error.filename and error.errno in DISK_ERRORS
        if nameless or f"{path.name}{PART}" in str(error.filename):
            error.filename = str(path)
        raise


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold a lock file beside `path`; the system frees the lock when the process ends."""
    busy = "another process is writing this file; wait for it, or give another name"
    with only_holder(path.with_name(f"{path.name}{PART}lock"), lambda _: f"{path}: {busy}"):
        yield


@contextmanager
def only_holder(lock: Path, busy: Callable[[str], str] | None) -> Iterator[TextIO]:
    """Hold a lock file, and remove it at the end; the system frees it when the process ends.

    Args:
        lock: the file; its folder exists.
        busy: message from the text of a file that another process holds; None to wait for it.

    Yields:
        the empty file, for a text about its holder.

    Raises:
        ValueError: if another process holds the lock.
    """
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                if busy is None:
                    raise
                file.seek(0)
                raise ValueError(busy(file.read())) from None
            if not _is_same_file(lock, file.fileno()):  # the last holder has just removed it
                continue
            file.truncate(0)
            try:
                yield file
            finally:
                lock.unlink(missing_ok=True)
            return


def write_holder(file: TextIO, lock: Path, text: str) -> None:
    """Write the text about the holder of a lock file.

    It is written at once: on a full disk the close of the file would fail again, without its name.

    Raises:
        OSError: with the name of the file, if its disk is full or fails.
    """
    with name_in_errors(lock):
        os.write(file.fileno(), text.encode())


def _is_same_file(path: Path, opened: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False
    except OSError:  # the disk does not answer; the lock is held
        return True


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write plain values as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds names and values.

    Raises:
        ValueError: in one line with the name of the file, if it is truncated or not JSON, or
            holds anything else.
    """
    with name_in_errors(path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: truncated or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: damaged: it holds {json.dumps(content)[:40]}, not {{name: value}}"
        )
    return content


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True
