"""A report whose network runs on workers: the same text, and wrong placements are one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_event

from lartpc_ray.data.files import write_events
from lartpc_ray.report import __main__ as report
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

EVENTS = {"train": 1, "tune": 20, "test": 40}
"""More test events than one chunk has."""
NETWORK = {"network.depth": 2, "network.filters": 4, "network.blocks": 1}
GRID = {"task.seeds.grid_points": 3}


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write the splits of an untrained network, and the network."""
    for split, count in EVENTS.items():
        write_events(tmp_path / f"{split}.h5", [make_event(rng, voxels=400) for _ in range(count)])
    splits = {"data.splits.path": str(tmp_path), "data.splits.layout.side": 16}
    trial = make_trial({"task.name": "clustering", **NETWORK, **GRID, **splits})
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [])
    checkpoints.save(tmp_path, state)
    return tmp_path


def arguments(data: Path, *more: str) -> list[str]:
    return ["--run", str(data), "--runs", str(data / "runs"), *more]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--data", "DATA", "--all"),
        ("--by", "voxels", "--data", "DATA"),
        ("--against-method", "linked", "--data", "DATA", "--all"),
    ],
)
def test_two_workers_print_what_one_prints(
    data: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    printed = {}
    for workers in ("1", "2"):
        given = [str(data) if word == "DATA" else word for word in words]
        options = arguments(data, *given, "--workers", workers, "--device", "cpu")
        assert run_command(report.parser(), report.main, options) == 0
        printed[workers], shown = capsys.readouterr()
        assert ("starting 2 workers on cpu" in shown) == (workers == "2")
    assert printed["1"] == printed["2"] != ""


@pytest.mark.slow
def test_a_test_split_without_a_cluster_is_one_line(
    data: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    write_events(data / "test.h5", [make_event(rng, voxels=9)])
    assert run_command(report.parser(), report.main, arguments(data, "--data", str(data))) == 2
    assert "no test event has a cluster to score, of at least 10 voxels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "2"), "no network runs for a logged table"),
        (("--device", "cpu"), "no network runs for a logged table"),
        (
            ("--data", "anywhere", "--workers", "0"),
            "argument --workers: 0: give a whole number from 1",
        ),
        pytest.param(
            ("--data", "anywhere", "--device", "cuda", "--workers", "2"),
            "--device cuda: torch sees no GPU; give --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it has a GPU"),
        ),
    ],
)
def test_a_wrong_placement_is_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert run_command(report.parser(), report.main, arguments(data, *words)) == 2
    assert message in capsys.readouterr().err
