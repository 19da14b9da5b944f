"""Smeared deposits: a Gaussian of the same energy, the truth of the larger share, a threshold."""

import numpy as np
import pytest

from lartpc_ray.data.event import Event
from lartpc_ray.data.smearing import smear
from lartpc_ray.data.splits import Splits


def test_a_smeared_deposit_is_a_gaussian_of_the_same_energy() -> None:
    alone = Event.of(
        np.array([[10, 10]]),
        np.array([2.0]),
        (21, 21),
        semantic=np.array([1]),
        cluster=np.array([4]),
    )
    cloud = smear(alone, 1.0)
    assert len(cloud) == 49, "out to two standard deviations and a voxel"
    assert cloud.energy.sum() == pytest.approx(2.0)
    row = {
        tuple(at): energy for at, energy in zip(cloud.coords.tolist(), cloud.energy, strict=True)
    }
    centre, side = 0.38292, 0.24173  # of a normal distribution, within 0.5 and from 0.5 to 1.5
    assert row[10, 11] / row[10, 10] == pytest.approx(side / centre, rel=1e-4)
    assert row[11, 11] / row[10, 10] == pytest.approx((side / centre) ** 2, rel=1e-4)
    assert (cloud.semantic == 1).all()
    assert (cloud.cluster == 4).all()


def test_smeared_voxels_take_the_truth_of_the_larger_share() -> None:
    two = Event.of(
        np.array([[5, 5], [8, 5]]),
        np.array([1.0, 1.0]),
        (12, 12),
        semantic=np.array([0, 1]),
        cluster=np.array([0, 1]),
    )
    cloud = smear(two, 1.0)
    near = {tuple(at): one for at, one in zip(cloud.coords.tolist(), cloud.semantic, strict=True)}
    assert near[6, 5] == 0
    assert near[7, 5] == 1
    edge = smear(Event.of(np.array([[0, 0]]), np.array([1.0]), (12, 12)), 1.0)
    assert edge.energy.sum() < 1, "what leaves the image is lost"


def plain(event: Event, sigma: float) -> Event:
    """Smear by the definition: every deposit gives all of its voxels their share, then merge."""
    from scipy.stats import norm

    reach = int(2 * sigma) + 1
    edges = norm.cdf((np.arange(-reach, reach + 2) - 0.5) / sigma)
    along = np.diff(edges) / (edges[-1] - edges[0])
    axes = len(event.shape)
    steps = np.indices((2 * reach + 1,) * axes).reshape(axes, -1).T
    share = along[steps].prod(axis=1)
    coords = (event.coords[:, None] + (steps - reach)).reshape(-1, axes)
    inside = ((coords >= 0) & (coords < event.shape)).all(axis=1)
    semantic, cluster = (
        np.repeat(values, len(share))[inside] for values in (event.semantic, event.cluster)
    )
    energy = (event.energy[:, None] * share).ravel()[inside]
    return Event.of(
        coords[inside].astype(np.int32),
        energy,
        event.shape,
        semantic=semantic,
        cluster=cluster,
        merge=True,
    )


@pytest.mark.parametrize(
    ("shape", "sigma"), [((40, 23, 31), 1.0), ((33, 50), 2.3), ((9, 9, 9), 4.0)]
)
def test_equals_the_definition(shape: tuple[int, ...], sigma: float) -> None:
    rng = np.random.default_rng(len(shape))
    coords = np.unique(rng.integers(0, shape, (60, len(shape))), axis=0)
    count = len(coords)
    event = Event.of(
        coords,
        rng.exponential(size=count),
        shape,
        semantic=rng.integers(0, 5, count),
        cluster=rng.integers(0, 9, count),
    )
    smeared, expected = smear(event, sigma), plain(event, sigma)
    assert np.array_equal(smeared.coords, expected.coords)
    assert smeared.energy == pytest.approx(expected.energy, rel=1e-5)
    assert np.array_equal(smeared.semantic, expected.semantic)
    assert np.array_equal(smeared.cluster, expected.cluster)
    assert len(smear(event.select(np.zeros(count, bool)), sigma)) == 0


def test_a_split_keeps_the_voxels_above_the_threshold() -> None:
    whole = Splits(smear=1.0).events("tune")[0]
    cut = Splits(smear=1.0, threshold=0.025).events("tune")[0]
    assert len(cut) == (whole.energy > np.float32(0.025)).sum()
    assert 0.1 < len(cut) / len(whole) < 0.2, "most smeared voxels have next to no energy"
