"""Pictures that thresholds are kept with."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import font_manager

from lartpc_ray.reconstruct.grid import ThresholdGrid, choose, seed_plane
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.thresholds.figures import draw_surface
from lartpc_ray.thresholds.record import TunedThresholds, _draw


def test_a_chosen_point_may_lie_outside_of_the_interval_of_an_axis(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    axes = {"s0": np.array([0.0, 0.5, 1.0]), "p0": np.array([0.0, 0.5, 1.0])}
    grid = ThresholdGrid(axes, {"MIP": rng.random((5, 3, 3))})
    choice = choose(grid, "MIP", ChoiceSettings())
    aside = replace(
        choice, thresholds={"s0": 0.0, "p0": 1.0}, interval={"s0": (0.5, 1), "p0": (0, 0.5)}
    )
    draw_surface(tmp_path / "MIP.png", grid, "MIP", aside, {}, "ari")
    assert (tmp_path / "MIP.png").stat().st_size > 1000


def test_linked_voxels_are_drawn_over_s0_and_p0(tmp_path: Path, rng: np.random.Generator) -> None:
    axes = {name: np.array([0.0, 0.5, 1.0]) for name in ("s0", "p0", "max_voxel_distance")}
    grid = ThresholdGrid(axes, {"MIP": rng.random((5, 3, 3, 3))})
    choice = choose(grid, "MIP", ChoiceSettings())
    tuned = TunedThresholds({}, {}, grid, {"MIP": choice}, {"MIP": "ari"})
    assert _draw(tmp_path / "MIP.png", "MIP", tuned) == tmp_path / "MIP.png"
    assert (tmp_path / "MIP.png").stat().st_size > 1000
    plane, flat = seed_plane(grid, "MIP", choice)
    assert plane.means["MIP"].shape == flat.plateau.shape == (3, 3)
    best = {axis: int(np.searchsorted(axes[axis], choice.thresholds[axis])) for axis in axes}
    expected = grid.means["MIP"][best["s0"], best["p0"], best["max_voxel_distance"]]
    assert plane.means["MIP"][best["s0"], best["p0"]] == expected


def test_a_machine_without_the_fonts_of_formulas_says_nothing(tmp_path: Path) -> None:
    """As where the list of fonts was made while they were not there yet."""
    fonts = font_manager.FontManager()
    fonts.ttflist = [one for one in fonts.ttflist if one.name == "DejaVu Sans"]
    list_of_fonts = tmp_path / f"fontlist-v{fonts.__version__}.json"
    font_manager.json_dump(fonts, list_of_fonts)
    made = list_of_fonts.read_bytes()
    script = """
from lartpc_ray.terminal.command import prepare_process
prepare_process()
from lartpc_ray.thresholds import figures as figure
drawn = figure.Figure()
drawn.text(0, 0, "$10^{-3}$")
figure.FigureCanvasAgg(drawn).draw()
"""
    variables = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list_of_fonts.read_bytes() == made, "the list was taken, not made anew"
