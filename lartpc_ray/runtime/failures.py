"""Sort the causes of a failed training: the trial itself, the machine, or the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from lartpc_ray.data.formats.source import BrokenFileError
from lartpc_ray.terminal.system_errors import errors_behind, of_system
from lartpc_ray.terminal.text import error_text

Cause = Literal["trial", "machine", "user"]
WAITS = (2.0, 5.0, 15.0, 40.0)
"""Seconds before each further attempt after an error of the machine."""


def cause_of(error: BaseException) -> Cause:
    """Return the cause of an error that ended a training.

    Args:
        error: with the errors that led to it: a reader reports an error of the operating system
            as an error of its file.

    Example:
        >>> cause_of(FloatingPointError("the loss is nan")), cause_of(OSError(5, "EIO"))
        ('trial', 'machine')
    """
    broken = any(isinstance(one, BrokenFileError) for one in errors_behind(error))
    if of_system(error, broken=broken):
        return "machine"
    return "user" if broken else "trial"


def retry(
    work: Callable[[], None], notify: Callable[[str], None], progress: Callable[[], object]
) -> None:
    """Work, and work again after an error of the machine, with pauses.

    Args:
        work: continues where it stopped.
        notify: takes a line for each further attempt.
        progress: returns another value if the work has advanced; the attempts then count anew.

    Raises:
        Exception: the error of the last attempt, or one that the machine did not cause.
    """
    waits, reached = iter(WAITS), progress()
    while True:
        try:
            return work()
        except Exception as error:
            if cause_of(error) != "machine":
                raise
            if progress() != reached:
                waits, reached = iter(WAITS), progress()
            wait = next(waits, None)
            if wait is None:
                raise
            notify(f"{error_text(error)}; waits {wait:.0f} s and tries again")
            time.sleep(wait)
