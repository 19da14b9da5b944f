"""Each of the six kinds of mistakes, made by hand."""

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.metrics.mistake_kinds import ClassVoxels, Mistake, find_mistakes

NONE = np.empty((0, 3), int)


def line(count: int, start: tuple[int, int, int], step: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(np.array(start) + np.arange(count)[:, None] * np.array(step))


def mistakes(
    *pieces: tuple[np.ndarray, int, int, float],
    particle: ParticleClass = ParticleClass.MIP,
    others: np.ndarray = NONE,
) -> list[Mistake]:
    """Find the mistakes of pieces: coordinates, true cluster, predicted cluster, embedding."""
    columns = [
        np.concatenate([np.full(len(piece[0]), piece[number]) for piece in pieces])
        for number in (1, 2, 3)
    ]
    voxels = ClassVoxels(
        np.concatenate([piece[0] for piece in pieces]),
        columns[0].astype(int),
        columns[1].astype(int),
        columns[2][:, None].astype(float),
        others,
        particle,
        100,
    )
    return find_mistakes(voxels, min_voxels=5)


A = line(20, (0, 0, 0), (1, 0, 0))
ON = line(15, (20, 0, 0), (1, 0, 0))
ACROSS = line(15, (20, 0, 0), (0, 1, 0))
AWAY = line(15, (0, 50, 0), (1, 0, 0))


def test_two_tracks_in_a_line_are_collinear_if_they_touch() -> None:
    assert mistakes((A, 7, 0, 0.0), (ON, 3, 0, 0.0)) == [Mistake("collinear tracks", (7, 3), 35)]
    assert mistakes((A, 7, 0, 0.0), (ACROSS, 3, 0, 0.0)) == []
    assert mistakes((A, 7, 0, 0.0), (AWAY, 3, 0, 0.0)) == []
    assert mistakes((A, 7, 0, 0.0), (ON, 3, 1, 0.0)) == [], "nothing is merged"


def test_merged_clusters_that_the_embedding_separates_are_post_processing() -> None:
    (found,) = mistakes((A, 7, 0, 0.0), (AWAY, 3, 0, 1.0))
    assert found == Mistake("post-processing", (7, 3), 35)


def test_two_touching_showers_overlap() -> None:
    for second in (ON, ACROSS):
        (found,) = mistakes((A, 7, 0, 0.0), (second, 3, 0, 0.0), particle=ParticleClass.SHOWER)
        assert found == Mistake("overlapping showers", (7, 3), 35)
    assert mistakes((A, 7, 0, 0.0), (AWAY, 3, 0, 0.0), particle=ParticleClass.SHOWER) == []


def test_a_split_track_is_long_over_half_of_the_image() -> None:
    first, second = line(30, (0, 0, 0), (1, 0, 0)), line(30, (30, 0, 0), (1, 0, 0))
    assert mistakes((first, 7, 0, 0.0), (second, 7, 1, 0.0)) == [Mistake("long track", (7,), 60)]
    assert mistakes((A, 7, 0, 0.0), (ON, 7, 1, 0.0)) == [], "35 of 100 voxels"
    assert mistakes((first, 7, 0, 0.0), (second, 7, 0, 0.0)) == []
    sparse = [(line(4, (start, 0, 0), (9, 0, 0)), 7, start, 0.0) for start in (0, 40)]
    assert mistakes(*sparse) == [], "8 voxels over 67 are no track"


def test_a_small_piece_beside_another_class_is_a_leftover() -> None:
    piece = line(4, (30, 0, 0), (1, 0, 0))
    others = line(10, (20, 0, 0), (1, 0, 0))
    (found,) = mistakes((A, 7, 0, 0.0), (piece, 7, 1, 0.0), others=others)
    assert found == Mistake("leftover", (7,), 24)
    assert mistakes((A, 7, 0, 0.0), (piece, 7, 1, 0.0)) == [], "no other class is near"
    assert mistakes((A, 7, 0, 0.0), (piece, 7, -1, 0.0), others=others) == []
    large = line(12, (30, 0, 0), (1, 0, 0))
    assert mistakes((A, 7, 0, 0.0), (large, 7, 1, 0.0), others=others) == []


def test_deposits_away_from_the_main_cluster_scatter_a_shower() -> None:
    parts = [(A, 7, 0, 0.0), *((line(6, (9, 9 * n, 0), (1, 0, 0)), 7, n, 0.0) for n in (1, 2))]
    assert mistakes(*parts, particle=ParticleClass.SHOWER) == [
        Mistake("scattered shower", (7,), 32)
    ]
    assert mistakes(*parts[:2], particle=ParticleClass.SHOWER) == [], "6 voxels are few"
    assert mistakes((A, 7, 0, 0.0), (ON, 7, 1, 0.0), particle=ParticleClass.SHOWER) == []


def test_no_true_cluster_no_mistake() -> None:
    assert mistakes((A, -1, 0, 0.0)) == []
    assert mistakes((A[:3], 2, 0, 0.0), (AWAY, -1, 0, 0.0)) == []
