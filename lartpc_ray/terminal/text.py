"""Write short text: tables in columns, errors, durations, numbers, names."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

NO_PORT = r"(?!\d{1,5}(?:[/?#:;,)\s]|$))"
"""After the colon of a URI: a password follows, not the port of a server."""


HIDDEN = r"(?:password|passwd|pwd|token|secret)"
"""End of the name of a part of a URI that is not shown."""


def align_columns(
    rows: Sequence[Sequence[str]], sides: str = ">", widths: Sequence[int] = (0,), gap: int = 2
) -> list[str]:
    """Return rows as lines with their cells in columns.

    A row may have fewer cells than the first row; its last cell then widens no column.

    Args:
        rows: cells; the first row has a cell for each column.
        sides: '<' (left) or '>' (right) for each column; the last one for all further columns.
        widths: smallest width of each column, without the gap, in the same way.
        gap: spaces between two columns.

    Example:
        >>> align_columns([["depth", "objective"], ["5", "0.75"]])
        ['  depth  objective', '      5       0.75']
        >>> align_columns([["class", "s0"], ["MIP", "0.5"]], "<>")
        ['class   s0', 'MIP    0.5']
    """
    count = len(rows[0])
    columns = []
    for column in range(count):
        cells = [row[column] for row in rows if column < len(row) - (len(row) < count)]
        side = sides[min(column, len(sides) - 1)]
        before = " " * (0 if side == "<" and not column else gap)
        width = max(widths[min(column, len(widths) - 1)], *map(len, cells))
        columns.append((side, before, width + len(before)))
    return [
        "".join(
            f"{before + cell:<{width}}" if side == "<" else f"{cell:>{width}}"
            for cell, (side, before, width) in zip(row, columns, strict=False)
        ).rstrip()
        for row in rows
    ]


def bold() -> tuple[str, str]:
    """Return the texts that begin and end bold print on stdout; empty without a terminal."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return "\x1b[1m", "\x1b[0m"
    return "", ""


def error_text(error: object, limit: int = 500) -> str:
    """Return the reason of an error in one line: of a traceback its last line.

    Args:
        error: an exception, or the text of one.
        limit: most characters.

    Example:
        >>> error_text(KeyError("a\\nb")), error_text(IndexError())
        ('a b', 'IndexError')
        >>> error_text('ray::f()\\n  File "a.py", line 1\\nValueError: no')
        'ValueError: no'
    """
    reason = error.args[0] if isinstance(error, KeyError) and error.args else error
    if type(error).__name__ == "ValidationError":  # of pydantic, which `--help` does without
        reason = _first_wrong_value(error)
    text = str(reason).strip()
    if '\n  File "' in text:
        text = text.splitlines()[-1]
    if text.startswith("\x1b[36mray::"):  # Ray's colours; all others are of a name
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return escape_controls(" ".join(text.split()))[:limit] or type(error).__name__


def _first_wrong_value(error: Any) -> str:
    """Return name, reason and value of the first error of a settings object."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    return f"{name}: {first['msg']}; it was {first['input']!r}".removeprefix(": ")


def escape_controls(text: str) -> str:
    """Escape the characters of a text that a terminal obeys or cannot show; lines stay.

    Example:
        >>> print(escape_controls("esc" + chr(27) + "[31mred.h5"))
        esc\\x1b[31mred.h5
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def counted(count: int, name: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "trial"), counted(12, "trial")
        ('1 trial', '12 trials')
    """
    return f"{count} {name}{'' if count == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    Example:
        >>> format_duration(40), format_duration(330), format_duration(7300)
        ('40 s', '6 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def format_clock(seconds: float) -> str:
    """Return the time since a start, which changes each second.

    Example:
        >>> format_clock(40), format_clock(330), format_clock(7384)
        ('40 s', '5 min 30 s', '2 h 3 min 4 s')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(hours or minutes)
    return " ".join([*parts, f"{rest} s"])


def without_password(text: str) -> str:
    """Remove the passwords of all URIs in a text; for a text that is a URI see `shown_uri`.

    Example:
        >>> without_password("postgresql://me:secret@host/db?password=x&sslmode=on")
        'postgresql://me@host/db?password=***&sslmode=on'
        >>> without_password("postgresql://me:sec/ret@host/db")
        'postgresql://me@host/db'
    """
    inside = r"(?!\s)(?:(?!\w://)[^\n])*"
    text = re.sub(rf"(\w://[^\s:/@\[]*):{NO_PORT}{inside}@", r"\1@", text)
    return re.sub(rf"(?i)({HIDDEN}=)[^&\s'\"]+", r"\1***", text)


def shown_uri(uri: str) -> str:
    """Return a URI without its passwords, which may hold any characters.

    Example:
        >>> shown_uri("postgresql://me:12 pa/ss@host/db?sslpassword=x y&sslmode=on")
        'postgresql://me@host/db?sslpassword=***&sslmode=on'
        >>> shown_uri("http://host:5000/a@b")
        'http://host:5000/a@b'
    """
    uri = re.sub(_user_password(uri), r"\1@", uri)
    return re.sub(rf"(?is)({HIDDEN}=)[^&]+", r"\1***", uri)


def uri_passwords(uri: str) -> list[str]:
    """Return the passwords of a URI as they stand in it.

    Example:
        >>> uri_passwords("mysql://me:a%20b@host/db?password=c d")
        ['a%20b', 'c d']
    """
    user = re.search(_user_password(uri), uri)
    rest = uri[user.end() :] if user else uri
    return [*([user[2]] if user else []), *re.findall(rf"(?is){HIDDEN}=([^&]+)", rest)]


def _user_password(uri: str) -> str:
    """Return the pattern of the user and the password of a URI.

    The address of a server ends at the first of / ? #; SQLAlchemy reads the address of a database
    up to the @.
    """
    port = r"(?!\d{1,5}(?:[/?#]|$))" if uri.lower().startswith("http") else ""
    return rf"(?s)^([\w.+-]+://[^:/@\[]*):{port}(.*)@"


def format_value(value: Any) -> str:
    """Return a value as a short text; '-' for None."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the nearest known name.

    Example:
        >>> nearest("filers", ["depth", "filters"]), nearest("x", ["depth"])
        ("; did you mean 'filters'?", '')
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return dotted paths by their shortest unique ends.

    Example:
        >>> short_names(["network.depth", "data.seed", "seed"])
        {'depth': 'network.depth', 'data.seed': 'data.seed', 'seed': 'seed'}
    """
    parts = {key: key.split(".") for key in keys}
    ends = Counter(
        ".".join(part[-count:]) for part in parts.values() for count in range(1, len(part) + 1)
    )
    named = {}
    for key, part in parts.items():
        tails = (".".join(part[-count:]) for count in range(1, len(part) + 1))
        named[next((tail for tail in tails if ends[tail] == 1), key)] = key
    return named
