"""Pictures that thresholds are kept with."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lartpc_ray.figure import draw_surface
from lartpc_ray.reconstruct.grid import ChoiceSettings, ThresholdGrid, choose


def test_a_chosen_point_may_lie_outside_of_the_interval_of_an_axis(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    axes = {"s0": np.array([0.0, 0.5, 1.0]), "p0": np.array([0.0, 0.5, 1.0])}
    grid = ThresholdGrid(axes, {"MIP": rng.random((5, 3, 3))})
    choice = choose(grid, "MIP", ChoiceSettings())
    aside = replace(choice, at={"s0": 0.0, "p0": 1.0}, interval={"s0": (0.5, 1), "p0": (0, 0.5)})
    draw_surface(tmp_path / "MIP.png", grid, "MIP", aside, {}, "ari")
    assert (tmp_path / "MIP.png").stat().st_size > 1000
