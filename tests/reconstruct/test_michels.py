"""Drawn Michel electrons: those that are found, and those that each step refuses."""

import numpy as np
import pytest

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.metrics.michel import michel_counts
from lartpc_ray.reconstruct.michels import MichelSettings, find_michels
from lartpc_ray.reconstruct.reconstructions import MichelReconstruction, michel_settings


def muon(y: int) -> list[list[int]]:
    """60 voxels along x, 3 x 3 thick: a core of a track needs ten voxels within 2.8."""
    return [[x, y + a, 50 + b] for x in range(60) for a in (-1, 0, 1) for b in (-1, 0, 1)]


MUON = muon(50)


def drawn(michel: list[list[int]], muon: list[list[int]] = MUON) -> tuple[np.ndarray, np.ndarray]:
    semantic = [ParticleClass.MIP] * len(muon) + [ParticleClass.MICHEL] * len(michel)
    return np.array(muon + michel), np.array(semantic)


def line(x: int, y: int, length: int = 8) -> list[list[int]]:
    return [[x, y + step, 50] for step in range(length)]


def test_a_michel_at_the_end_of_a_muon_is_found() -> None:
    coords, semantic = drawn(line(60, 52))
    found = find_michels(coords, semantic)
    assert found.tolist() == [-1] * 540 + [0] * 8


@pytest.mark.parametrize(
    ("michel", "changed"),
    [
        (line(60, 60), MichelSettings(attached=11.0)),
        (line(30, 52), MichelSettings(edge_radius=31.0)),
        (line(60, 52, 4), MichelSettings(min_points=4)),
    ],
    ids=["apart from the track", "at its middle", "too few voxels"],
)
def test_what_is_refused_and_what_lets_it_pass(
    michel: list[list[int]], changed: MichelSettings
) -> None:
    coords, semantic = drawn(michel)
    assert find_michels(coords, semantic).max() == -1
    assert find_michels(coords, semantic, changed).max() == 0


def test_distances_up_to_two_diagonals_are_attached() -> None:
    coords, semantic = drawn(line(61, 53))
    assert find_michels(coords, semantic).max() == 0, "(2, 2, 0) away: 2√2"
    coords, semantic = drawn(line(62, 53))
    assert find_michels(coords, semantic).max() == -1


def test_two_michels_and_no_track() -> None:
    coords, semantic = drawn(line(60, 52) + line(60, 92), MUON + muon(90))
    assert np.unique(find_michels(coords, semantic)).tolist() == [-1, 0, 1]
    coords, semantic = drawn(line(60, 52), [])
    assert find_michels(coords, semantic).max() == -1
    assert len(find_michels(np.empty((0, 3), int), np.empty(0, int))) == 0


def test_candidates_belong_to_the_true_cluster_they_share_most_voxels_with() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2, -1, -1, -1])
    predicted = np.array([0, 0, 0, 1, 0, -1, -1, 0, 2, 2])
    counts = michel_counts(truth, predicted)
    assert (counts.candidates, counts.right, counts.electrons, counts.seen) == (3, 2, 3, 1)
    (match,) = counts.matches
    assert (match.candidate, match.truth) == (0, 0), "the larger of two candidates of one electron"
    assert match.purity == pytest.approx(3 / 5)
    assert match.efficiency == pytest.approx(3 / 4)
    larger = michel_counts(truth, predicted, min_voxels=2)
    assert (larger.candidates, larger.electrons) == (3, 2)
    none = michel_counts(truth, predicted, min_voxels=5)
    assert (none.candidates, none.right, none.electrons) == (1, 0, 0), (
        "a candidate without a true cluster counts"
    )


def test_the_grid_is_what_each_point_gives() -> None:
    coords, semantic = drawn(line(60, 52) + line(30, 55), MUON)
    truth = np.where(semantic == ParticleClass.MICHEL, 0, -1)
    cut = MichelReconstruction(
        min_points_mip=(5, 40),
        min_points=(1, 5),
        attached=(2.83, 6.0),
        edge_radius=(15.0, 40.0),
    )
    voxels = {"coords": coords, "semantic": semantic, "truth": truth}
    grid = cut.scores(voxels, min_voxels=1)["matched"]
    points = list(cut.axes().values())
    for place in np.ndindex(grid.shape):
        at = {name: p[i] for name, p, i in zip(cut.axes(), points, place, strict=True)}
        counts = michel_counts(truth, find_michels(coords, semantic, michel_settings(at)))
        assert grid[place] == pytest.approx(counts.matched)
