"""Filling the dead regions of a file, given their map."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

ROOT = Path(__file__).parents[2]
MAP = "slabs: [{axis: 0, position: 4.5, width: 3.0}]"
LAYOUT = Layout(side=40)


def muon() -> Event:
    coords = np.stack([np.arange(40), np.full(40, 10), np.full(40, 20)], axis=1)
    semantic, cluster = np.full(40, ParticleClass.MIP), np.zeros(40, int)
    return Event.of(coords, np.ones(40), (40, 40, 40), semantic=semantic, cluster=cluster)


def test_an_input_is_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "in" / "events.h5"
    events.parent.mkdir()
    write_events(events, [muon()])
    before = events.read_bytes()
    for output, reason in (
        (events, "is the input; give the output another name"),
        (events.parent, "holds the input events.h5; give another folder"),
    ):
        arguments = ["--run", "models/clustering", str(events), "-o", str(output), "--force"]
        assert run_command(predict.parser(), predict.main, arguments) == 2
        assert f"{output}: {reason}" in capsys.readouterr().err
    assert events.read_bytes() == before


@pytest.fixture(params=["near"])
def infill(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Give the arguments of a prediction by an infill that finds every candidate active."""
    trial = make_trial(
        {
            "task.name": "infill",
            "task.form": "bce",
            "task.margin": 1,
            "task.candidates": request.param,
            "network.depth": 2,
            "network.filters": 4,
            "data.splits.layout.side": 40,
        }
    )
    network = trial.make_network()
    with torch.no_grad():
        for name, value in (("active", 9.0), ("energy", 0.5)):
            out = network.get_parameter(f"decoders.{name}.out.weight")
            out.zero_()
            network.get_parameter(f"decoders.{name}.out.bias").fill_(value)
    state = Checkpoint(trial, 0, network.state_dict(), {}, [])
    tracking = Tracking(tmp_path / "runs", "infill")
    run = tracking.start("trial 0", {"trial": "0"})
    tracking.log_artifact(run, checkpoints.save(tmp_path / "saved", state))
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text("classes: {TRACK: {threshold: 0.5}}")
    empty = muon().select(np.zeros(40, bool))
    write_events(tmp_path / "events.h5", [empty, muon()])
    places = [str(tmp_path / "events.h5"), "-o", str(tmp_path / "out.h5")]
    named = ["--thresholds", str(thresholds), "--runs", str(tmp_path / "runs")]
    return [*places, "--run", run, *named, "--force"]


def test_filled_voxels_are_marked_and_the_file_is_readable(
    infill: list[str], tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text(MAP)
    arguments = [*infill, "--dead", str(tmp_path / "map.yaml")]
    assert run_command(predict.parser(), predict.main, arguments) == 0
    empty, filled = read_events(tmp_path / "out.h5", layout=LAYOUT)
    assert len(empty) == 0
    assert len(filled) == 30 + 90
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["filled"][0]) == 0
        x, energy = file["point"][1].reshape(-1, 8)[file["filled"][1]][:, [0, 3]].T
    assert len(x) == 90
    assert (x.min(), x.max()) == (15, 24)
    np.testing.assert_allclose(energy, np.expm1(0.5), rtol=1e-5)


@pytest.mark.parametrize("infill", ["dense"], indirect=True)
def test_all_voxels_of_a_region_are_filled_even_where_nothing_was_seen(
    infill: list[str], tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text("boxes: [{low: [4.5, 2.7, 5.7], high: [5.4, 3.6, 6.6]}]")
    arguments = [*infill, "--dead", str(tmp_path / "map.yaml")]
    assert run_command(predict.parser(), predict.main, arguments) == 0
    *_, filled = read_events(tmp_path / "out.h5", layout=LAYOUT)
    assert len(filled) == 37 + 27
    assert (filled.semantic == ParticleClass.MIP).all()
    with h5py.File(tmp_path / "out.h5") as file:
        assert [len(rows) for rows in file["filled"][:]] == [27, 27]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--dead MAP.yaml is missing"),
        ("slabs: [{axis: 3, position: 1, width: 3}]", "map.yaml: slabs.0.axis: "),
        ("slabs: [{axis: 1, position: 1, wide: 3}]", "map.yaml: slabs.0.wid"),
        ("{}", "no dead region in the map"),
        ("a: [", "map.yaml:1: not YAML"),
    ],
)
def test_a_missing_or_wrong_map_is_one_line(
    infill: list[str],
    tmp_path: Path,
    text: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = infill
    if text is not None:
        (tmp_path / "map.yaml").write_text(text)
        arguments = [*infill, "--dead", str(tmp_path / "map.yaml")]
    assert run_command(predict.parser(), predict.main, arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("model", sorted(one.name for one in (ROOT / "models").iterdir()))
def test_the_networks_that_are_kept_predict(model: str, few_events: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("slabs: [{axis: 0, position: 48.0, width: 3.0}]")
    dead = ["--dead", str(tmp_path / "map.yaml")] if model == "infill" else []
    places = [str(few_events / "test.h5"), "-o", str(tmp_path / "out.h5")]
    command = ["--run", str(ROOT / "models" / model), *places, *dead]
    assert run_command(predict.parser(), predict.main, command) == 0
    assert len(list(read_events(tmp_path / "out.h5"))) == 3
