"""The equations of the passage through argon, against values worked out by hand."""

import numpy as np
import pytest

from lartpc_ray.data.simulation.physics import (
    CRITICAL_ENERGY,
    KNOCK_ON,
    RADIATION_LENGTH,
    Kind,
    Particles,
    beta_squared,
    csda_range,
    delta_rays,
    fragments,
    kinetic_energy,
    largest_transfer,
    michel_energies,
    neutral_pions,
    radiated,
    scattering_angle,
    walk,
)


def beam(kind: Kind, energy: float, count: int) -> Particles:
    """Equal particles along x."""
    zeros = np.zeros((count, 3))
    return Particles(
        kind=np.full(count, int(kind)),
        energy=np.full(count, energy),
        start=zeros,
        direction=np.tile([1.0, 0.0, 0.0], (count, 1)),
        cluster=np.arange(count),
        semantic=np.zeros(count, int),
        first=np.ones(count, bool),
        pending_radiation=np.zeros(count),
    )


def test_residual_range() -> None:
    # A/0.58 R^0.58: 13.793 · 10^0.58 for muons, 29.310 · 10^0.58 for protons
    kinds = np.array([Kind.MUON, Kind.PROTON])
    energy = kinetic_energy(kinds, np.full(2, 10.0))
    np.testing.assert_allclose(energy, [52.44, 111.44], rtol=1e-3)
    far = np.array([200.0, 300.0])
    muons = np.full(2, Kind.MUON)
    assert np.diff(kinetic_energy(muons, far)) == pytest.approx(212)
    np.testing.assert_allclose(csda_range(muons, kinetic_energy(muons, far)), far)


def test_highland_and_the_largest_transfer() -> None:
    muon = np.array([Kind.MUON])
    # p β c = (T² + 2Tm)/(T + m) = 1095.6 MeV; one radiation length
    angle = scattering_angle(muon, np.array([1000.0]), RADIATION_LENGTH)
    assert angle[0] == pytest.approx(13.6 / 1095.6, rel=1e-3)
    # γ = 2: 2 m 3/(1 + 4 r + r²) with r = 0.511/105.66
    assert largest_transfer(muon, np.array([105.66]))[0] == pytest.approx(3.0077, rel=1e-4)
    assert beta_squared(muon, np.array([105.66]))[0] == pytest.approx(0.75)


def test_a_walk_is_one_line_and_leaves_its_energy(rng: np.random.Generator) -> None:
    protons = beam(Kind.PROTON, 150.0, 200)
    reach = csda_range(protons.kind, protons.energy)
    steps = walk(protons, reach, 0.3, 0.5, rng)
    assert np.bincount(steps.particle, steps.deposit).mean() == pytest.approx(150, rel=0.01)
    same = steps.particle[1:] == steps.particle[:-1]
    np.testing.assert_allclose(steps.begin[1:][same], steps.end[:-1][same], atol=1e-9)
    assert np.linalg.norm(steps.end - steps.begin, axis=1).max() <= 0.3 + 1e-9
    last = steps.end[np.append(~same, True)]
    assert (np.linalg.norm(last, axis=1) < reach).all()
    assert last[:, 0].mean() > 0.95 * reach[0]


def test_muons_scatter_by_highland(rng: np.random.Generator) -> None:
    muons = beam(Kind.MUON, 1000.0, 4000)
    steps = walk(muons, np.full(4000, 3.0), 0.3, 0.5, rng)
    last = np.append(steps.particle[1:] != steps.particle[:-1], True)
    # nine turns before the tenth step, at energies close to 1000 MeV
    one = scattering_angle(np.array([Kind.MUON]), np.array([997.0]), 0.3)[0]
    assert steps.direction[last][:, 1].std() == pytest.approx(3 * one, rel=0.05)


def test_slow_electrons_forget_their_direction(rng: np.random.Generator) -> None:
    electrons = beam(Kind.ELECTRON, 5.0, 2000)
    steps = walk(electrons, csda_range(electrons.kind, electrons.energy), 0.1, 0.5, rng)
    last = np.append(steps.particle[1:] != steps.particle[:-1], True)
    assert abs(steps.direction[last].mean(axis=0)[0]) < 0.07
    assert np.bincount(steps.particle, steps.deposit).mean() == pytest.approx(5, rel=0.03)


def test_delta_rays(rng: np.random.Generator) -> None:
    muons = beam(Kind.MUON, 3000.0, 400)
    steps = walk(muons, np.full(400, 3.0), 0.3, 1.0, rng)
    kind = muons.kind[steps.particle]
    step, energy, start, direction = delta_rays(steps, kind, 1.0, rng)
    beta2 = beta_squared(kind[:1], np.array([3000.0]))[0]
    most = largest_transfer(kind[:1], np.array([3000.0]))[0]
    # the integral of 1/T² - β²/(T Tmax) from 1 MeV to Tmax, over 400 · 3 cm
    expected = 1200 * KNOCK_ON / beta2 * (1 - 1 / most - beta2 / most * np.log(most))
    assert len(energy) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert energy.min() >= 1
    assert energy.max() <= most
    cosine = np.einsum("ij,ij->i", direction, steps.direction[step])
    # T/p · pmax/Tmax with p² = T² + 2Tm
    momentum = np.sqrt(energy * (energy + 1.022))
    np.testing.assert_allclose(cosine, energy / momentum * np.sqrt(1 + 1.022 / most), rtol=2e-3)
    assert (start[:, 0] <= 3).all()


def test_michel_spectrum(rng: np.random.Generator) -> None:
    x = michel_energies(40000, rng) / 52.83
    # mean 2(3/4 - 2/5) = 0.7; below one half 2x³ - x⁴ = 0.1875
    assert x.mean() == pytest.approx(0.7, abs=0.004)
    assert (x < 0.5).mean() == pytest.approx(0.1875, abs=0.008)
    assert x.max() <= 1


def test_what_electrons_radiate(rng: np.random.Generator) -> None:
    lost = radiated(np.full(40000, 100.0), rng)
    kept = CRITICAL_ENERGY * np.log(1 + 100 / CRITICAL_ENERGY)
    assert lost.mean() == pytest.approx(100 - kept, rel=0.02)
    assert lost.min() >= 0
    assert lost.max() <= 100


def test_fragments_share_what_was_radiated(rng: np.random.Generator) -> None:
    parent, energy, depth, radius, _ = fragments(np.full(50, 500.0), np.full(50, 400.0), rng)
    np.testing.assert_allclose(np.bincount(parent, energy), 400)
    # Gamma(a) has the mean a: a = 1 + (ln(500/Ec) - 0.5)/2, in units of 1/b = 2 radiation lengths
    peak = np.log(500 / CRITICAL_ENERGY) - 0.5
    assert depth.mean() == pytest.approx((1 + peak / 2) * 2 * RADIATION_LENGTH, rel=0.05)
    assert radius[energy < 1].mean() > 3 * radius[energy > 10].mean()
    assert len(fragments(np.ones(3), np.zeros(3), rng)[0]) == 0


def test_neutral_pions_conserve_energy_and_momentum(rng: np.random.Generator) -> None:
    axis = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]])
    total = np.array([300.0, 134.98])
    energy, direction = neutral_pions(total, axis, rng)
    np.testing.assert_allclose(energy[:2] + energy[2:], total)
    momentum = energy[:, None] * direction
    expected = np.sqrt(total**2 - 134.98**2)[:, None] * axis
    np.testing.assert_allclose(momentum[:2] + momentum[2:], expected, atol=1e-6)
