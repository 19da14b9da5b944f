"""How well Michel electrons are found: candidates against true clusters (Dominé & Terao 2020, VII).

A candidate belongs to the true cluster with which it shares most voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Labels = Int[np.ndarray, " voxel"]


@dataclass(frozen=True)
class Match:
    """A candidate and the true Michel electron it shares most voxels with.

    Attributes:
        candidate: its number.
        truth: number of the true cluster.
        shared: voxels of both.
        found: voxels of the candidate.
        true: voxels of the true cluster.
        found_energy, true_energy: of those, MeV; 0 where no energies were given.
    """

    candidate: int
    truth: int
    shared: int
    found: int
    true: int
    found_energy: float
    true_energy: float

    @property
    def purity(self) -> float:
        """Share of the candidate's voxels that are the true cluster's."""
        return self.shared / self.found

    @property
    def efficiency(self) -> float:
        """Share of the true cluster's voxels that are the candidate's."""
        return self.shared / self.true


@dataclass(frozen=True)
class MichelCounts:
    """What one event says of the search for Michel electrons.

    Attributes:
        candidates: how many were found.
        right: how many of them share a voxel with a true one.
        electrons: how many true ones there are.
        seen: how many of those a candidate belongs to.
        matches: the best match of each true one that is seen.
    """

    candidates: int
    right: int
    electrons: int
    seen: int
    matches: tuple[Match, ...]

    @property
    def matched(self) -> float:
        """Share of the candidates and true electrons that belong to each other; 1 without any."""
        both = self.candidates + self.electrons
        return (self.right + self.seen) / both if both else 1.0


def michel_counts(
    truth: Labels,
    found: Labels,
    min_voxels: int = 0,
    energy: Float[np.ndarray, " voxel"] | None = None,
) -> MichelCounts:
    """Compare the candidates of an event with its true Michel electrons.

    Args:
        truth: number of the true Michel electron of each voxel, -1 for all other voxels.
        found: number of the candidate of each voxel, -1 none.
        min_voxels: smaller true clusters do not count, nor do candidates that belong to them.
        energy: of each voxel, MeV.
    """
    energy = np.zeros(len(truth)) if energy is None else energy
    names, sizes = np.unique(truth[truth >= 0], return_counts=True)
    true_size = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    candidates, right = 0, 0
    best: dict[int, Match] = {}
    for candidate in np.unique(found[found >= 0]).tolist():
        mine = truth[found == candidate]
        partners, shared = np.unique(mine[mine >= 0], return_counts=True)
        if not len(partners):
            candidates += 1
            continue
        most = int(shared.argmax())
        name = int(partners[most])
        if true_size[name] < min_voxels:
            continue
        candidates, right = candidates + 1, right + 1
        match = Match(
            candidate=candidate,
            truth=name,
            shared=int(shared[most]),
            found=len(mine),
            true=true_size[name],
            found_energy=float(energy[found == candidate].sum()),
            true_energy=float(energy[truth == name].sum()),
        )
        if name not in best or match.shared > best[name].shared:
            best[name] = match
    counted = sum(size >= min_voxels for size in true_size.values())
    return MichelCounts(candidates, right, counted, len(best), tuple(best.values()))
