"""The products of a LArCV file and how they make an event, whichever format it has.

An image is (voxel id, value) pairs, a product a kind (`sparse3d`, `cluster3d`, `particle`) and
producer. A cluster product is one set of voxels a particle, and possibly a last set of those that
belong to none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt64

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.layout import Code
from lartpc_ray.data.formats.source import PROTON, EventSource, classed, listed, meanings

FIVE: tuple[Code, ...] = ("HIP", "MIP", "SHOWER", "DELTA", "MICHEL")
"""The codes of products named *fivetypes, before that of the low-energy deposits."""
HIP_TYPES = (2112, 2212)
"""PDG codes whose tracks are HIP, and so are those of nuclei (a neutron's recoils among them)."""
NUCLEI = 10**9

Ids = UInt64[np.ndarray, " voxel"]
Values = Float32[np.ndarray, " voxel"]
Voxels = tuple[Ids, Values]


class LArCVFile(EventSource):
    """The events of a file of products."""

    def _choose(self, kind: str) -> None:
        """Take the products that the settings name, or the only ones there are."""
        given = self.layout.larcv
        self._axes = "3d" if given.projection is None else "2d"
        sparse = self._producers(f"sparse{self._axes}")
        ends = ("fivetypes", "semantics")
        coded = [[name for name in sparse if name.endswith(end)] for end in ends]
        self._classes = _only(given.classes, sparse, coded[0] or coded[1], "classes")
        plain = [name for name in sparse if name not in [self._classes, *coded[0], *coded[1]]]
        energy = _only(given.energy, sparse, plain, "energy")
        if energy is None:
            raise ValueError(f"no sparse{self._axes} product of energies (found: {listed(sparse)})")
        self._energy = energy
        clusters, particles = self._producers(f"cluster{self._axes}"), self._producers("particle")
        self._clusters = _only(given.cluster, clusters, clusters, "cluster")
        self._particles = _only(given.particle, particles, particles, "particle")
        kinds = (f"sparse{self._axes}", f"sparse{self._axes}", f"cluster{self._axes}", "particle")
        names = (self._energy, self._classes, self._clusters, self._particles)
        self._used = [(of, name) for of, name in zip(kinds, names, strict=True) if name]
        shown = ", ".join(f"{of}_{name}" for of, name in self._used)
        self.kind = f"{kind}: {shown}"

    def _event(self, index: int) -> Event:
        (ids, energy), shape = self._tensor(self._energy, index)
        outside = ids >= np.prod(shape, dtype=np.uint64)
        if outside.any():
            voxel = int(np.argmax(outside))
            raise ValueError(f"voxel {voxel}: id {ids[voxel]}: outside the image {shape}")
        cluster, pid = self._instances(ids, index)
        semantic, kept = self._semantics(ids, pid, shape, index)
        coords = self._places(ids.astype(np.int64), shape)
        return self._made(coords, energy, shape, semantic, cluster, kept)

    def _semantics(
        self, ids: Ids, pid: np.ndarray, shape: tuple[int, ...], index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(class, kept) of each voxel; one that has no code is of no class."""
        semantic, kept = np.full(len(ids), -1, np.int32), np.ones(len(ids), bool)
        if self._classes is None:
            return semantic, kept
        (others, values), size = self._tensor(self._classes, index)
        if size != shape:
            raise ValueError(f"{self._classes} is an image of {size} voxels, the energies' {shape}")
        if not (np.isfinite(values) & (values == np.floor(values)) & (abs(values) < 1000)).all():
            raise ValueError(f"{self._classes} holds values that are no class codes")
        place = _found(ids, others)
        known = place >= 0
        code = values[place[known]].astype(np.int64)
        table = self.layout.larcv.codes
        if table is None and self._classes.endswith("fivetypes"):
            table = (*FIVE, self.layout.classes.low_energy)
        if table is None:
            semantic[known], kept[known] = classed(code, pid[known], self.layout.classes)
        else:
            semantic[known], kept[known] = meanings(code, table)
        return semantic, kept

    def _instances(self, ids: Ids, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(cluster, pid) of each voxel: of the particle that left most in it."""
        cluster, pid = np.full(len(ids), -1, np.int64), np.full(len(ids), -1)
        if self._clusters is None:
            return cluster, pid
        sets = self._sets(self._clusters, index)
        groups, types = np.arange(len(sets)), np.full(len(sets), -1)
        if self._particles is not None:
            pdg, groups = self._kinds(self._particles, index)
            sets = sets[: len(groups)]
            types = np.where(np.isin(pdg, HIP_TYPES) | (abs(pdg) >= NUCLEI), PROTON, -1)
        if sets:
            number = np.repeat(np.arange(len(sets)), [len(one) for one, _ in sets])
            others, values = (np.concatenate(parts) for parts in zip(*sets, strict=True))
            order = np.lexsort((-values, others))
            place = _found(ids, others[order])
            known = place >= 0
            found = number[order][place[known]]
            cluster[known], pid[known] = groups[found], types[found]
        return cluster, pid

    @abstractmethod
    def _producers(self, kind: str) -> list[str]:
        """The producers of a kind of product."""

    @abstractmethod
    def _tensor(self, producer: str, index: int) -> tuple[Voxels, tuple[int, ...]]:
        """The voxels of one image, and its shape."""

    @abstractmethod
    def _sets(self, producer: str, index: int) -> list[Voxels]:
        """The voxels of each cluster."""

    @abstractmethod
    def _kinds(self, producer: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(PDG code, group) of each particle; one of no group is its own."""

    @abstractmethod
    def _places(self, ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """(voxel, axis) positions of voxel ids."""


def groups(given: np.ndarray | None, count: int) -> np.ndarray:
    own = np.arange(count)
    return own if given is None else np.where(given < 2**31, given, own).astype(np.int64)


def _found(ids: Ids, others: UInt64[np.ndarray, " other"]) -> np.ndarray:
    """The first place of each id among the others; -1 where it is not."""
    if not len(others):
        return np.full(len(ids), -1)
    order = np.argsort(others, kind="stable")
    place = order[np.minimum(np.searchsorted(others[order], ids), len(others) - 1)]
    return np.where(others[place] == ids, place, -1)


def _only(
    given: str | None, there: Sequence[str], fitting: Sequence[str], setting: str
) -> str | None:
    """The product that is given, or the only one that fits."""
    if given is not None and given not in there:
        raise ValueError(f"larcv.{setting} {given!r}: no such product (found: {listed(there)})")
    if given is None and len(fitting) > 1:
        raise ValueError(f"several products ({listed(fitting)}): say which in larcv.{setting}")
    return given or (fitting[0] if fitting else None)
