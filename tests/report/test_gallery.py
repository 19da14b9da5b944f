"""Which events are drawn, and in which colours."""

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.views import match_colours, views
from lartpc_ray.report.gallery import extreme_events
from lartpc_ray.tasks import ClusteringTask


def line(cluster: list[int], semantic: list[int]) -> Event:
    """Voxels in a row."""
    coords = np.array([[place, 0, 0] for place in range(len(cluster))])
    return Event.of(
        coords,
        np.ones(len(cluster)),
        (16, 16, 16),
        semantic=np.array(semantic),
        cluster=np.array(cluster),
    )


def test_a_predicted_cluster_takes_the_colour_of_the_true_one_it_shares_most_with() -> None:
    event = line([0, 0, 0, 0, 1, 1, 1, -1], [1] * 8)
    truth = views(event)[2]
    found = np.array([5, 5, 5, 2, 7, 7, -1, -1])
    shown = match_colours(truth, event, found).value
    assert shown[:3].tolist() == truth.value[:3].tolist(), "the larger piece has the colour"
    assert shown[4:6].tolist() == truth.value[4:6].tolist()
    assert shown[3] not in truth.value, "the smaller piece has one of its own"
    assert shown[6:].tolist() == [-1, -1]


def test_clusters_of_one_number_in_two_classes_are_two() -> None:
    event = line([0, 0, 0, 0, 0], [1, 1, 1, 2, 2])
    shown = match_colours(views(event)[2], event, np.array([0, 0, 0, 1, 1])).value
    assert shown[0] != shown[4]


def test_what_joins_nothing_true_has_a_colour_of_its_own() -> None:
    event = line([0, 0, -1, -1], [1] * 4)
    shown = match_colours(views(event)[2], event, np.array([0, 0, 1, 1])).value
    assert shown[0] == 0
    assert shown[2] > 0


def test_the_worst_and_the_best_are_never_the_same_event() -> None:
    scores = {number: {"MIP": number / 10} for number in range(5)}
    assert extreme_events(scores, 3) == ([0, 1], [4, 3])
    assert extreme_events({0: {"MIP": 1.0}}, 3) == ([], [])
    equal = {0: {"MIP": 1.0}, 1: {"MIP": 1.0, "HIP": 1.0}}
    assert extreme_events(equal, 1) == ([0], [1]), "the same score over more classes is better"


def test_extent_and_margin_of_each_true_cluster() -> None:
    event = line([0, 0, 0, 1, 5, 5, 0, 0], [1] * 6 + [2] * 2)
    margin = np.array([0.1, 0.2, 0.3, 0.9, 0.5, 0.7, 0.4, 0.6])
    found = ClusteringTask(min_voxels=2).cluster_sizes(event, {"margin": margin})
    assert list(found) == ["MIP", "SHOWER"], "classes without a cluster are absent"
    # 16 voxels are 2 wide: from voxel 0 to 2 a quarter, from 4 to 5 an eighth; one voxel is too few
    np.testing.assert_allclose(found["MIP"], [(0.25, 0.2), (0.125, 0.6)])
    np.testing.assert_allclose(found["SHOWER"], [(0.125, 0.5)])
