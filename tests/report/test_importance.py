"""Which settings matter."""

from typing import Any

import numpy as np

from lartpc_ray.report.importance import FEWEST, importance

SEARCH: dict[str, tuple[str, list[Any]]] = {
    "rate": ("log", [1e-3, 1.0]),
    "depth": ("int", [4, 8]),
    "mask": ("choice", ["a", "b"]),
}


def test_the_setting_that_makes_the_objective_is_found() -> None:
    rng = np.random.default_rng(3)
    rates = 10 ** rng.uniform(-3, 0, 200)
    settings = [
        {"rate": str(rate), "depth": str(rng.integers(4, 9)), "mask": "ab"[rng.integers(2)]}
        for rate in rates
    ]
    shares = importance(SEARCH, settings, np.log10(rates).tolist())
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.9
    assert abs(sum(shares.values()) - 1) < 1e-9


def test_few_trials_say_nothing() -> None:
    settings = [{"rate": "0.1", "depth": "4", "mask": "a"}] * (FEWEST - 1)
    assert importance(SEARCH, settings, [0.5] * (FEWEST - 1)) == {}
