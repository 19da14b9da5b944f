"""Short text: tables in columns, durations, numbers, names."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns below each other; a row may end early, its last cell as long as it is.

    Example:
        >>> aligned([["depth", "objective"], ["5", "0.75"]])
        ['  depth  objective', '      5  0.75']
    """
    count = len(rows[0])
    widths = [
        2 + max(len(row[place]) for row in rows if place < len(row) - (len(row) < count))
        for place in range(count)
    ]
    return [
        "".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=False))
        for row in rows
    ]


def format_duration(seconds: float) -> str:
    """A time as people say it.

    Example:
        >>> lasting(40), lasting(330), lasting(7300)
        ('40 s', '6 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def format_value(value: Any) -> str:
    """A value as a short text; '-' for none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name.

    Example:
        >>> nearest("filers", ["depth", "filters"]), nearest("x", ["depth"])
        ("; did you mean 'filters'?", '')
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted paths by their last part; by as many parts as tell two apart.

    Example:
        >>> short_names(["network.depth", "data.seed", "seed"])
        {'depth': 'network.depth', 'data.seed': 'data.seed', 'seed': 'seed'}
    """
    parts = {key: key.split(".") for key in keys}
    ends = Counter(
        ".".join(part[-count:]) for part in parts.values() for count in range(1, len(part) + 1)
    )
    found = {}
    for key, part in parts.items():
        tails = (".".join(part[-count:]) for count in range(1, len(part) + 1))
        found[next((tail for tail in tails if ends[tail] == 1), key)] = key
    return found
