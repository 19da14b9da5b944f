"""The particle bomb: simulated events of any size, without Geant4.

An event holds particles from a vertex, stopping muons and crossing muons; physics.py moves them
through the argon. Instances and classes follow the Geant4 sample: an instance is a particle with
its whole shower; the radiation of a Michel electron is shower; delta electrons below `delta_energy`
belong to their parent; pieces of a shower of fewer than ten voxels, and tracks of fewer than five,
are low-energy deposits with neither class nor cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.limits import MAX_SIDE
from lartpc_ray.data.simulation.physics import (
    CONVERSION_LENGTH,
    MASS,
    Array,
    Kind,
    Particles,
    Rng,
    Steps,
    across,
    csda_range,
    delta_rays,
    fragments,
    isotropic,
    kinetic_energy,
    michel_energies,
    neutral_pions,
    radiated,
    unit,
    walk,
)
from lartpc_ray.data.simulation.voxelize import image
from lartpc_ray.settings import Settings

HIP, MIP, SHOWER, DELTA, MICHEL = (int(particle) for particle in ParticleClass)
TRACK_CLASS = np.array([SHOWER, MIP, MIP, MIP, HIP])
"""Class of each `Kind`."""
PHOTON = -1
CHOICE = np.array([Kind.PROTON, Kind.ELECTRON, PHOTON, Kind.PION, Kind.MUON, Kind.ANTIMUON])
"""Particles that may come from a vertex."""
POSITIVE_MUONS = 0.55
"""Share of µ+ among the crossing muons."""
SMALLEST_DELTA = 0.5
"""Least energy of a delta electron, MeV; softer ones are part of the fluctuations."""
INELASTIC_LENGTH = np.array([np.inf, np.inf, np.inf, 50.0, 70.0])
"""Mean path of each `Kind` to its nuclear interaction, cm; as in the Geant4 sample."""
DECAY = np.array([0.0, 0.26, 1.0, 0.5, 0.0])
"""Share of each `Kind` at rest that gives a Michel electron: argon captures 74 % of the negative
muons (their lifetime in argon is 0.57 µs) and all negative pions."""
PION_SURVIVES = 0.3
"""Share of the pions that leave a nucleus again."""
PION_EXCHANGE = 0.2
"""Share of the pions that become neutral."""
PROTONS = 1.5
"""Mean number of protons that a nuclear interaction knocks out."""
PROTON_SHARE = 0.3
"""Mean share of the energy that one of these protons gets."""
PROTON_LEAST = 15.0
"""Least energy of such a proton, MeV."""
NEUTRONS = 0.024
"""Mean number of neutrons per MeV of a nuclear interaction."""
NEUTRON_LENGTH = 35.0
"""Mean path of a neutron to its recoils, cm."""
RECOIL_SPREAD = 8.0
"""Standard deviation of the recoils' positions along an axis, cm."""
RECOILS = 3.0
"""Mean number of a neutron's recoils."""
RECOIL_ENERGY = 0.02
"""Mean energy of a recoil above the threshold, MeV."""
MARGIN = 0.05
"""Vertices keep this share of the side away from the faces."""
AROUND = 29.0
"""Argon around the image, cm: particles that start there may leave energy inside."""


Share = Annotated[float, Field(ge=0, le=1)]


class Primaries(Settings):
    """The first particles of one sort of event: numbers and energies (MeV), from and to."""

    vertex: tuple[int, int] = Field(default=(1, 6), description="particles from the vertex")
    shares: tuple[Share, Share, Share, Share, Share, Share] = Field(
        default=(0.2, 0.2, 0.2, 0.2, 0.1, 0.1), description="of p, e, photons, π, µ-, µ+ among them"
    )
    proton_energy: tuple[float, float] = Field(default=(50.0, 400.0), description="of p")
    energy: tuple[float, float] = Field(default=(50.0, 1000.0), description="of e, photon, µ, π")
    muons: tuple[int, int] = Field(default=(0, 5), description="muons from elsewhere")
    muon_energy: tuple[float, float] = Field(default=(300.0, 10000.0), description="of these")
    crossing: bool = Field(
        default=True, description="they come from above, log-uniform; else µ+ inside, uniform"
    )


MIXED = Primaries(
    vertex=(3, 8),
    shares=(0.52, 0.09, 0.09, 0.15, 0.075, 0.075),
    proton_energy=(80.0, 600.0),
    muons=(1, 3),
    muon_energy=(50.0, 300.0),
    crossing=False,
)
"""Many protons and some stopping µ+."""


class BombSettings(Settings):
    """The image and the particles of simulated events."""

    side: PositiveInt = Field(
        default=768, le=MAX_SIDE, description="voxels along each axis of the image"
    )
    pitch: PositiveFloat = Field(default=0.3, description="side of a voxel, cm")
    threshold: float = Field(default=0.05, ge=0, description="voxels below it are left out, MeV")
    density: PositiveFloat = Field(default=1.0, description="scales the number of particles")
    delta_energy: float = Field(
        default=2.7, ge=SMALLEST_DELTA, description="least energy of a delta of its own, MeV"
    )
    primaries: tuple[Primaries, ...] = Field(
        validation_alias=AliasChoices("primaries", "guns"),
        default=(MIXED, Primaries()),
        min_length=1,
        description="sorts of events, taken in turn",
    )


class Bomb(Sequence[Event]):
    """Simulated events; each depends only on the settings, the seed and its number.

    Example:
        >>> events = Bomb(2, seed=1, settings=BombSettings(side=128))
        >>> len(events), events[1].shape
        (2, (128, 128, 128))
    """

    def __init__(self, events: int, seed: int, settings: BombSettings | None = None) -> None:
        if events < 0 or seed < 0:
            raise ValueError(f"{events} events, seed {seed}: neither can be negative")
        self._events = events
        self._seed = seed
        self.settings = settings or BombSettings()

    def __len__(self) -> int:
        return self._events

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"event {index} of {len(self)}; count from 0")
        sort = self.settings.primaries[index % len(self.settings.primaries)]
        rng = np.random.default_rng([self._seed, int(index)])
        return _EventGenerator(self.settings, rng).event(sort)


class _EventGenerator:
    """The generator of one event; lengths in cm."""

    def __init__(self, settings: BombSettings, rng: Rng) -> None:
        self.settings = settings
        self.rng = rng
        self.size = settings.side * settings.pitch
        self.clusters = 0
        self.photons: list[tuple[Array, Array, Array]] = []
        self.electrons: list[Particles] = []

    def event(self, sort: Primaries) -> Event:
        """Make the primaries, their products, all electrons with their radiation, and the image."""
        primary = self.make_primaries(sort)
        flight, hits = self.propagate(primary, self.rng.exponential(INELASTIC_LENGTH[primary.kind]))
        product, recoils = self.products(*hits)
        second, _ = self.propagate(product, np.full(len(product), np.inf))
        sizes = [len(primary), len(product)]
        tracks = Particles.join([primary, product])
        flights = Steps.join([flight, second], sizes)
        self.knock_on(tracks, flights)
        self.electrons.append(self.pairs())
        soft = Particles.join([self.radiate(Particles.join(self.electrons)), recoils])
        soft = soft.take(self.inside(soft.start))
        step = self.settings.pitch / 2
        length = csda_range(soft.kind, soft.energy)
        paths = walk(soft, length, step, SMALLEST_DELTA, self.rng)
        steps = Steps.join([flights, paths], [len(tracks), len(soft)])
        settings = self.settings
        particles = Particles.join([tracks, soft])
        return image(particles, steps, settings.side, settings.pitch, settings.threshold)

    def make_particles(
        self, kind: Any, energy: Array, start: Array, direction: Array, semantic: Any
    ) -> Particles:
        """Make particles, each as an instance of its own."""
        count = len(energy)
        cluster = np.arange(self.clusters, self.clusters + count)
        self.clusters += count
        kinds, classes = np.full(count, kind), np.full(count, semantic)
        first, pending_radiation = np.ones(count, bool), np.zeros(count)
        return Particles(
            kinds, energy, start, direction, cluster, classes, first, pending_radiation
        )

    def make_primaries(self, sort: Primaries) -> Particles:
        """Return the first tracks of an event; keep its electrons and photons for later."""
        copies = int(np.ceil(self.settings.density))
        share = self.settings.density / copies
        tracks = []
        for _ in range(copies):
            tracks += [self.vertex(sort, share), self.muons(sort, share)]
        return Particles.join(tracks)

    def vertex(self, sort: Primaries, share: float) -> Particles:
        """Make the particles from one vertex, in all directions."""
        rng = self.rng
        count = int(rng.binomial(rng.integers(*sort.vertex, endpoint=True), share))
        kind = CHOICE[np.searchsorted(np.cumsum(sort.shares[:-1]), rng.random(count), "right")]
        energy = rng.uniform(*sort.energy, count)
        energy = np.where(kind == Kind.PROTON, rng.uniform(*sort.proton_energy, count), energy)
        start = np.repeat(self.somewhere(1), count, axis=0)
        direction = isotropic(count, rng)
        gamma, electron, track = kind < 0, kind == Kind.ELECTRON, kind > 0
        self.photons.append((energy[gamma], start[gamma], direction[gamma]))
        classes = TRACK_CLASS[kind]
        particles = self.make_particles(kind, energy, start, direction, classes)
        self.electrons.append(particles.take(electron))
        return particles.take(track)

    def muons(self, sort: Primaries, share: float) -> Particles:
        """Make muons that cross the image from above (cos² of the zenith angle), or µ+ inside."""
        rng = self.rng
        count = int(rng.binomial(rng.integers(*sort.muons, endpoint=True), share))
        start = self.somewhere(count, 0.0 if sort.crossing else MARGIN)
        if not sort.crossing:
            energy = rng.uniform(*sort.muon_energy, count)
            return self.make_particles(Kind.ANTIMUON, energy, start, isotropic(count, rng), MIP)
        low, high = np.log(sort.muon_energy)
        energy = np.exp(rng.uniform(low, high, count))
        cosine = np.cbrt(rng.random(count))
        angle = rng.uniform(0, 2 * np.pi, count)
        sine = np.sqrt(1 - cosine**2)
        direction = np.stack([sine * np.cos(angle), -cosine, sine * np.sin(angle)], axis=1)
        start = start - self.to_the_edge(start, -direction)[:, None] * direction
        kind = np.where(rng.random(count) < POSITIVE_MUONS, Kind.ANTIMUON, Kind.MUON)
        return self.make_particles(kind, energy, start, direction, MIP)

    def somewhere(self, count: int, margin: float = MARGIN) -> Array:
        return self.size * self.rng.uniform(margin, 1 - margin, (count, 3))

    def to_the_edge(self, start: Array, direction: Array) -> Array:
        """Return the straight distance to the end of the argon."""
        edge = np.where(direction > 0, self.size + AROUND, -AROUND)
        return np.asarray(((edge - start) / direction).min(axis=1))

    def inside(self, point: Array) -> Array:
        """Return whether points are in the argon."""
        return np.asarray((np.abs(point - self.size / 2) < self.size / 2 + AROUND).all(axis=1))

    def propagate(
        self, tracks: Particles, nucleus: Array
    ) -> tuple[Steps, tuple[Array, Array, Array, Array]]:
        """Follow tracks until they stop, leave or hit a nucleus; keep Michel electrons for later.

        Args:
            tracks: their starts.
            nucleus: distance to the nucleus that each would hit, cm.

        Returns:
            the steps; kind, energy, point and direction of the tracks that hit a nucleus.
        """
        stopping = csda_range(tracks.kind, tracks.energy)
        edge = self.to_the_edge(tracks.start, tracks.direction) + 1.0
        length = np.minimum(np.minimum(stopping, nucleus), edge)
        steps = walk(tracks, length, self.settings.pitch, SMALLEST_DELTA, self.rng)
        last = np.searchsorted(steps.particle, np.arange(len(tracks)), side="right") - 1
        end, direction = steps.end[last], steps.direction[last]
        inside = self.inside(end)
        decays = self.rng.random(len(tracks)) < DECAY[tracks.kind]
        stops = end[inside & (length == stopping) & decays]
        energy = michel_energies(len(stops), self.rng)
        axis = isotropic(len(stops), self.rng)
        self.electrons.append(self.make_particles(Kind.ELECTRON, energy, stops, axis, MICHEL))
        hit = np.flatnonzero(inside & (length == nucleus))
        left = kinetic_energy(tracks.kind, stopping - length)
        return steps, (tracks.kind[hit], left[hit], end[hit], direction[hit])

    def knock_on(self, tracks: Particles, steps: Steps) -> None:
        """Make the delta electrons of tracks, as instances of their own or as part of the track."""
        step, energy, start, direction = delta_rays(
            steps, tracks.kind[steps.particle], SMALLEST_DELTA, self.rng
        )
        own = energy >= self.settings.delta_energy
        delta = self.make_particles(Kind.ELECTRON, energy, start, direction, DELTA)
        parent = steps.particle[step]
        cluster = np.where(own, delta.cluster, tracks.cluster[parent])
        semantic = np.where(own, DELTA, tracks.semantic[parent])
        self.electrons.append(replace(delta, cluster=cluster, semantic=semantic))

    def products(
        self, kind: Array, energy: Array, point: Array, direction: Array
    ) -> tuple[Particles, Particles]:
        """Make the products of nuclear interactions, as in the Geant4 sample.

        A pion comes out again, charged or neutral (two photons) and with a part of its energy, or
        is absorbed and leaves its mass to the nucleons. Protons share the remaining energy;
        neutrons knock on nuclei.

        Returns:
            the tracks, and the recoils of the neutrons.
        """
        rng = self.rng
        pion = kind == Kind.PION
        fate = rng.random(len(kind))
        out = pion & (fate < PION_SURVIVES)
        neutral = pion & ~out & (fate < PION_SURVIVES + PION_EXCHANGE)
        left = energy + np.where(pion, MASS[Kind.PION], 0.0)
        axis = isotropic(int(neutral.sum()), rng)
        kept = MASS[Kind.PION] + energy[neutral] * rng.random(len(axis))
        photons, directions = neutral_pions(kept, axis, rng)
        self.photons.append((photons, np.tile(point[neutral], (2, 1)), directions))
        recoils = self.recoils(np.repeat(point, rng.poisson(NEUTRONS * left), axis=0))
        parent = np.repeat(np.arange(len(kind)), rng.poisson(PROTONS, len(kind)))
        share = rng.exponential(PROTON_SHARE, len(parent))
        knocked = np.where(out | neutral, energy / 2, left)[parent] * share
        parent, knocked = parent[knocked > PROTON_LEAST], knocked[knocked > PROTON_LEAST]
        kinds = np.concatenate([np.full(len(parent), Kind.PROTON), kind[out]])
        energy = np.concatenate([knocked, energy[out] * rng.random(int(out.sum()))])
        parent = np.concatenate([parent, np.flatnonzero(out)])
        aside = isotropic(len(parent), rng) * rng.uniform(0, 2, (len(parent), 1))
        away, start = unit(direction[parent] + aside), point[parent]
        return self.make_particles(kinds, energy, start, away, TRACK_CLASS[kinds]), recoils

    def recoils(self, point: Array) -> Particles:
        """Make the recoils of neutrons from some points, one instance per neutron."""
        rng = self.rng
        count = rng.geometric(1 / RECOILS, len(point))
        path = rng.gamma(2.0, NEUTRON_LENGTH / 2, (len(point), 1))
        axis = isotropic(len(point), rng)
        neutron = self.make_particles(Kind.PROTON, path[:, 0], point + path * axis, axis, HIP)
        recoil = neutron.take(np.repeat(np.arange(len(point)), count))
        start = recoil.start + rng.normal(0, RECOIL_SPREAD, recoil.start.shape)
        energy = self.settings.threshold + rng.exponential(RECOIL_ENERGY, len(recoil))
        return replace(recoil, energy=energy, start=start)

    def pairs(self) -> Particles:
        """Make the two electrons of each converted photon, as one instance."""
        energy, start, direction = map(np.concatenate, zip(*self.photons, strict=True))
        path = self.rng.exponential(CONVERSION_LENGTH, len(energy))
        share = self.rng.random(len(energy))
        end = start + path[:, None] * direction
        first = self.make_particles(Kind.ELECTRON, energy * share, end, direction, SHOWER)
        return Particles.join([first, replace(first, energy=energy * (1 - share))])

    def radiate(self, electrons: Particles) -> Particles:
        """Return the electrons, and the electrons that their radiation makes."""
        electrons = electrons.take(self.inside(electrons.start))
        lost = radiated(electrons.energy, self.rng)
        lost[electrons.energy < self.settings.delta_energy] = 0
        parent, energy, depth, radius, turn = fragments(electrons.energy, lost, self.rng)
        source = electrons.take(parent)
        aside = radius[:, None] * across(source.direction, self.rng)
        start = source.start + depth[:, None] * source.direction + aside
        away = unit(source.direction + turn[:, None] * isotropic(len(parent), self.rng))
        later = np.zeros(len(parent), bool)
        made = replace(source, energy=energy, start=start, direction=away, first=later)
        kept = replace(electrons, energy=electrons.energy - lost, pending_radiation=lost)
        return Particles.join([kept, made])
