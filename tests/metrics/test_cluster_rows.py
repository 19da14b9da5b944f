"""The rows of clusters: sizes, partners, purity and efficiency."""

import numpy as np
import pytest
from conftest import make_event
from scipy.spatial.distance import pdist

from lartpc_ray.metrics.binned import binned_means, binned_shares, equal_bins
from lartpc_ray.metrics.cluster_rows import cluster_rows
from lartpc_ray.metrics.clustering import scores


def labels(rng: np.random.Generator, voxels: int, clusters: int) -> np.ndarray:
    """Return numbers from 0 without gaps, and some voxels in no cluster."""
    values = rng.integers(-1, clusters, voxels)
    known = np.unique(values[values >= 0])
    return np.where(values >= 0, np.searchsorted(known, values), -1)


@pytest.mark.parametrize("seed", range(5))
def test_means_over_the_rows_are_the_metrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    event = make_event(rng, voxels=80)
    truth, predicted = labels(rng, 80, 5), labels(rng, 80, 6)
    true, found = cluster_rows(event.coords, event.energy, truth, predicted)
    expected = scores(truth, predicted)
    assert true.efficiency.mean() == pytest.approx(expected["efficiency"])
    assert found.purity[found.partner >= 0].mean() == pytest.approx(expected["purity"])
    for rows, own in ((true, truth), (found, predicted)):
        assert rows.voxels.tolist() == np.bincount(own[own >= 0]).tolist()
        assert rows.energy.sum() == pytest.approx(event.energy[own >= 0].sum(), rel=1e-6)
        for number, extent in enumerate(rows.extent):
            coords = event.coords[own == number]
            assert extent == pytest.approx(pdist(coords).max() if len(coords) > 1 else 0)


def test_a_cluster_without_a_partner_has_an_efficiency_of_0_and_no_purity() -> None:
    coords, energy = np.arange(12, dtype=np.int32).reshape(4, 3), np.ones(4, np.float32)
    truth, predicted = np.array([0, 0, -1, 1]), np.array([-1, -1, 0, 1])
    true, found = cluster_rows(coords, energy, truth, predicted)
    assert true.partner.tolist() == [-1, 1]
    assert true.efficiency.tolist() == [0, 1]
    assert np.isnan(true.purity[0])
    assert found.partner.tolist() == [-1, 1]
    assert found.purity.tolist() == [0, 1]
    assert np.isnan(found.efficiency[0])


def test_nothing_found_and_nothing_there_are_rows_too() -> None:
    coords, energy = np.zeros((1, 3), np.int32), np.ones(1, np.float32)
    none, one = np.array([-1]), np.array([0])
    true, found = cluster_rows(coords, energy, one, none)
    assert (true.efficiency.tolist(), len(found.voxels)) == ([0], 0)
    true, found = cluster_rows(coords, energy, none, one)
    assert (len(true.voxels), found.purity.tolist()) == (0, [0])
    true, found = cluster_rows(coords[:0], energy[:0], none[:0], none[:0])
    assert len(true.voxels) == len(found.voxels) == 0


def test_the_bootstrap_draws_events_not_clusters() -> None:
    """Ten equal clusters in an event say as much as one."""
    rng = np.random.default_rng(2)
    values = rng.random(200)
    one = binned_means(np.ones(200), values, np.arange(200), np.zeros(200, int))
    again, events = np.repeat(values, 10), np.repeat(np.arange(200), 10)
    ten = binned_means(np.ones(2000), again, events, np.zeros(2000, int))
    assert ten.up - ten.down == pytest.approx(one.up - one.down)
    assert (one.up - one.down)[0] / 2 == pytest.approx(values.std() / np.sqrt(200), rel=0.15)
    assert one.value[0] == pytest.approx(values.mean())


def test_bins_have_about_equal_counts_and_keep_equal_sizes_together() -> None:
    sizes = np.r_[np.full(50, 1.0), np.arange(2, 112)]
    bins = equal_bins(sizes, most=4)
    assert len(set(bins[:50])) == 1
    counts = np.bincount(bins)
    assert counts.min() >= 20
    assert (np.diff(bins[50:]) >= 0).all()
    assert equal_bins(sizes[:0]).tolist() == []
    share = binned_shares(sizes, sizes > 1, bins)
    assert share.value[0] == pytest.approx((sizes[bins == 0] > 1).mean())
    assert share.low[0] == 1
    assert share.high[-1] == 111
