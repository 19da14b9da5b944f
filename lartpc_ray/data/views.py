"""Colours of the voxels of an event: plain arrays that a page or a picture draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.event import Event

GREY = "#b0b0b0"
CLASS_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")
TAB20 = (
    "1f77b4ff7f0e2ca02cd627289467bd8c564be377c27f7f7fbcbd2217becf"
    "aec7e8ffbb7898df8aff9896c5b0d5c49c94f7b6d2c7c7c7dbdb8d9edae5"
)
CLUSTER_COLOURS = tuple(f"#{TAB20[start : start + 6]}" for start in range(0, len(TAB20), 6))
"""Matplotlib's tab20, the ten dark colours first."""


@dataclass(frozen=True, eq=False)
class View:
    """A way to colour the voxels of an event.

    Attributes:
        title: the quantity that the colour shows.
        value: (voxel,) energy in MeV, or the index of a colour, -1 grey.
        hover: (voxel,) value that is printed beside the mouse.
        colours: the colours; empty for energies.
        names: the names of the colours in the legend; empty for clusters.
    """

    title: str
    value: np.ndarray
    hover: np.ndarray
    colours: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """One drawing of an event.

    Attributes:
        view: the meaning of the colours.
        coords: (voxel, axis) where the voxels are drawn.
        image: whether these are coordinates in the image, and not in an embedding.
    """

    view: View
    coords: np.ndarray
    image: bool = True


def views(
    event: Event,
    *,
    predicted: bool = False,
    clusters: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> list[View]:
    """Return the views of an event: energy, class, cluster, and the predictions that are given.

    Args:
        event: a 2D or 3D event.
        predicted: whether the event's own clusters are predicted, not true.
        clusters: (voxel,) predicted clusters, -1 none; they take the colours of the true clusters.
        classes: (voxel,) predicted classes.
    """
    own = View(
        "predicted cluster" if predicted else "true cluster",
        _colours_by_size(event),
        event.cluster,
        CLUSTER_COLOURS,
    )
    made = [
        View("energy", event.energy, event.energy),
        View("class", event.semantic, event.semantic, CLASS_COLOURS, CLASS_NAMES),
        own,
    ]
    if classes is not None:
        made.append(View("predicted class", classes, classes, CLASS_COLOURS, CLASS_NAMES))
    return made if clusters is None else [*made, match_colours(own, event, clusters)]


def match_colours(truth: View, event: Event, clusters: np.ndarray) -> View:
    """Show predicted clusters in the colours of the true clusters.

    A predicted cluster takes the colour of the true cluster with which it shares most voxels, or a
    spare colour if another predicted cluster shares more voxels with it.

    Args:
        truth: the view of the true clusters.
        event: the event with the true clusters.
        clusters: (voxel,) predicted clusters, -1 none.
    """
    _, owner = np.unique(
        np.stack([event.semantic, event.cluster], axis=1), axis=0, return_inverse=True
    )
    owner = np.where(truth.value >= 0, owner.ravel(), -1)
    unused = [n for n in range(len(CLUSTER_COLOURS)) if n not in set(truth.value.tolist())]
    spare = cycle(unused or range(len(CLUSTER_COLOURS)))
    colour = np.full(len(clusters), -1, np.int32)
    taken: set[int] = set()
    overlaps = []
    for label in np.unique(clusters[clusters >= 0]):
        owners, counts = np.unique(owner[clusters == label], return_counts=True)
        overlaps.append((int(counts.max()), int(label), int(owners[counts.argmax()])))
    for _, label, most in sorted(overlaps, key=lambda overlap: -overlap[0]):
        mask = clusters == label
        new = most < 0 or most in taken
        colour[mask] = next(spare) if new else truth.value[owner == most][0]
        taken.add(most)
    return View("predicted cluster", colour, clusters, CLUSTER_COLOURS)


def _colours_by_size(event: Event) -> np.ndarray:
    """Return a colour per cluster, the largest first; one number in two classes is two clusters."""
    key = event.cluster.astype(np.int64) * (len(CLASS_NAMES) + 1) + event.semantic
    known = event.cluster >= 0
    _, label, sizes = np.unique(key[known], return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
    colour = np.full(len(event), -1, np.int32)
    colour[known] = rank[label] % len(CLUSTER_COLOURS)
    return colour
