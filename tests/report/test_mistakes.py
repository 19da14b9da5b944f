"""Which clusters are counted as mistakes, and which of them are drawn."""

import numpy as np

from lartpc_ray.data.event import Event
from lartpc_ray.data.views import views
from lartpc_ray.metrics.mistake_kinds import KINDS
from lartpc_ray.report.mistakes import count_kinds, count_outcomes, draw_mistake
from lartpc_ray.tasks import ClusteringTask

MIP = 1
AT = {"MIP": {"s0": 0.5, "p0": 0.5}}
TASK = ClusteringTask.model_validate({"seeds": {"min_voxels": 2}})


def event(cluster: list[int], found: list[int]) -> tuple[Event, dict[str, np.ndarray]]:
    """Voxels in a row, and outputs whose seeds make the clusters that are wanted."""
    count = len(cluster)
    made = Event.of(
        np.array([[place, 0, 0] for place in range(count)]),
        np.ones(count),
        (64, 64, 64),
        semantic=np.full(count, MIP),
        cluster=np.array(cluster),
    )
    position = np.array(found, float)[:, None] * [1.0, 0.0, 0.0]
    outputs = {"position": position, "margin": np.full(count, 0.1)}
    return made, {**outputs, "seediness": np.full(count, 0.9)}


SPLIT = event([0, 0, 0, 1, 1], [0, 0, 1, 2, 2])
MERGED = event([0] * 4 + [1] * 3 + [2] * 2, [0] * 4 + [0] * 3 + [1] * 2)


def test_every_true_cluster_is_counted_and_the_largest_of_each_fate_is_kept() -> None:
    found = count_outcomes(TASK, AT, iter([SPLIT, MERGED]))
    assert list(found) == ["MIP"], "classes without a cluster are absent"
    assert found["MIP"].clusters == 5
    fates = found["MIP"].outcomes
    assert {name: fate.count for name, fate in fates.items()} == {
        "right": 2,
        "split": 1,
        "merged": 2,
        "missed": 0,
    }
    assert fates["split"].largest == {0: (3, 0)}
    assert fates["merged"].largest == {1: (4, 0)}
    drawn = {7}
    assert fates["merged"].take(drawn) == 1
    assert fates["merged"].take(drawn) is None, "no event twice"
    assert drawn == {1, 7}


def test_the_kinds_of_the_paper_are_counted_and_the_largest_of_each_is_kept() -> None:
    kinds = count_kinds(TASK, AT, iter([SPLIT, MERGED]))
    assert list(kinds) == list(KINDS)
    assert {kind: list(found) for kind, found in kinds.items() if found} == {
        "collinear tracks": ["MIP"]
    }
    found = kinds["collinear tracks"]["MIP"]
    assert found.count == 1
    assert found.largest == {1: (7, 0)}


def test_drawn_is_the_cluster_with_those_it_was_merged_with_and_nothing_else() -> None:
    truth, found = draw_mistake(TASK, MERGED, AT, "MIP", 0)
    assert truth.view.value.tolist()[-2:] == [-1, -1], "the third one is grey"
    assert len(set(truth.view.value[:7].tolist())) == 2
    assert len(set(found.view.value[:7].tolist())) == 1
    assert found.view.value[-1] == -1


def test_drawn_are_the_pieces_of_a_split_cluster() -> None:
    truth, found = draw_mistake(TASK, SPLIT, AT, "MIP", 0)
    colour = views(SPLIT[0])[2].value[0]
    assert truth.view.value.tolist() == [colour] * 3 + [-1, -1]
    assert found.view.value[:2].tolist() == [colour] * 2
    assert found.view.value[2] not in (colour, -1)
