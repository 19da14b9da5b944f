"""A registered model in place of a run: predict, report and thresholds take its address."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import make_event

from lartpc_ray.data.files import write_events
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, LazyRay
from lartpc_ray.predict.registry import load_checkpoint, promote_champion, register, resolve_run
from lartpc_ray.report import __main__ as report
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.thresholds.retune import _OfRun
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial

ABOUT = {"objective": "0.5", "metric": "ari", "data": "abc"}
NAMES = ("SHOWER", "MIP", "HIP", "MICHEL", "DELTA")
AT = {name: {"s0": 0.0, "p0": 0.5} for name in NAMES}
AT["MIP"]["p0"] = 0.25


@pytest.fixture
def registered(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, str]:
    """Register a new network from a run without a checkpoint of its own; return runs and run."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "tune", "test"):
        write_events(data / f"{split}.h5", [make_event(rng) for _ in range(3)])
    settings: dict[str, Any] = {"network.depth": 2, "network.filters": 2, "network.blocks": 1}
    settings |= {"data.splits.path": str(data), "data.splits.layout.side": 16}
    trial = make_trial({**settings, "task.min_voxels": 2})
    state = Checkpoint(trial, 1, trial.make_network().state_dict(), {}, [{"objective": 0.5}])
    tracking = Tracking(tmp_path / "runs", "study")
    run = tracking.start("trial 0", {"trial": "0"})
    promote_champion(tracking, "study", register(tracking, "study", run, state, AT, ABOUT, ""))
    return tmp_path / "runs", run


@pytest.mark.slow
@pytest.mark.parametrize("address", ["models:/study@champion", "models:/study/1"])
def test_predict_applies_a_registered_model_with_its_thresholds(
    address: str, registered: tuple[Path, str], tmp_path: Path
) -> None:
    runs, run = registered
    events = tmp_path / "data" / "test.h5"
    words = [str(events), "--runs", str(runs), "--workers", "1", "--quiet"]
    out, other = tmp_path / "out.h5", tmp_path / "other.h5"
    assert (
        run_command(predict.parser(), predict.main, [*words, "--run", address, "-o", str(out)]) == 0
    )
    kept = Tracking(runs, None).fetch(run, "model/artifacts/checkpoint.pt", tmp_path / "kept")
    lines = [f"  {name}: {{s0: {at['s0']}, p0: {at['p0']}}}" for name, at in AT.items()]
    at = tmp_path / "at.yaml"
    at.write_text("\n".join(["method: seeds", "classes:", *lines]))
    more = ["--run", str(kept.parent), "--thresholds", str(at), "-o", str(other)]
    assert run_command(predict.parser(), predict.main, [*words, *more]) == 0
    with h5py.File(out) as ours, h5py.File(other) as theirs:
        for name in ("point", "cluster"):
            assert [row.tolist() for row in ours[name]] == [row.tolist() for row in theirs[name]]


@pytest.mark.parametrize(
    ("address", "more", "message"),
    [
        ("models:/study/7", [], "models:/study/7: "),
        ("models:/study", [], "write models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/study@best", [], "models:/study@best: "),
        ("models:/study/1", ["--method", "linked"], "has one method; leave out --method"),
    ],
)
def test_a_wrong_address_is_one_line(
    address: str,
    more: list[str],
    message: str,
    registered: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, _ = registered
    words = ["--run", address, "--runs", str(runs), "x.h5", "-o", str(tmp_path / "o.h5"), *more]
    assert run_command(predict.parser(), predict.main, [*words, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
def test_report_measures_a_registered_model(
    registered: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = registered
    tables = []
    for source in ("models:/study@champion", run):
        words = ["--run", source, "--runs", str(runs), "--data", str(tmp_path / "data"), "--quiet"]
        assert run_command(report.parser(), report.main, words) == 0
        tables.append(capsys.readouterr().out)
    assert "DBSCAN" in tables[0]
    assert tables[0] == tables[1]


def test_thresholds_tunes_the_run_of_a_registered_model_and_keeps_none_for_it(
    registered: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = registered
    tracking = Tracking(runs, None)
    words = ["study", "--run", "models:/study/1", "--runs", str(runs)]
    options = thresholds.parser().parse_args(words)
    tuning = _OfRun(options, tracking, LazyRay(DEFAULT_PLACEMENT))
    assert tuning.run == run
    assert tuning._evaluation.state.trial.task.smallest_cluster == 2
    assert run_command(thresholds.parser(), thresholds.main, [*words, "--keep", "--quiet"]) == 2
    assert "leave out --keep, or give the run of the model" in capsys.readouterr().err


def test_a_run_of_a_registered_model_gives_its_checkpoint(
    registered: tuple[Path, str], tmp_path: Path
) -> None:
    runs, run = registered
    tracking = Tracking(runs, None)
    assert resolve_run(tracking, "models:/study@champion") == run
    assert resolve_run(tracking, run) == run
    for source in ("models:/study/1", run):
        assert load_checkpoint(tracking, source).trial.task.smallest_cluster == 2
    tracking.client.create_registered_model("bare")
    tracking.client.create_model_version("bare", "x")
    with pytest.raises(ValueError, match="models:/bare/1: registered without a run; give a model"):
        resolve_run(tracking, "models:/bare/1")
