"""Means over events, and how well they are known."""

import numpy as np
import pytest

from lartpc_ray.metrics.table import MEAN, Metrics, Row
from lartpc_ray.predict.evaluate import ERRORS
from lartpc_ray.report.tables import blocks


def test_errors_are_those_of_a_mean_over_events(rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 100))
    rows = [Row(event, "MIP", "ari", values[0, event]) for event in range(100)]
    rows += [Row(event, "HIP", "ari", values[1, event]) for event in range(100)]
    errors = Metrics(rows).errors(("MIP", "HIP", "DELTA"))
    of_mean = values.std(axis=1) / 10
    assert errors["MIP"]["ari"] == pytest.approx(of_mean[0], rel=0.1)
    assert errors[MEAN]["ari"] == pytest.approx(values.mean(axis=0).std() / 10, rel=0.1)


def test_what_goes_together_in_an_event_is_drawn_together() -> None:
    rows = [Row(event, name, "ari", event % 2) for event in range(64) for name in ("MIP", "HIP")]
    several = [Row(event, "MIP", "ari", event % 2) for event in range(64) for _ in range(5)]
    errors, crossings = Metrics(rows).errors(("MIP", "HIP")), Metrics(several).errors(("MIP",))
    assert errors[MEAN]["ari"] == pytest.approx(errors["MIP"]["ari"]), "no smaller than of one"
    assert crossings["MIP"]["ari"] == pytest.approx(0.5 / 8, rel=0.1), "five rows are one event"


def test_the_mean_of_a_single_event_has_no_error_nor_a_mean_with_it() -> None:
    rows = [Row(0, "MIP", "ari", 0.5), Row(1, "HIP", "ari", 0.5), Row(2, "HIP", "ari", 1.0)]
    errors = Metrics(rows).errors(("MIP", "HIP"))
    assert list(errors) == ["HIP"]
    assert errors["HIP"]["ari"] > 0
    assert MEAN in Metrics(rows).errors(("HIP",)), "the mean over other classes has one"
    assert Metrics([]).errors(("MIP",)) == {}


def test_several_values_of_a_single_event_have_no_error() -> None:
    rows = [Row(0, "MIP", "ari", 0.5), Row(0, "MIP", "ari", 0.9), Row(1, "HIP", "ari", 0.5)]
    assert Metrics(rows).errors(("MIP", "HIP")) == {}


def test_the_error_of_a_mean_is_no_mean_of_errors() -> None:
    part = {"columns": {"MIP": "MIP", "HIP": "HIP"}, "metrics": {"ari": "ARI"}, "mean": True}
    methods = {"this": {"MIP": {"ari": 0.5}, "HIP": {"ari": 0.7}}}
    methods[ERRORS] = {"MIP": {"ari": 0.1}, "HIP": {"ari": 0.1}, MEAN: {"ari": 0.05}}
    (block,) = blocks(part, methods)
    assert block.rows == [("this", [0.5, 0.7, pytest.approx(0.6)]), (ERRORS, [0.1, 0.1, 0.05])]
    del methods[ERRORS][MEAN]
    (block,) = blocks(part, methods)
    assert block.rows[1] == (ERRORS, [0.1, 0.1, None]), "one of its classes has a single event"
