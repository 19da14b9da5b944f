"""Write a file whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any


@contextmanager
def replace_file(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename that file to `path` if the body succeeds.

    Readers see the earlier file or the complete new file, also after a crash of the machine. If
    the body fails, the temporary file is removed and `path` is unchanged. The temporary name holds
    the host and the process, so that the next write removes the files of killed processes.

    Args:
        path: the file to write; its folder exists.
        keep_existing: keep a file that another process has written meanwhile.
    """
    start = f"{path.name}.part~{gethostname()}~"  # no hostname holds ~
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
        else:
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write plain values as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True
