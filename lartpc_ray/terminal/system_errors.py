"""Recognise errors that the operating system raised, also inside a library."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

SHORTAGES = (
    *(errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC),
    *(errno.EDQUOT, errno.EROFS, errno.ENODEV, errno.ETIMEDOUT, errno.ECONNRESET),
)
"""Errors of the operating system that a library may report as text only."""
OF_CONTENT = (None, 0, errno.EINVAL)
"""Numbers of errors that damaged content causes."""
TEXTS = re.compile(
    "|".join(
        [
            *(re.escape(os.strerror(number)) for number in SHORTAGES),
            r"errno = [1-9]",  # HDF5
            r"can't start new thread",
            r"CUDA-capable device\(s\) is/are busy",
        ]
    )
)


def errors_behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def of_system(error: BaseException, *, broken: bool = True) -> bool:
    """Return whether the operating system raised an error, or one of those that led to it.

    Args:
        error: of a reader or a writer.
        broken: whether the error is of a file that cannot be read. For damaged content h5py and
            pyarrow raise an `OSError` without a number, and zipfile seeks to a place that cannot
            be.

    Example:
        >>> of_system(OSError(5, "Input/output error")), of_system(OSError("bad data"))
        (True, False)
    """
    return any(
        (isinstance(one, OSError) and not (broken and one.errno in OF_CONTENT))
        or TEXTS.search(str(one))
        for one in errors_behind(error)
    )


def shortage(error: BaseException) -> str:
    """Return the text of the shortage or the failure of the machine behind an error; empty if none.

    A file that is not there, closed to the user or locked is no failure of the machine.

    Example:
        >>> shortage(OSError(5, "Input/output error")), shortage(FileNotFoundError(2, "no"))
        ('Input/output error', '')
    """
    failures = {*SHORTAGES} - {errno.EAGAIN}  # of a lock
    numbers = (one.errno for one in errors_behind(error) if isinstance(one, OSError))
    return next((os.strerror(number) for number in numbers if number in failures), "")
