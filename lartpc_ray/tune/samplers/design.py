"""Balanced designs of two levels (Plackett & Burman 1946)."""

from __future__ import annotations

import numpy as np

FIRST_ROWS = {
    4: "++-",
    8: "+++-+--",
    12: "++-+++---+-",
    16: "++++-+-++--+---",
    20: "++--++++-+-+----++-",
    24: "+++++-+-++--++--+-+----",
}
"""Runs to the first row; the others are its rotations, and a row of minus signs."""


def plackett_burman(runs: int) -> np.ndarray:
    """Return a design: (run, column) of -1 and 1, its columns balanced and orthogonal.

    Example:
        >>> design = plackett_burman(4)
        >>> (design.T @ design).tolist()
        [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    """
    first = np.array([1 if sign == "+" else -1 for sign in FIRST_ROWS[runs]])
    rows = [np.roll(first, shift) for shift in range(runs - 1)]
    return np.array([*rows, -np.ones(runs - 1, int)])


def design(columns: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return a design for some settings, with columns and signs by chance.

    Args:
        columns: number of settings.
        most: number of runs that the budget has.
        rng: source of the order of columns and rows and of the signs.

    Returns:
        (run, column): the smallest design with more runs than columns, cut to `most` rows.
    """
    runs = next((size for size in FIRST_ROWS if size > columns), max(FIRST_ROWS))
    table = plackett_burman(runs)
    order = rng.permutation(np.resize(np.arange(runs - 1), max(columns, runs - 1)))[:columns]
    signs = rng.choice([-1, 1], columns)
    return np.asarray(rng.permutation(table)[:most, order] * signs)
