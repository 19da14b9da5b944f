"""Make an event from the products of a LArCV file, in LArCV2 and larcv3.

A product has a kind (`sparse3d`, `cluster3d`, `particle`) and a producer. A sparse product is an
image of (voxel id, value) pairs. A cluster product is one set of voxels per particle, and possibly
a last set of the voxels that belong to no particle.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt64

from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.layout import Code
from lartpc_ray.data.formats.source import (
    PROTON,
    EventSource,
    apply_codes,
    assign_classes,
    list_names,
)

FIVE: tuple[Code, ...] = ("HIP", "MIP", "SHOWER", "DELTA", "MICHEL")
"""Classes of the first codes of products named *fivetypes; then come low-energy deposits."""
HIP_TYPES = (2112, 2212)
"""PDG codes of neutrons and protons, whose tracks are HIP (a neutron's track is its recoils)."""
NUCLEI = 10**9
"""Smallest PDG code of a nucleus; nuclei are HIP, too."""

NO_GROUP = 2**16 - 1
"""Group of a particle without one in larcv3, and in LArCV2 before 2.2.0; then it is 2**63 - 1."""

Ids = UInt64[np.ndarray, " voxel"]
Values = Float32[np.ndarray, " voxel"]
Voxels = tuple[Ids, Values]


class LArCVFile(EventSource):
    """The events of a LArCV file."""

    def _choose(self, kind: str) -> None:
        """Choose the products that the settings name, or the only product of each kind."""
        given = self.layout.larcv
        self._axes = "3d" if given.projection is None else "2d"
        sparse = self._producers(f"sparse{self._axes}")
        ends = ("fivetypes", "semantics")
        coded = [[name for name in sparse if name.endswith(end)] for end in ends]
        self._classes = _choose_product(given.classes, sparse, coded[0] or coded[1], "classes")
        plain = [name for name in sparse if name not in [self._classes, *coded[0], *coded[1]]]
        energy = _choose_product(given.energy, sparse, plain, "energy")
        if energy is None:
            present = list_names(sparse)
            raise ValueError(f"no sparse{self._axes} product of energies (found: {present})")
        self._energy = energy
        clusters, particles = self._producers(f"cluster{self._axes}"), self._producers("particle")
        self._cluster_product = _choose_product(given.cluster, clusters, clusters, "cluster")
        self._particle_product = _choose_product(given.particle, particles, particles, "particle")
        kinds = (f"sparse{self._axes}", f"sparse{self._axes}", f"cluster{self._axes}", "particle")
        names = (self._energy, self._classes, self._cluster_product, self._particle_product)
        self._used = [(product, name) for product, name in zip(kinds, names, strict=True) if name]
        self.kind = f"{kind}: {', '.join(f'{product}_{name}' for product, name in self._used)}"

    def _event(self, index: int) -> Event:
        (ids, energy), shape = self._tensor(self._energy, index)
        outside = ids >= np.prod(shape, dtype=np.uint64)
        if outside.any():
            voxel = int(np.argmax(outside))
            raise ValueError(f"voxel {voxel}: id {ids[voxel]}: outside the image {shape}")
        cluster, pid = self._clusters(ids, index)
        semantic, kept = self._semantics(ids, pid, shape, index)
        coords = self._coords(ids.astype(np.int64), shape)
        return self._make_event(coords, energy, shape, semantic, cluster, kept)

    def _semantics(
        self, ids: Ids, pid: np.ndarray, shape: tuple[int, ...], index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return class and keep of each voxel; a voxel without a code has no class."""
        semantic, kept = np.full(len(ids), -1, np.int32), np.ones(len(ids), bool)
        if self._classes is None:
            return semantic, kept
        (others, values), size = self._tensor(self._classes, index)
        if size != shape:
            raise ValueError(f"{self._classes} is an image of {size} voxels, the energies' {shape}")
        if not (np.isfinite(values) & (values == np.floor(values)) & (abs(values) < 1000)).all():
            raise ValueError(f"{self._classes} holds values that are no class codes")
        row = _first_index(ids, others)
        known = row >= 0
        code = values[row[known]].astype(np.int64)
        table = self.layout.larcv.codes
        if table is None and self._classes.endswith("fivetypes"):
            table = (*FIVE, self.layout.classes.low_energy)
        if table is None:
            semantic[known], kept[known] = assign_classes(code, pid[known], self.layout.classes)
        else:
            semantic[known], kept[known] = apply_codes(code, table)
        return semantic, kept

    def _clusters(self, ids: Ids, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return cluster and pid of each voxel: those of the particle with most energy in it."""
        cluster, pid = np.full(len(ids), -1, np.int64), np.full(len(ids), -1)
        if self._cluster_product is None:
            return cluster, pid
        sets = self._sets(self._cluster_product, index)
        groups, types = np.arange(len(sets)), np.full(len(sets), -1)
        if self._particle_product is not None:
            pdg, groups = self._particles(self._particle_product, index)
            sets = sets[: len(groups)]
            types = np.where(np.isin(pdg, HIP_TYPES) | (abs(pdg) >= NUCLEI), PROTON, -1)
        if sets:
            number = np.repeat(np.arange(len(sets)), [len(voxels) for voxels, _ in sets])
            others, values = (np.concatenate(parts) for parts in zip(*sets, strict=True))
            order = np.lexsort((-values, others))
            row = _first_index(ids, others[order])
            known = row >= 0
            particle = number[order][row[known]]
            cluster[known], pid[known] = groups[particle], types[particle]
        return cluster, pid

    @abstractmethod
    def _producers(self, kind: str) -> list[str]:
        """List the producers of a kind of product."""

    @abstractmethod
    def _tensor(self, producer: str, index: int) -> tuple[Voxels, tuple[int, ...]]:
        """Read the voxels of an image, and its shape."""

    @abstractmethod
    def _sets(self, producer: str, index: int) -> list[Voxels]:
        """Read the voxels of each cluster."""

    @abstractmethod
    def _particles(self, producer: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read PDG code and group of each particle; a particle without a group is its own group."""

    @abstractmethod
    def _coords(self, ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return (voxel, axis) positions of voxel ids."""


def fill_groups(given: np.ndarray | None, count: int) -> np.ndarray:
    """Give each particle without a group its own number as group."""
    own = np.arange(count)
    if given is None:
        return own
    return np.where((given < 2**31) & (given != NO_GROUP), given, own).astype(np.int64)


def _first_index(ids: Ids, others: UInt64[np.ndarray, " other"]) -> np.ndarray:
    """Return the first index of each id in `others`, -1 if it is absent."""
    if not len(others):
        return np.full(len(ids), -1)
    order = np.argsort(others, kind="stable")
    index = order[np.minimum(np.searchsorted(others[order], ids), len(others) - 1)]
    return np.where(others[index] == ids, index, -1)


def _choose_product(
    given: str | None, present: Sequence[str], fitting: Sequence[str], setting: str
) -> str | None:
    """Return the given product, or the only product that fits."""
    if given is not None and given not in present:
        raise ValueError(
            f"larcv.{setting} {given!r}: no such product (found: {list_names(present)})"
        )
    if given is None and len(fitting) > 1:
        raise ValueError(f"several products ({list_names(fitting)}): choose with larcv.{setting}")
    return given or (fitting[0] if fitting else None)
