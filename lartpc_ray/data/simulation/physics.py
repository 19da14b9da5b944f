"""Particles in liquid argon: ranges, scattering, delta rays, showers.

Lengths are in cm, energies in MeV. "PDG" is the Review of Particle Physics, "Passage of
particles through matter", with the heading of the section. All functions take many particles.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray
Rng = np.random.Generator
PerParticle = Float[np.ndarray, " particle"]
Number = Int[np.ndarray, " particle"]
Points = Float[np.ndarray, "particle 3"]
Values = Float[np.ndarray, " step"]
StepPoints = Float[np.ndarray, "step 3"]

RADIATION_LENGTH = 14.0
"""X0 of liquid argon, cm: 19.55 g/cm² at 1.396 g/cm³ (PDG, atomic and nuclear properties)."""
CRITICAL_ENERGY = 32.8
"""Ec of electrons in liquid argon, MeV (PDG, atomic and nuclear properties)."""
MOLIERE_RADIUS = 9.04
"""21.2 MeV · X0/Ec (PDG, electromagnetic cascades), cm."""
CONVERSION_LENGTH = 18.0
"""Mean path of a photon to its pair: 9/7 X0 (PDG, energy loss by photons), cm."""
KNOCK_ON = 0.0966
"""K/2 · Z/A · density = 0.1535 · 0.4506 · 1.396 MeV/cm, of the delta-ray spectrum (PDG, energetic
knock-on electrons)."""
MINIMUM_TRANSFER = 12.5
"""Largest energy of a delta electron of a minimum-ionising muon (βγ = 3.5), MeV."""
MICHEL_END = 52.83
"""End point of the Michel spectrum: half the muon's mass, MeV."""
ELECTRON_MASS = 0.511
NEUTRAL_PION = 134.98
"""Mass of the neutral pion, MeV."""
FRAGMENT_LEAST, FRAGMENT_MOST = 1.0, 60.0
"""Range of the energies of a shower's electrons without the first electron, MeV."""
FRAGMENT_WIDE = 2.0
"""Energy scale, MeV, above which a fragment is nearer to the shower's axis."""
PAIR_ENERGY = 10.0
"""Energy, MeV, above which a photon makes a pair, and below it a single electron."""
SOFT_LEAST = 0.05
"""Least energy of a soft electron, MeV."""
SOFT_RATE = 1.0
"""Soft electrons, below FRAGMENT_LEAST, per MeV of radiated energy."""


class Kind(IntEnum):
    """Charged particles that leave a path."""

    ELECTRON = 0
    MUON = 1
    ANTIMUON = 2
    PION = 3
    PROTON = 4


MASS = np.array([ELECTRON_MASS, 105.66, 105.66, 139.57, 938.27])
"""Mass of each `Kind`, MeV."""
BRAGG = np.array([0.75, 8.0, 8.0, 8.0, 17.0])
"""A of dE/dx = A·R^-0.42, MeV/cm with the residual range R in cm (ArgoNeuT: Acciarri et al. 2013,
JINST 8 P08005). The electron's A gives 0.15 mm at 0.1 MeV (NIST ESTAR)."""
FALL = 0.42
PLATEAU = np.array([CRITICAL_ENERGY / RADIATION_LENGTH, 2.12, 2.12, 2.12, 2.12])
"""dE/dx of fast particles of each `Kind`, MeV/cm: the minimum 1.519 MeV cm²/g at 1.396 g/cm³; for
electrons by Rossi's definition of the critical energy (PDG, critical energy)."""
TURN = (BRAGG / PLATEAU) ** (1 / FALL)
"""Residual range above which the particle is minimum-ionising, cm."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Charged particles where they start.

    Attributes:
        kind: `Kind` of each.
        energy: kinetic energy, MeV.
        start: cm from the corner of the image.
        direction: unit vector.
        cluster: number of the instance that their voxels belong to.
        semantic: `ParticleClass` of these voxels.
        first: whether it starts at its instance's start; a shower's fragments do not.
        pending_radiation: further energy that it will radiate, MeV; it stiffens the path.
    """

    kind: Number
    energy: PerParticle
    start: Points
    direction: Points
    cluster: Number
    semantic: Number
    first: Bool[np.ndarray, " particle"]
    pending_radiation: PerParticle

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, index: Array) -> Particles:
        """Select particles by number or by mask."""
        return Particles(*(getattr(self, name)[index] for name in COLUMNS))

    @staticmethod
    def join(parts: list[Particles]) -> Particles:
        """Concatenate particles in order."""
        return Particles(*(np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS))


COLUMNS = tuple(field.name for field in fields(Particles))


@dataclass(frozen=True, eq=False)
class Steps:
    """Paths in straight steps, particle after particle.

    Attributes:
        particle: number of its particle.
        begin, end: cm.
        direction: unit vector.
        kinetic: energy of the particle at the begin of the step, MeV.
        deposit: energy left on the step, MeV.
    """

    particle: Int[np.ndarray, " step"]
    begin: StepPoints
    end: StepPoints
    direction: StepPoints
    kinetic: Values
    deposit: Values

    @staticmethod
    def join(parts: list[Steps], particles: list[int]) -> Steps:
        """Concatenate steps in order; `particles` counts the particles of each part."""
        offset = np.cumsum([0, *particles])
        joined = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Steps)]
        joined[0] = np.concatenate([o + p.particle for o, p in zip(offset, parts, strict=False)])
        return Steps(*joined)


def csda_range(kind: Array, energy: Array) -> Array:
    """Compute the range, cm: the integral of 1/(dE/dx), dE/dx = max(A·R^-0.42, PLATEAU).

    Example:
        >>> csda_range(np.array([Kind.MUON, Kind.PROTON]), np.full(2, 100.0)).round(1).tolist()
        [30.1, 8.3]
    """
    bend = BRAGG[kind] / (1 - FALL) * TURN[kind] ** (1 - FALL)
    low = (energy * (1 - FALL) / BRAGG[kind]) ** (1 / (1 - FALL))
    return np.asarray(np.where(energy < bend, low, TURN[kind] + (energy - bend) / PLATEAU[kind]))


def kinetic_energy(kind: Array, left: Array) -> Array:
    """Return the kinetic energy, MeV, of a particle with a residual range of `left` cm."""
    near = np.minimum(left, TURN[kind])
    return np.asarray(BRAGG[kind] / (1 - FALL) * near ** (1 - FALL) + PLATEAU[kind] * (left - near))


def beta_squared(kind: Array, energy: Array) -> Array:
    """Return (v/c)² of a particle of this kinetic energy."""
    return np.asarray(1 - (MASS[kind] / (energy + MASS[kind])) ** 2)


def scattering_angle(kind: Array, energy: Array, length: float) -> Array:
    """Return the width of the scattering angle in a plane after `length` cm, radians.

    Highland's formula as fitted by Lynch & Dahl 1991 (NIM B 58, 6; PDG, multiple scattering):
    13.6 MeV/(βcp) · sqrt(x/X0) · (1 + 0.038 ln(x/X0)).
    """
    mass = MASS[kind]
    momentum_beta = energy * (energy + 2 * mass) / (energy + mass)
    thick = length / RADIATION_LENGTH
    return np.asarray(13.6 / momentum_beta * np.sqrt(thick) * (1 + 0.038 * np.log(thick)))


def largest_transfer(kind: Array, energy: Array) -> Array:
    """Return the largest energy of a delta electron, MeV (PDG, maximum energy transfer)."""
    gamma = 1 + energy / MASS[kind]
    ratio = ELECTRON_MASS / MASS[kind]
    return np.asarray(2 * ELECTRON_MASS * (gamma**2 - 1) / (1 + 2 * gamma * ratio + ratio**2))


def walk(particles: Particles, length: PerParticle, step: float, cut: float, rng: Rng) -> Steps:
    """Move each particle in steps.

    A particle loses energy by its residual range, without the energy of delta electrons above `cut`
    (`delta_rays` makes them). The loss fluctuates, and the particle scatters at every step. Its
    direction is a Brownian motion in space with growing steps, scaled to length 1: for small angles
    this is Highland's angle θ, and <cos θ> falls as exp(-Σθ²), as for a tumbling electron. The
    turns within a step shorten it by Lewis' mean (1950, Phys. Rev. 78, 526), (1 - exp(-θ²))/θ².

    Args:
        particles: their starts.
        length: of each path, cm; shorter than the range if the particle ends before it stops.
        step: cm.
        cut: energy, MeV, above which a delta electron is a particle of its own.
        rng: source of random numbers.
    """
    counts = np.maximum(np.ceil(length / step), 1).astype(np.int64)
    particle = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    along = (np.arange(len(particle)) - first.take(particle)) * step
    kind = particles.kind.take(particle)
    size = np.minimum(step, length.take(particle) - along)
    left = csda_range(particles.kind, particles.energy).take(particle) - along
    kinetic = kinetic_energy(kind, np.maximum(left, 0))
    loss = kinetic - kinetic_energy(kind, np.maximum(left - size, 0))
    stiff = (1 + particles.pending_radiation / particles.energy).take(particle)
    angle2 = scattering_angle(kind, np.maximum(kinetic * stiff, 0.01), step) ** 2
    straight = -np.expm1(-angle2) / angle2
    angle2 = np.minimum(angle2, 1)
    growth = np.exp(np.minimum(before(angle2, first, particle), 30))
    turn = (np.sqrt(angle2) * growth)[:, None] * rng.standard_normal((len(particle), 3))
    axis = particles.direction.take(particle, axis=0)
    direction = unit(axis + before(turn, first, particle))
    move = direction * (size * straight)[:, None]
    begin = particles.start.take(particle, axis=0) + before(move, first, particle)
    deposit = _fluctuating(kind, kinetic, loss, size, cut, rng)
    return Steps(particle, begin, begin + move, direction, kinetic, deposit)


def before(values: Array, first: Array, particle: Array) -> Array:
    """Sum the values of a particle's earlier steps."""
    total = np.cumsum(values, axis=0) - values
    return np.asarray(total - total.take(first, axis=0).take(particle, axis=0))


def unit(vector: Array) -> Array:
    """Scale vectors to length 1."""
    return np.asarray(vector / np.sqrt(np.einsum("ij,ij->i", vector, vector))[:, None])


def _fluctuating(
    kind: Array, kinetic: Array, loss: Array, size: Array, cut: float, rng: Rng
) -> Array:
    """Return the energy left on each step: the restricted mean and Moyal's form of Landau.

    Moyal 1955 (Phil. Mag. 46, 263): -ln z² of a normal z, mean γ + ln 2, variance π²/2, times
    ξ = 0.0966/β² · size, but no wider than the variance ξ·Tmax of the losses below the cut (PDG,
    fluctuations in energy loss). The mean loss to harder electrons is at most that of
    minimum-ionising particles: beyond them the relativistic rise makes up for it.
    """
    electron = kind == Kind.ELECTRON
    xi = KNOCK_ON * size / np.maximum(beta_squared(kind, kinetic), 0.01)
    most = np.where(electron, kinetic / 2, largest_transfer(kind, kinetic))
    harder = np.where(electron, 0, np.log(np.clip(most, cut, MINIMUM_TRANSFER) / cut) - 1)
    width = np.minimum(xi, np.sqrt(2 * xi * np.minimum(most, cut)) / np.pi)
    moyal = -np.log(rng.standard_normal(len(kind)) ** 2) - (np.euler_gamma + np.log(2))
    mean = loss - xi * np.maximum(harder, 0)
    return np.asarray(np.maximum(mean + width * moyal, 0.2 * loss))


def delta_rays(
    steps: Steps, kind: Array, cut: float, rng: Rng
) -> tuple[Array, Array, Array, Array]:
    """Make the delta electrons above `cut` MeV along some steps.

    dN/dx dT = 0.0966/β² · (1 - β² T/Tmax)/T² and cos θ = T pmax/(p Tmax) (PDG, energetic
    knock-on electrons).

    Args:
        steps: paths of particles.
        kind: of the particle of each step.
        cut: least energy, MeV.
        rng: source of random numbers.

    Returns:
        the step of each, its energy (MeV), its start (cm) and its direction.
    """
    beta2 = beta_squared(kind, steps.kinetic)
    most = largest_transfer(kind, steps.kinetic)
    size = np.sqrt(((steps.end - steps.begin) ** 2).sum(axis=1))
    expected = KNOCK_ON / np.maximum(beta2, 0.01) * np.maximum(1 / cut - 1 / most, 0) * size
    step = np.repeat(np.arange(len(kind)), rng.poisson(expected))
    draw = rng.random((3, len(step)))
    energy = 1 / (1 / cut - draw[0] * (1 / cut - 1 / most[step]))
    kept = draw[1] > beta2[step] * energy / most[step]
    step, energy, along = step[kept], energy[kept], draw[2][kept]
    slope = np.sqrt((energy / most[step]) * (most[step] + 2 * ELECTRON_MASS))
    cosine = np.minimum(slope / np.sqrt(energy + 2 * ELECTRON_MASS), 1)
    axis = steps.direction[step]
    start = steps.begin[step] + along[:, None] * (steps.end[step] - steps.begin[step])
    sine = np.sqrt(1 - cosine**2)[:, None]
    direction = cosine[:, None] * axis + sine * across(axis, rng)
    return step, energy, start, direction


def across(axis: Array, rng: Rng) -> Array:
    """Return a random direction at right angles to each axis."""
    vector = rng.standard_normal(axis.shape)
    return unit(vector - np.einsum("ij,ij->i", vector, axis)[:, None] * axis)


def isotropic(count: int, rng: Rng) -> Array:
    """Return (count, 3) directions, all equally likely."""
    return unit(rng.standard_normal((count, 3)))


def michel_energies(count: int, rng: Rng) -> Array:
    """Return energies of electrons from muons that decay at rest, MeV, up to 52.83 MeV.

    dN/dx = 2x²(3 - 2x) is a third of Beta(3, 2) and two thirds of Beta(3, 1) (Michel 1950; PDG,
    muon decay parameters).
    """
    second = np.where(rng.random(count) < 1 / 3, 2.0, 1.0)
    return np.asarray(MICHEL_END * rng.beta(3.0, second))


def neutral_pions(energy: Array, axis: Array, rng: Rng) -> tuple[Array, Array]:
    """Return the photons of neutral pions: the first of each pion, then the second of each.

    They are isotropic in the rest frame of the pion. With u = cos θ in this frame and v/c = β the
    energies are E(1 ± βu)/2 and the cosines (β ± u)/(1 ± βu) (PDG, kinematics).

    Args:
        energy: total energy, MeV; at least the mass.
        axis: directions of the pions.
        rng: source of random numbers.

    Returns:
        energies and directions.
    """
    beta = np.sqrt(1 - (NEUTRAL_PION / np.maximum(energy, NEUTRAL_PION)) ** 2)
    away = across(axis, rng)
    u = rng.uniform(-1, 1, len(energy))
    energies, directions = [], []
    for sign in (1, -1):
        shift = 1 + sign * beta * u
        cosine = ((beta + sign * u) / shift)[:, None]
        energies.append(energy * shift / 2)
        directions.append(cosine * axis + sign * np.sqrt(np.maximum(1 - cosine**2, 0)) * away)
    return np.concatenate(energies), np.concatenate(directions)


def radiated(energy: Array, rng: Rng) -> Array:
    """Return the energy, MeV, that electrons lose to photons until they stop.

    With the loss c + T/X0 per cm (c·X0 = Ec, Rossi's critical energy) the mean energy left for
    ionisation is Ec·ln(1 + T/Ec); this share fluctuates as e^-z with z from a Gamma distribution
    (Bethe & Heitler 1934, Proc. R. Soc. A 146, 83).
    """
    kept = CRITICAL_ENERGY * np.log1p(energy / CRITICAL_ENERGY)
    return np.asarray(energy * -np.expm1(-rng.gamma(np.log2(energy / kept))))


def fragments(energy: Array, lost: Array, rng: Rng) -> tuple[Array, Array, Array, Array, Array]:
    """Make the electrons that photons of showers set free away from the first electron.

    Depths are Longo & Sestili's (1975, NIM 128, 283; PDG, electromagnetic cascades):
    dE/dt ~ (bt)^(a-1) e^(-bt), b = 0.5, t in radiation lengths, maximum (a-1)/b at ln(E/Ec) - 0.5;
    below the critical energy the maximum is at 0 and a is 1. Radii go as 2rR²/(r² + R²)²
    (Grindhammer & Peters 1993) with R a third of the Molière radius, which then holds 90 % of the
    energy.

    Args:
        energy: of the first electrons, MeV.
        lost: radiated by each of them, MeV.
        rng: source of random numbers.

    Returns:
        of each fragment the number of the first electron, its energy (MeV), depth and radius (cm),
        and the deviation of its direction (0 along the shower, above 1 almost any).
    """
    parent, value = _fragment_energies(lost, rng)
    peak = np.log(energy[parent] / CRITICAL_ENERGY) - 0.5
    depth = RADIATION_LENGTH * rng.gamma(np.maximum(1 + 0.5 * peak, 1)) / 0.5
    draw = rng.random(len(parent))
    soft_share = 1 / (1 + value / FRAGMENT_WIDE)
    radius = MOLIERE_RADIUS / 3 * soft_share * np.sqrt(draw / (1 - draw))
    parent, depth, radius = (np.tile(column, 2) for column in (parent, depth, radius))
    share = np.where(value > PAIR_ENERGY, rng.random(len(value)), 1)
    value = np.concatenate([value * share, value * (1 - share)])
    real = value > 0
    value = value[real]
    return parent[real], value, depth[real], radius[real], FRAGMENT_WIDE / value


def _fragment_energies(lost: Array, rng: Rng) -> tuple[Array, Array]:
    """Share the radiated energy, MeV, among fragments; return the parent and energy of each.

    Energies go as 1/T up to FRAGMENT_MOST, with SOFT_RATE softer ones per MeV as 1/T².
    """
    most = np.maximum(np.minimum(lost, FRAGMENT_MOST), FRAGMENT_LEAST)
    log = np.log(most / FRAGMENT_LEAST)
    count = rng.poisson(lost / most * log) + (lost > FRAGMENT_LEAST)
    hard = np.repeat(np.arange(len(lost)), count)
    soft = np.repeat(np.arange(len(lost)), rng.poisson(SOFT_RATE * lost))
    value = FRAGMENT_LEAST * np.exp(rng.random(len(hard)) * log[hard])
    soft_value = SOFT_LEAST / (1 - rng.random(len(soft)) * (1 - SOFT_LEAST / FRAGMENT_LEAST))
    free = lost - np.bincount(soft, soft_value, len(lost))
    total = np.bincount(hard, value, len(lost))
    value *= np.maximum(free, 0.1 * lost)[hard] / total[hard]
    return np.concatenate([hard, soft]), np.concatenate([value, soft_value])
