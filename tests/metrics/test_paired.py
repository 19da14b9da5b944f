from collections.abc import Sequence
from math import sqrt

import numpy as np
import pytest

from lartpc_ray.metrics.paired import PairedDifference, paired_differences
from lartpc_ray.metrics.table import MEAN, Metrics, Row


def table(**classes: Sequence[float | None]) -> Metrics:
    """Return the ari of each class, event by event; None: no row."""
    return Metrics(
        Row(event, name, "ari", value)
        for name, values in classes.items()
        for event, value in enumerate(values)
        if value is not None
    )


def test_one_class_by_hand() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, error 0.1 / sqrt(3)."""
    found = paired_differences(table(MIP=[0.5, 0.7, 0.9]), table(MIP=[0.4, 0.5, 0.6]), "ari")
    assert found["MIP"].difference == pytest.approx(0.2)
    assert found["MIP"].error == pytest.approx(0.1 / sqrt(3))
    assert found["MIP"].events == 3
    assert found["MIP"].p_better == pytest.approx(0.99973, abs=1e-5)  # Phi(2 sqrt(3))
    assert found[MEAN].error == pytest.approx(found["MIP"].error)


def test_only_events_that_both_have_count() -> None:
    found = paired_differences(table(HIP=[1, None, 0.5, 0.7]), table(HIP=[0.8, 0.1, 0.4]), "ari")
    assert found["HIP"].events == 2
    assert found["HIP"].difference == pytest.approx(0.15)  # (0.2 + 0.1) / 2
    assert found["HIP"].error == pytest.approx(0.05)  # 0.1 / sqrt(2) / sqrt(2)


def test_the_mean_over_classes_counts_an_event_once() -> None:
    """Two classes with the same differences carry the information of one class."""
    ours, others = [0.5, 0.7, 0.9], [0.4, 0.5, 0.6]
    found = paired_differences(table(A=ours, B=ours), table(A=others, B=others), "ari")
    assert found[MEAN].error == pytest.approx(0.1 / sqrt(3))
    found = paired_differences(table(A=ours, B=others), table(A=others, B=ours), "ari")
    assert found[MEAN].error == pytest.approx(0)  # each event: +d and -d
    assert found[MEAN].p_better == pytest.approx(0.5)


def test_the_error_of_the_mean_is_the_bootstraps() -> None:
    """Against the bootstrap over events that `Metrics.errors` uses, with missing classes."""
    random = np.random.default_rng(3)
    ours, others = random.random((2, 300, 2))
    ours[::3, 1] = np.nan
    rows = [
        {name: [None if np.isnan(v) else v for v in side[:, k]] for k, name in enumerate("AB")}
        for side in (ours, others)
    ]
    found = paired_differences(table(**rows[0]), table(**rows[1]), "ari")[MEAN]
    drawn = random.integers(0, 300, (2000, 300))
    means = np.nanmean((ours - others)[drawn], axis=1).mean(axis=1)
    assert found.error == pytest.approx(means.std(), rel=0.06)
    assert found.difference == pytest.approx(np.nanmean(ours - others, axis=0).mean())


def test_a_constant_class_is_left_out_of_the_mean() -> None:
    ours, others = table(A=[0.5, 0.7], Michel=[1, 1]), table(A=[0.4, 0.5], Michel=[1, 1])
    found = paired_differences(ours, others, "ari")
    assert found[MEAN].difference == pytest.approx(0.15)
    assert found["Michel"] == PairedDifference(0.0, 0.0, 0.5, 2)


def test_nothing_to_compare_has_no_entry() -> None:
    assert not paired_differences(table(A=[0.5]), table(A=[0.4]), "ari")
    assert not paired_differences(table(A=[0.5, 0.6]), table(B=[0.5, 0.6]), "ari")
    assert not paired_differences(table(A=[0.5, 0.6]), table(A=[0.5, 0.6]), "purity")


@pytest.mark.parametrize(("difference", "p_better"), [(0.1, 1.0), (0.0, 0.5), (-0.1, 0.0)])
def test_without_an_error_the_sign_decides(difference: float, p_better: float) -> None:
    assert PairedDifference.of(difference, 0.0, 5).p_better == p_better
