"""A folder of shards: whole files; a stopped prediction goes on, another one is refused."""

import json
import os
import signal
import subprocess
import sys
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
HERE = ("--workers", "1")
"""Predict in this process, without Ray."""
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


def words(inputs: Path, output: Path) -> list[str]:
    paths = [str(inputs / "events.h5"), "-o", str(output), "--run", str(inputs / "run")]
    return [*paths, "--runs", str(output.parent), "--shard-events", "128"]


def run(inputs: Path, output: Path, *more: str) -> int:
    return run_command(predict.parser(), predict.main, [*words(inputs, output), *more])


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


KILLED = """
import os, signal, sys
from lartpc_ray.predict import __main__ as predict, write_predictions
from lartpc_ray.terminal.command import run

last, *arguments = sys.argv[1:]
write_file, seen = write_predictions.write_file, []

def watched(events):
    for event in events:
        seen.append(event)
        if len(seen) == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        yield event

def killed(path, events, **more):
    return write_file(path, watched(events), **more)

write_predictions.write_file = killed
run(predict.parser(), predict.main, arguments)
"""
"""Predict, and end as by `kill -9` when an event reaches its file."""


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the shards of a prediction that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(inputs, folder / "out", *HERE) == 0
    return shards(folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("tenth", [1, 5, 9])
def test_a_prediction_killed_in_the_middle_goes_on_to_the_same_bytes(
    inputs: Path, whole: dict[str, bytes], tmp_path: Path, tenth: int
) -> None:
    last, output = tenth * EVENTS // 10, tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(last), *words(inputs, output), *HERE]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = shards(output)
    assert len(left) == (last - 1) // 128, "a shard is whole or it is not there"
    assert left.items() < whole.items()
    assert run(inputs, output, *HERE) == 0
    assert shards(output) == whole


@pytest.mark.slow
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
        ("chunk_events", []),
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
    manifest = output / "prediction.json"
    content = json.loads(manifest.read_text())
    if name == "input":
        content["input"][0][2] = "0" * 64
    if name == "chunk_events":  # of a version with other chunks, so other batches
        content[name] = 16
    manifest.write_text(json.dumps(content))
    before = shards(output)
    assert run(inputs, output, *events, *more) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "another prediction" in line
    assert name in line
    assert shards(output) == before


@pytest.mark.slow
def test_wrong_ranges_and_sizes_are_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("5", "a:b", "9:3", "0:301", "-1:3"):
        assert run(inputs, tmp_path / "out", f"--events={text}") == 2
        assert f"--events {text}: give A:B with 0 <= A < B <= 300" in capsys.readouterr().err
    assert run(inputs, tmp_path / "out", "--shard-events", "100") == 2
    assert "--shard-events 100: give a multiple of 128" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
