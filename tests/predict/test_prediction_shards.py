"""A folder of shards: whole files; a stopped prediction goes on, another one is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.predict import write_predictions
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

EVENTS = 300
NAMES = ["events-000000000-000000128.h5", "events-000000128-000000256.h5"]
THRESHOLDS = "classes: {MIP: {s0: 0.0, p0: 0.5}}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write events, a run and its thresholds into a folder."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(3)
    write_events(folder / "events.h5", (make_event(rng, voxels=6) for _ in range(EVENTS)))
    settings = {"network.depth": 2, "network.filters": 4, "data.splits.layout.side": 16}
    trial = make_trial(settings)
    state = Checkpoint(trial, 0, trial.make_network().state_dict(), {}, [])
    checkpoints.save(folder / "run", state)
    (folder / "run" / "thresholds-seeds.yaml").write_text(THRESHOLDS)
    return folder


def run(inputs: Path, output: Path, *more: str) -> int:
    paths = [str(inputs / "events.h5"), "-o", str(output), "--run", str(inputs / "run")]
    common = ["--runs", str(output.parent), "--shard-events", "128", *more]
    return run_command(predict.parser(), predict.main, [*paths, *common])


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("events-*.h5"))}


@pytest.mark.slow
def test_a_prediction_that_ended_goes_on_to_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(inputs, tmp_path / "whole") == 0
    whole = shards(tmp_path / "whole")
    assert [*whole][:2] == NAMES
    assert len(whole) == 3
    written: list[Path] = []
    write_file = write_predictions.write_file

    def full(path: Path, events: Iterator[Any], **more: Any) -> int:
        if written:
            next(events)
            raise OSError("no space left on device")
        written.append(path)
        return write_file(path, events, **more)

    monkeypatch.setattr(write_predictions, "write_file", full)
    assert run(inputs, tmp_path / "ended") == 1
    assert list(shards(tmp_path / "ended")) == NAMES[:1]
    monkeypatch.setattr(write_predictions, "write_file", write_file)
    assert run(inputs, tmp_path / "ended") == 0
    assert shards(tmp_path / "ended") == whole
    (tmp_path / "ended" / NAMES[1]).unlink()
    assert run(inputs, tmp_path / "ended") == 0
    assert shards(tmp_path / "ended") == whole, "a shard in the middle is the same by itself"


def test_shards_hold_the_events_of_one_file(inputs: Path, tmp_path: Path) -> None:
    assert run(inputs, tmp_path / "shards", "--events", "100:290") == 0
    assert run(inputs, tmp_path / "one.h5", "--events", "100:290") == 0
    layout = Layout(side=16)
    parts = [
        event
        for name in sorted((tmp_path / "shards").glob("events-*.h5"))
        for event in read_events(name, layout=layout)
    ]
    one = list(read_events(tmp_path / "one.h5", layout=layout))
    assert len(parts) == len(one) == 190
    for event, other in zip(parts, one, strict=True):
        np.testing.assert_array_equal(event.cluster, other.cluster)
        np.testing.assert_array_equal(event.coords, other.coords)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("thresholds", ["--thresholds", "other.yaml"]),
        ("model", ["--method", "linked", "--thresholds", "linked.yaml"]),
        ("precision", ["--precision", "bfloat16"]),
        ("events", ["--events", "0:256"]),
        ("input", []),
    ],
)
def test_shards_of_another_prediction_are_refused(
    inputs: Path,
    tmp_path: Path,
    name: str,
    more: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text(THRESHOLDS.replace("0.5", "0.6"))
    Path("linked.yaml").write_text(
        (Path(__file__).parents[2] / "models/clustering/thresholds-linked.yaml").read_text()
    )
    output = tmp_path / "out"
    assert run(inputs, output, "--events", "0:130") == 0
    events = ["--events", "0:130"] * (name != "events")
    if name == "input":
        manifest = output / "prediction.json"
        content = json.loads(manifest.read_text())
        content["input"][0][2] = "0" * 64
        manifest.write_text(json.dumps(content))
    before = shards(output)
    assert run(inputs, output, *events, *more) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "another prediction" in line
    assert name in line
    assert shards(output) == before


def test_wrong_ranges_and_sizes_are_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("5", "a:b", "9:3", "0:301", "-1:3"):
        assert run(inputs, tmp_path / "out", f"--events={text}") == 2
        assert f"--events {text}: give A:B with 0 <= A < B <= 300" in capsys.readouterr().err
    assert run(inputs, tmp_path / "out", "--shard-events", "100") == 2
    assert "--shard-events 100: give a multiple of 128" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
