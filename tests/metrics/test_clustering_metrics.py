import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from lartpc_ray.metrics.clustering import ami, ari, efficiency, mistakes, purity, sbd, scores
from lartpc_ray.metrics.table import Metrics, Row

TRUTH = np.array([0, 0, 0, 0, 1, 1])
FOUND = np.array([0, 0, 0, 1, 1, 2])


def test_by_hand() -> None:
    # shared voxels: true 0: 3 in a, 1 in b; true 1: 1 in b, 1 in c
    assert purity(TRUTH, FOUND) == pytest.approx((3 / 3 + 1 / 2 + 1 / 1) / 3)
    assert efficiency(TRUTH, FOUND) == pytest.approx((3 / 4 + 1 / 2) / 2)
    best_true = (2 * 3 / 7 + max(2 * 1 / 4, 2 * 1 / 3)) / 2
    best_found = (2 * 3 / 7 + 2 * 1 / 4 + 2 * 1 / 3) / 3
    assert sbd(TRUTH, FOUND) == pytest.approx(min(best_true, best_found))
    # pairs together in both 3; in truth 7; in the prediction 4; of 15
    assert ari(TRUTH, FOUND) == pytest.approx((3 - 28 / 15) / (5.5 - 28 / 15))


def test_mistakes_by_hand() -> None:
    right, split, swallowed, missed = [0] * 20, [1] * 20, [2] * 2, [3] * 5
    truth = np.array(right + split + swallowed + missed)
    predicted = np.array([0] * 19 + [1] + [1] * 15 + [2] * 5 + [0] * 2 + [-1] * 5)
    # cluster 0 holds 19 of the first and 2 of the third, below a tenth: the first is right
    assert mistakes(truth, predicted) == {
        "right": 0.25,
        "split": 0.25,
        "merged": 0.25,
        "missed": 0.25,
    }
    assert mistakes(truth, predicted, min_voxels=10) == {
        "right": 0.5, "split": 0.5, "merged": 0.0, "missed": 0.0
    }  # fmt: skip
    assert mistakes(truth, predicted, min_voxels=99) == {}
    crumbs = mistakes(np.zeros(20, int), np.arange(20))
    assert (crumbs["split"], crumbs["missed"]) == (1.0, 0.0)


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 4), min_size=n, max_size=n),
            st.lists(st.integers(0, 4), min_size=n, max_size=n),
        )
    )
)
def test_ari_and_ami_equal_scikit_learn(labels: tuple[list[int], list[int]]) -> None:
    truth, found = map(np.array, labels)
    assert ami(truth, found) == pytest.approx(adjusted_mutual_info_score(truth, found), abs=1e-12)
    assert ari(truth, found) == pytest.approx(adjusted_rand_score(truth, found), abs=1e-12)


def test_a_missed_voxel_is_a_cluster_of_its_own() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    missed, alone = np.array([0, 0, -1, 1, -1, -1]), np.array([0, 0, 5, 1, 6, 7])
    assert ari(truth, missed) == pytest.approx(adjusted_rand_score(truth, alone), abs=1e-12)
    assert ami(truth, missed) == pytest.approx(adjusted_mutual_info_score(truth, alone), abs=1e-12)


def test_finding_nothing_is_never_rewarded() -> None:
    one = np.zeros(20, int)
    nothing = scores(one, np.full(20, -1))
    assert nothing["ari"] == 0
    assert nothing["sbd"] == 0
    assert nothing["efficiency"] == 0
    assert nothing["n_clusters"] == 0
    assert np.isnan(nothing["purity"])


def test_small_true_clusters_are_cut() -> None:
    truth = np.array([0] * 10 + [1] * 9)
    found = np.array([0] * 10 + [1] * 9)
    assert scores(truth, found, min_voxels=10)["n_clusters"] == 1
    assert np.isnan(scores(truth, found, min_voxels=11)["ari"])


def test_unlabelled_voxels_are_left_out() -> None:
    assert ari(np.array([0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 0])) == 1


def test_names_far_apart_are_as_good_as_numbers_from_0() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    counted = np.array([0, 0, 1, -1, 1, 2])
    named = np.array([10**9, 10**9, 7, -5, 7, 10**6])
    assert scores(truth, named) == scores(truth, counted)
    assert scores(truth, counted)["n_clusters"] == 3


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int32])
def test_labels_of_any_integers_are_scored(kind: np.typing.DTypeLike) -> None:
    truth: np.ndarray = TRUTH.astype(kind)
    found: np.ndarray = FOUND.astype(kind)
    assert scores(truth, found) == scores(TRUTH, FOUND)
    assert mistakes(truth, found) == mistakes(TRUTH, FOUND)


def test_labels_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted labels are float64: give integers"):
        ari(TRUTH, FOUND.astype(float))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="one label each"):
        ari(np.zeros(3, int), np.zeros(4, int))


def test_a_table_means_over_what_was_measured() -> None:
    table = Metrics([Row(0, "MIP", "ari", 0.2), Row(3, "MIP", "ari", 0.6), Row(0, "HIP", "sbd", 1)])
    assert table.mean("MIP", "ari") == pytest.approx(0.4)
    assert table.mean("HIP", "ari") is None
    assert table.means() == {"MIP": {"ari": pytest.approx(0.4)}, "HIP": {"sbd": 1}}
    with pytest.raises(ValueError, match="event 7: HIP ari is nan"):
        Metrics([Row(7, "HIP", "ari", float("nan"))])
