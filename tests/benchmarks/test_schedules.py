"""The pure parts of the comparison of learning-rate schedules."""

from pathlib import Path

import numpy as np
import pytest
import torch
from search_study.points import plan
from search_study.schedules import FORMS, averaged, lasting, restarts
from search_study.trainings import SPACE, Training, load, save

from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import OptimizerSettings


def test_restarts_falls_to_zero_at_the_rung_and_at_the_end() -> None:
    settings = OptimizerSettings(steps=400, warmup=0)
    factors = [restarts(settings, step) for step in (0, 80, 159, 160, 280, 399)]
    assert factors == pytest.approx([1, 0.5, 0, 1, 0.5, 0], abs=1e-3)
    assert restarts(OptimizerSettings(steps=400, warmup=9), 0) == pytest.approx(0.1)


def test_weights_are_averaged_and_counters_are_not() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    other = {"w": torch.tensor([3.0, 4.0]), "n": torch.tensor(5)}
    mean = averaged([one, other])
    assert mean["w"].tolist() == [2.0, 3.0]
    assert mean["n"] == 5


def test_a_rung_that_keeps_the_order_has_a_correlation_of_one(tmp_path: Path) -> None:
    space, known = read_space(SPACE, "laptop"), {one.index: one for one in load()}
    for index in range(4):
        planned, recorded = plan(space.search, space.first, index), known[index]
        end = recorded.scores[-1].astype(float)
        about = (index, planned.kind, planned.settings, planned.seed)
        for several in FORMS.values():
            for form in several:
                shift = index * 0.1 * (form == "restarts")
                last = end - 0.05 * (form == "cosine")
                scores = np.stack([end - 0.2 - shift, last])
                steps = np.array([160, 400])
                row = Training(*about, steps, np.zeros(2), scores)
                save([row], tmp_path / f"{form}-{index:04d}.npz")
    found = lasting(tmp_path)
    assert found["constant"].correlation == pytest.approx(1, abs=1e-3)
    assert found["constant"].change == pytest.approx(0, abs=1e-3)
    rung, end = found["constant"].level
    assert end - rung == pytest.approx(0.2, 1e-2)
    assert found["constant"].ahead[0] == pytest.approx(0.05, 1e-2), "0.05 above the cosine"
    assert found["restarts"].change == pytest.approx(0.1, 1e-2), "shifts of 0.1, 0.2 and 0.3"
    assert set(found) == {"cosine", "constant", "averaged", "restarts"}
