"""Means over events, and how well they are known."""

import numpy as np
import pytest

from lartpc_ray.metrics.table import MEAN, Metrics, Row
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


def test_a_class_of_one_event_and_none_at_all_have_an_error() -> None:
    rows = [Row(0, "MIP", "ari", 0.5), Row(1, "HIP", "ari", 0.5), Row(2, "HIP", "ari", 1.0)]
    assert Metrics(rows).errors(("MIP", "HIP"))["MIP"]["ari"] == 0, "where it is drawn at all"
    assert Metrics([]).errors(("MIP",)) == {}


def test_the_error_of_a_mean_is_no_mean_of_errors() -> None:
    part = {"columns": {"MIP": "MIP", "HIP": "HIP"}, "metrics": {"ari": "ARI"}, "mean": True}
    methods = {"this": {"MIP": {"ari": 0.5}, "HIP": {"ari": 0.7}}}
    methods["±"] = {"MIP": {"ari": 0.1}, "HIP": {"ari": 0.1}, MEAN: {"ari": 0.05}}
    (block,) = blocks(part, methods)
    assert block.rows == [("this", [0.5, 0.7, pytest.approx(0.6)]), ("±", [0.1, 0.1, 0.05])]
