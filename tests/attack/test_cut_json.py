"""Every JSON file of a study, cut short or overwritten: restored, or named in one line."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY
from searches import ROOT, finished, tune

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.registry import read_use
from lartpc_ray.predict.trained_model import load_model
from lartpc_ray.report import print_report
from lartpc_ray.report.__main__ import main as report
from lartpc_ray.report.__main__ import parser as report_parser
from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.runtime.run_folder import copy_of, write_plan
from lartpc_ray.train import training
from lartpc_ray.train.training import TrainPlan
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.tune.sampled import SampledSettings, trial_folder
from lartpc_ray.tune.study import Study
from lartpc_ray.tune.study_plan import PLAN

PROMPT = {"RAY_worker_niceness": "0"}
"""Environment in which Ray's workers have the priority of other processes."""


def damages(content: bytes) -> Iterator[bytes]:
    """Return a file's content cut at several places, of another type, and as no UTF-8."""
    for length in (0, 1, len(content) // 3, len(content) // 2, len(content) - 1):
        yield content[:length]
    yield from (b"null", b"[1]", b"{}", b"\xff\xfe{", b"\0" * len(content))


def options(runs: Path, *words: str) -> argparse.Namespace:
    return study_parser("tune", "", "").parse_args(["smoke", "--runs", str(runs), *words])


@pytest.fixture
def begun(few_events: Path) -> tuple[str, ...]:
    return ("--data", str(few_events), "--budget", "smoke", "--set", "network.depth=2")


@pytest.fixture
def study(begun: tuple[str, ...], tmp_path: Path) -> Study:
    chosen = options(tmp_path, *begun)
    given = {"data": begun[1], "budget": "smoke", "set": ["network.depth=2"]}
    return Study.create(tmp_path, chosen_space(chosen), None, given)


def resumed(study: Study, *words: str) -> Study:
    return Study.reopen(options(study.folder.parent, "--resume", str(study.folder), *words))


def test_a_damaged_plan_comes_back_from_its_copy(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    plan = study.folder / PLAN
    sound = plan.read_bytes()
    for damaged in damages(sound):
        plan.write_bytes(damaged)
        caplog.clear()
        resumed(study, "--budget", "smoke")
        assert plan.read_bytes() == sound
        (line,) = caplog.messages
        assert line.startswith(f"{plan}: ")
        assert line.endswith("restored from plan-copy.json")
    plan.unlink()
    resumed(study)
    assert plan.read_bytes() == sound


def test_a_plan_without_a_copy_comes_back_from_the_options_that_began_it(
    study: Study, begun: tuple[str, ...]
) -> None:
    plan = study.folder / PLAN
    sound = json.loads(plan.read_text())
    for damaged in damages(plan.read_bytes()):
        plan.write_bytes(damaged)
        copy_of(plan).unlink()
        with pytest.raises(ValueError, match=r"plan\.json: .*options that began") as named:
            resumed(study)
        assert "\n" not in str(named.value)
        assert plan.read_bytes() == damaged
        again = resumed(study, *begun)
        assert json.loads(plan.read_text()) == sound
        assert again.space.fixed == study.space.fixed


def test_options_of_another_study_do_not_replace_a_damaged_plan(
    study: Study, begun: tuple[str, ...]
) -> None:
    trial = study.space.trial(SampledSettings(study.folder, "clustering")(0, {}))
    weights = trial.make_network().state_dict()
    checkpoints.add(trial_folder(study.folder, 0), Checkpoint(trial, 5, weights, {}, []))
    for file in (study.folder / PLAN, copy_of(study.folder / PLAN)):
        file.write_text("{")
    with pytest.raises(ValueError, match="of a trial with other settings"):
        resumed(study, *begun[:4])
    assert (study.folder / PLAN).read_text() == "{"
    assert resumed(study, *begun).space.fixed == study.space.fixed


def test_settings_of_a_trial_of_another_type_are_sampled_again(tmp_path: Path) -> None:
    path = trial_folder(tmp_path, 0) / "sampled.json"
    path.parent.mkdir(parents=True)
    for damaged in (*damages(b'{"a": 1}'), b'{"a": {}}'):
        if damaged != b"{}":
            path.write_bytes(damaged)
            assert SampledSettings(tmp_path, "clustering")(0, {"a": 1}) == {"a": 1}
            assert json.loads(path.read_text()) == {"a": 1}


def test_a_damaged_plan_of_a_training_comes_back_from_its_copy_or_its_checkpoint(
    tiny: None, tmp_path: Path
) -> None:
    trial = make_trial(TINY)
    folder = tmp_path / "smoke-20260101-000000-abcd"
    folder.mkdir()
    path = folder / training.PLAN
    inputs = {"train": "0"}
    write_plan(path, TrainPlan(study="smoke", uri=None, trial=trial, inputs=inputs))
    sound = path.read_bytes()
    chosen = options(tmp_path, "--resume", str(folder))
    for damaged in damages(sound):
        path.write_bytes(damaged)
        assert training._restored(folder, chosen).inputs == inputs
        assert path.read_bytes() == sound
        path.write_bytes(damaged)
        copy_of(path).rename(tmp_path / "kept")
        with pytest.raises(ValueError, match=r"job\.json: .*start the training again"):
            training._reopen(chosen)
        weights = trial.make_network().state_dict()
        checkpoints.add(folder / training.CHECKPOINTS, Checkpoint(trial, 2, weights, {}, []))
        assert training._reopen(chosen)[1].trial == trial
        shutil.rmtree(folder / training.CHECKPOINTS)
        (tmp_path / "kept").rename(copy_of(path))


def test_a_damaged_result_is_measured_again_by_the_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = (ROOT / "models" / "clustering" / "verdict.json").read_text().rstrip()
    result = EvaluationResult.read(json.loads(content))
    evaluation = object()
    monkeypatch.setattr(print_report, "load_evaluation", lambda *_: evaluation)
    monkeypatch.setattr(print_report, "evaluate_on_test", {evaluation: result}.__getitem__)
    run = tmp_path / "run"
    run.mkdir()
    (run / "verdict.json").write_text(content)
    asked = report_parser().parse_args(["--run", str(run), "--runs", str(tmp_path), "--json"])
    assert report(asked) == 0
    sound = capsys.readouterr().out
    for damaged in damages(content.encode()):
        (run / "verdict.json").write_bytes(damaged)
        caplog.clear()
        assert report(asked) == 0
        assert capsys.readouterr().out == sound
        (line,) = caplog.messages
        assert "verdict.json is damaged" in line
        assert line.endswith("this report measures it again")
    (run / "verdict.json").unlink()
    with pytest.raises(ValueError, match=r"no verdict\.json in this folder"):
        report(asked)


def test_damaged_use_of_a_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "use.json"
    for damaged in (*damages(b'{"shape": [1, 1], "thresholds": {}}'), b'{"shape": 3}'):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^\S*use\.json: .*$"):
            read_use(path)


def command(*words: str) -> tuple[int, str, str]:
    """Run a command of the package in a process of its own."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_finished_study_with_every_json_file_cut_still_serves(
    tmp_path: Path, begun: tuple[str, ...]
) -> None:
    """All JSON files of the study and of its runs in MLflow are cut at the same time."""
    runs = tmp_path / "runs"
    runs.mkdir()
    status, table, err = finished(tune(runs, *begun, variables=PROMPT))
    assert status == 0, err
    (folder,) = (path.parent for path in runs.glob(f"*/{PLAN}"))
    for path in runs.rglob("*.json"):
        content = path.read_bytes()
        if path != copy_of(folder / PLAN):
            path.write_bytes(content[: len(content) * 2 // 5])
    run = table.split("--run ")[1].split()[0]
    status, out, err = command("lartpc_ray.report", "smoke", "--runs", str(runs))
    assert (status, "Traceback" in err) == (0, False), err
    assert "verdict.json is damaged" in err
    assert "test events" in out
    output = tmp_path / "predicted.h5"
    events = str(Path(begun[1]) / "test.h5")
    words = ("lartpc_ray.predict", "--run", run, events, "-o", str(output), "--runs", str(runs))
    status, _, err = command(*words)
    assert (status, output.is_file()) == (0, True), err
    with pytest.raises(ValueError, match=rf"use\.json: .*run of the model instead: {run}"):
        load_model("models:/smoke@champion", runs=runs)
    status, again, err = finished(tune(runs, "--resume", str(folder), variables=PROMPT))
    assert (status, "Traceback" in err) == (0, False), err
    assert f"{folder / PLAN}: " in err
    assert "restored from plan-copy.json" in err
    assert again.split("every metric")[0] == table.split("every metric")[0]
    for path in (*folder.rglob("sampled.json"), folder / PLAN, *runs.rglob("verdict.json")):
        assert json.loads(path.read_text()), path
