"""Pieces of all classes of an event: training pairs, and the outputs that join the pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.metrics.clustering import true_index
from lartpc_ray.networks.joining import fit_joining, joining_size, pair_logits
from lartpc_ray.reconstruct.pieces import (
    FEATURES,
    Pieces,
    all_pairs,
    find_pieces,
    join_pieces,
    pair_features,
)
from lartpc_ray.reconstruct.reconstructions import Voxels

JOINING = "joining"
"""Name of the values of the joining networks, among a network's constants."""
VALUES = len(ParticleClass) * joining_size(FEATURES)
"""Values of the joining networks of all classes."""

MOST_PAIRS = 500_000
"""Pairs of a class after which no further event is taken: 74 MB of features."""


def fit_classes(predictions: Iterable[tuple[Event, Voxels]], seed: int) -> Float[Tensor, " value"]:
    """Train the joining network of each class on pairs of pieces; return the values of all.

    A piece belongs to the true cluster with most of its voxels. Pairs with a piece of no cluster
    are left out.

    Args:
        predictions: events, and `position`, `margin`, `seediness` (voxel, ...) of each.
        seed: of the networks.
    """
    pairs: dict[ParticleClass, list[tuple[np.ndarray, np.ndarray]]] = {
        particle: [] for particle in ParticleClass
    }
    for event, outputs in predictions:
        fields = {"coords": event.coords, "energy": event.energy, "cluster": event.cluster}
        for particle, voxels in _of_classes(event.semantic, {**fields, **outputs}):
            if sum(len(same) for _, same in pairs[particle]) < MOST_PAIRS:
                pairs[particle].append(_true_pairs(voxels))
    return torch.cat([_fit(rows, seed) for rows in pairs.values()])


def _of_classes(semantic: np.ndarray, voxels: Voxels) -> Iterator[tuple[ParticleClass, Voxels]]:
    """Yield the classes that have voxels, and the voxels of each."""
    for particle in ParticleClass:
        if (mask := semantic == particle).any():
            yield particle, {name: values[mask] for name, values in voxels.items()}


def _true_pairs(voxels: Voxels) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of pairs of pieces, and whether both belong to one true cluster."""
    pieces = Pieces.of(find_pieces(voxels))
    truth = true_index(voxels["cluster"], 0) + 1
    width = int(truth.max()) + 1
    counts = np.bincount(pieces.labels * width + truth, minlength=len(pieces.size) * width)
    owner = counts.reshape(-1, width).argmax(axis=1) - 1
    first, second = all_pairs(pieces)
    known = (owner[first] >= 0) & (owner[second] >= 0)
    return pair_features(voxels, pieces)[known], (owner[first] == owner[second])[known]


def _fit(rows: list[tuple[np.ndarray, np.ndarray]], seed: int) -> Tensor:
    """Train the joining network of one class on the pairs of its events."""
    features = [np.empty((0, FEATURES), np.float32), *(of_event for of_event, _ in rows)]
    same = [np.empty(0, bool), *(of_event for _, of_event in rows)]
    return fit_joining(np.concatenate(features), np.concatenate(same), seed)


def join_event(values: Tensor, semantic: np.ndarray, voxels: Voxels) -> Voxels:
    """Return the pieces of an event and how they join; a class without training joins none.

    Args:
        values: of the joining networks, as `fit_classes` returns them.
        semantic: (voxel,) class of each voxel.
        voxels: `coords`, `energy`, `position`, `margin`, `seediness`, (voxel, ...) each.

    Returns:
        `piece` (voxel,) int, counted from 0 in each class, -1 without a class; `piece_parent`
        (voxel,) int and `piece_probability` (voxel,) float32, see `join_pieces`.
    """
    count = len(semantic)
    piece, parent = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    probability = np.zeros(count, np.float32)
    networks = values.view(len(ParticleClass), -1)
    for particle, of_class in _of_classes(semantic, {**voxels, "voxel": np.arange(count)}):
        pieces = Pieces.of(find_pieces(of_class))
        into, score = np.arange(len(pieces.size)), np.zeros(len(pieces.size))
        if networks[particle].any():
            logits = pair_logits(networks[particle], pair_features(of_class, pieces))
            into, score = join_pieces(pieces, logits)
        own = of_class["voxel"]
        piece[own], parent[own] = pieces.labels, into[pieces.labels]
        probability[own] = score[pieces.labels]
    return {"piece": piece, "piece_parent": parent, "piece_probability": probability}


def joined_outputs(
    values: Tensor, embedding: dict[str, Tensor], batch: VoxelBatch
) -> dict[str, Tensor]:
    """Return the outputs of `join_event` for all events of a batch, on the CPU.

    Args:
        values: of the joining networks.
        embedding: `position`, `margin`, `seediness`, (voxel, ...) each.
        batch: of the same voxels.
    """
    fields = {name: getattr(batch, name) for name in ("coords", "energy", "semantic")}
    parts = {name: batch.split(rows) for name, rows in {**embedding, **fields}.items()}
    weights = values.detach().cpu()
    joined = []
    for number in range(batch.events):
        voxels = {name: of_events[number] for name, of_events in parts.items()}
        joined.append(join_event(weights, voxels.pop("semantic"), voxels))
    return {
        name: torch.from_numpy(np.concatenate([of_event[name] for of_event in joined]))
        for name in joined[0]
    }
