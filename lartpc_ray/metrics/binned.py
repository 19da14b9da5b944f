"""Means and shares of clusters in bins of a size, with their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

DRAWS = 1000
BLOCK = 50
"""Bootstrap samples drawn at a time: they bound the memory."""


@dataclass(frozen=True, eq=False)
class Binned:
    """A quantity in bins of another one.

    Attributes:
        low, high: (bin,) smallest and largest size in the bin.
        middle: (bin,) mean size.
        value: (bin,) mean or share.
        down, up: (bin,) ends of its central 68 % interval.
        count: (bin,) number of clusters.
    """

    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]
    middle: Float[np.ndarray, " bin"]
    value: Float[np.ndarray, " bin"]
    down: Float[np.ndarray, " bin"]
    up: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]


def equal_bins(
    sizes: Float[np.ndarray, " cluster"], most: int = 8, fewest: int = 20
) -> Int[np.ndarray, " cluster"]:
    """Return the bin of each cluster: bins of about equal counts, in ascending order of the size.

    Equal sizes are in one bin, so that there may be fewer bins.

    Args:
        sizes: (cluster,) size.
        most: largest number of bins.
        fewest: clusters that a bin has at least, if there are so many.

    Example:
        >>> equal_bins(np.array([4.0, 1.0, 2.0, 3.0]), most=2, fewest=1).tolist()
        [1, 0, 0, 1]
    """
    count = max(1, min(most, len(sizes) // fewest))
    edges = np.unique(np.quantile(sizes, np.arange(1, count) / count)) if len(sizes) else sizes
    index = np.searchsorted(edges, sizes, side="left")
    return np.unique(index, return_inverse=True)[1]


def binned_means(
    sizes: Float[np.ndarray, " cluster"],
    values: Float[np.ndarray, " cluster"],
    events: Int[np.ndarray, " cluster"],
    bins: Int[np.ndarray, " cluster"],
    draws: int = DRAWS,
) -> Binned:
    """Return the mean value of each bin, with the 68 % of a bootstrap over events (Efron 1979).

    The clusters of an event are drawn together, as they are not independent.

    Args:
        sizes, values: (cluster,) size and value.
        events: (cluster,) event of each cluster.
        bins: (cluster,) bin of each cluster.
        draws: bootstrap samples.
    """
    names, event = np.unique(events, return_inverse=True)
    sums, counts = np.zeros((2, len(names), bins.max(initial=-1) + 1))
    np.add.at(sums, (event, bins), values)
    np.add.at(counts, (event, bins), 1)
    rng, equal = np.random.default_rng(0), np.full(len(names), 1 / max(1, len(names)))
    samples = []
    for begin in range(0, draws if len(names) else 0, BLOCK):
        drawn = rng.multinomial(len(names), equal, min(BLOCK, draws - begin))
        total = drawn @ counts
        samples.append((drawn @ sums) / np.where(total > 0, total, np.nan))
    down, up = np.nanpercentile(np.concatenate(samples), [16, 84], axis=0) if samples else sums[:2]
    mean = sums.sum(axis=0) / counts.sum(axis=0)
    return _binned(sizes, bins, mean, down, up)


def binned_shares(
    sizes: Float[np.ndarray, " cluster"],
    success: Bool[np.ndarray, " cluster"],
    bins: Int[np.ndarray, " cluster"],
) -> Binned:
    """Return the share of successes of each bin, with Wilson's 68 % interval (Wilson 1927).

    Example:
        >>> found = binned_shares(np.ones(4), np.array([True] * 4), np.zeros(4, int))
        >>> found.value.tolist(), found.down.tolist(), found.up.tolist()
        ([1.0], [0.8], [1.0])
    """
    count = np.bincount(bins)
    share = np.bincount(bins, success) / count
    centre = (share + 0.5 / count) / (1 + 1 / count)
    half = np.sqrt(share * (1 - share) / count + 0.25 / count**2) / (1 + 1 / count)
    return _binned(sizes, bins, share, np.maximum(centre - half, 0), np.minimum(centre + half, 1))


def _binned(
    sizes: np.ndarray, bins: np.ndarray, value: np.ndarray, down: np.ndarray, up: np.ndarray
) -> Binned:
    count = np.bincount(bins)
    low, high = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(low, bins, sizes)
    np.maximum.at(high, bins, sizes)
    return Binned(low, high, np.bincount(bins, sizes) / count, value, down, up, count)
