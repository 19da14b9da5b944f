"""The segmentation metrics against scikit-learn, and the boundary by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from lartpc_ray.data.classes import TRACK_SHOWER
from lartpc_ray.metrics.segmentation import (
    accuracy,
    boundary_distance,
    class_accuracy,
    confusion,
    f1,
    iou,
    merge_classes,
)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(-1, 5, 300), rng.integers(0, 5, 300)
    known = truth >= 0
    table = confusion(truth, predicted, 5)
    np.testing.assert_array_equal(table, sk.confusion_matrix(truth[known], predicted[known]))
    assert accuracy(table) == pytest.approx(sk.accuracy_score(truth[known], predicted[known]))
    kinds = {"average": None}
    np.testing.assert_allclose(f1(table), sk.f1_score(truth[known], predicted[known], **kinds))
    np.testing.assert_allclose(
        iou(table), sk.jaccard_score(truth[known], predicted[known], **kinds)
    )
    np.testing.assert_allclose(
        class_accuracy(table), sk.recall_score(truth[known], predicted[known], **kinds)
    )
    two = sk.confusion_matrix(TRACK_SHOWER[truth[known]], TRACK_SHOWER[predicted[known]])
    np.testing.assert_array_equal(merge_classes(table, TRACK_SHOWER), two)


def test_what_is_not_there_has_no_number() -> None:
    table = confusion(np.array([0, 0]), np.array([0, 1]), 3)
    assert class_accuracy(table).tolist()[0] == 0.5
    assert np.isnan(class_accuracy(table)[1:]).all()
    assert np.isnan(f1(table)[2])
    assert np.isnan(accuracy(np.zeros((3, 3), int)))


def test_the_distance_to_the_boundary_of_a_drawn_plane() -> None:
    """5 x 4 pixels: 0 on the frame, 1 inside."""
    pixels = np.array([[x, y] for x in range(5) for y in range(4)])
    wanted = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert boundary_distance(pixels, (5, 4)).tolist() == wanted
