"""Michel electrons: candidates against true clusters (Dominé & Terao 2020, VII).

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
        """Return the share of the candidate's voxels that are in the true cluster."""
        return self.shared / self.found

    @property
    def efficiency(self) -> float:
        """Return the share of the true cluster's voxels that are in the candidate."""
        return self.shared / self.true


@dataclass(frozen=True)
class MichelCounts:
    """The numbers of candidates and of true Michel electrons of one event.

    Attributes:
        candidates: number of candidates.
        right: candidates that share a voxel with a true electron.
        electrons: true electrons.
        seen: true electrons to which a candidate belongs.
        matches: the best match of each seen electron.
    """

    candidates: int
    right: int
    electrons: int
    seen: int
    matches: tuple[Match, ...]

    @property
    def matched(self) -> float:
        """Return the share of candidates and true electrons that belong together; 1 without any."""
        both = self.candidates + self.electrons
        return (self.right + self.seen) / both if both else 1.0


def michel_counts(
    truth: Labels,
    predicted: Labels,
    min_voxels: int = 0,
    energy: Float[np.ndarray, " voxel"] | None = None,
) -> MichelCounts:
    """Compare the candidates of an event with its true Michel electrons.

    Args:
        truth: number of the true Michel electron of each voxel, -1 for all other voxels.
        predicted: number of the candidate of each voxel, -1 none.
        min_voxels: smaller true clusters do not count, nor do candidates that belong to them.
        energy: of each voxel, MeV.
    """
    energy = np.zeros(len(truth)) if energy is None else energy
    names, sizes = np.unique(truth[truth >= 0], return_counts=True)
    large = {int(name) for name, size in zip(names, sizes, strict=True) if size >= min_voxels}
    candidates, right = 0, 0
    best: dict[int, Match] = {}
    for candidate in np.unique(predicted[predicted >= 0]).tolist():
        match = _match(candidate, truth, predicted, energy)
        if match is not None and match.truth not in large:
            continue
        candidates += 1
        if match is None:
            continue
        right += 1
        if match.truth not in best or match.shared > best[match.truth].shared:
            best[match.truth] = match
    return MichelCounts(candidates, right, len(large), len(best), tuple(best.values()))


def _match(
    candidate: int, truth: Labels, predicted: Labels, energy: Float[np.ndarray, " voxel"]
) -> Match | None:
    """Match a candidate with the true cluster of most shared voxels; None without shared voxels."""
    inside = predicted == candidate
    partners, shared = np.unique(truth[inside & (truth >= 0)], return_counts=True)
    if not len(partners):
        return None
    partner = int(partners[shared.argmax()])
    return Match(
        candidate=candidate,
        truth=partner,
        shared=int(shared.max()),
        found=int(inside.sum()),
        true=int((truth == partner).sum()),
        found_energy=float(energy[inside].sum()),
        true_energy=float(energy[truth == partner].sum()),
    )
