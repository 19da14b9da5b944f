"""What a study looks like at its end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from watched import ROOT

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.predict.evaluate import (
    ERRORS,
    THIS,
    UNTRAINED,
    EvaluationResult,
    _of_means,
    evaluate_on_test,
)
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report import __main__ as report
from lartpc_ray.report.record import record_result
from lartpc_ray.report.tables import layout, study_text, table, trial_rows
from lartpc_ray.tasks import TASKS
from lartpc_ray.tasks.task import Means
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.trial_run import TrialRun
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE, Checkpoint
from lartpc_ray.trials.paths import make_trial


def trial(number: int, engine: str, box: int, *costs: float, error: str = "") -> TrialRun:
    names = ("training_gib", "seconds_a_step", "inference_gib", "seconds_an_event")
    return TrialRun(
        id=f"run{number}",
        number=number,
        parameters={"network.engine": engine, "data.splits.box": str(box), "seed": "0"},
        numbers=dict(zip(names, costs, strict=False)) | {"objective": 0.5},
        status="FAILED" if error else "FINISHED",
        error=error,
    )


def test_a_comparison_shows_the_factors_beside_the_published_ones() -> None:
    trials = [
        trial(0, "dense", 64, 1.0, 0.5, 0.25, 0.1),
        trial(1, "native", 64, 0.25, 0.05, 0.125, 0.04),
        trial(2, "dense", 192, error="MemoryError: engine 'dense': needs 30 GiB"),
        trial(3, "native", 192, 0.5, 0.1, 0.2, 0.08),
    ]
    lines = study_text("dense_vs_sparse", trial_rows(trials)).splitlines()
    shown = [line.split() for line in lines]
    assert ["64", "dense", "/", "native", "4", "10", "2", "2.5"] in shown
    assert ["192", "native", "0.5", "0.1", "0.2", "0.08"] in shown
    assert any(line.endswith("dense  MemoryError: engine 'dense': needs 30 GiB") for line in lines)
    assert ["192", "dense", "/", "native", "-", "-", "-", "-"] in shown
    published = next(line for line in lines if "2020, 3D" in line)
    assert published.split()[-4:] == ["-", "-", "364", "33"]
    widths = {len(line) for line in lines if " native " in line and "MemoryError" not in line}
    assert len(widths) == 1, "columns stand below each other"


def test_a_search_that_has_just_begun_has_nothing_to_compare() -> None:
    text = study_text("dense_vs_sparse", trial_rows([trial(0, "dense", 64), trial(1, "dense", 96)]))
    assert "published" not in text


def test_a_study_without_a_comparison_is_a_list_of_its_trials() -> None:
    text = study_text("clustering", trial_rows([trial(0, "native", 64), trial(1, "native", 96)]))
    assert "2 trials, best first" in text
    assert "published" not in text


def test_the_trials_of_a_running_search_that_have_ended_come_first() -> None:
    early = replace(trial(0, "native", 64), status="RUNNING", numbers={"objective": 0.9})
    text = study_text("clustering", trial_rows([early, trial(1, "native", 96)]))
    assert text.startswith("clustering: 2 trials, best first: 1 ended, then 1 running\n")
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["1", "0"]
    assert study_text("clustering", trial_rows([early])).startswith(
        "clustering: 1 trial, running\n"
    )
    assert study_text("x", trial_rows([trial(0, "native", 64)])).startswith("x: 1 trial\n")


def test_the_settings_that_do_not_fit_the_terminal_are_named() -> None:
    names = ("learning_rate", "gamma_seediness", "inter_distance", "smoothing", "batch_events")
    trials = [
        replace(trial(n, "native", 64), parameters={f"a.{name}": f"{n}.5" for name in names})
        for n in (0, 1)
    ]
    wide, narrow = (study_text("clustering", trial_rows(trials), width) for width in (0, 60))
    assert wide.splitlines()[1].split() == ["trial", "objective", *sorted(names)]
    assert narrow.splitlines()[1].split() == ["trial", "objective", *sorted(names)[:2]]
    assert max(map(len, narrow.splitlines())) <= 60
    *_, first, rest = narrow.splitlines()
    assert f"{first} {rest}" == f"not shown: {', '.join(sorted(names)[2:])}; see --all"


@pytest.mark.parametrize(
    ("name", "more", "right"),
    [
        ("events.h5", ["--run", "nobody"], "NAME.html"),
        ("page.png", ["study"], "NAME.html"),
        ("events.h5", ["events.h5", "--by", "energy"], "NAME.html or NAME.png"),
        ("checkpoint.pt", ["a", "--against", "b"], "NAME.html or NAME.png"),
    ],
)
def test_a_page_replaces_no_file_of_another_kind(
    tmp_path: Path, name: str, more: list[str], right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text("events")
    arguments = [*more, "--html", str(path), "--runs", str(tmp_path / "none")]
    assert run_command(report.parser(), report.main, arguments) == 2
    text = f"--html {path}: the command writes a page; give {right}"
    assert capsys.readouterr().err.endswith(f"{text}\n")
    assert path.read_text() == "events"


@pytest.fixture
def kept(tmp_path: Path, few_events: Path) -> Path:
    """Make a folder with the files of a run of an untrained network."""
    settings = {"task.name": "segmentation", "network.depth": 2, "network.filters": 2}
    trial = make_trial({**settings, "data.splits.path": str(few_events)})
    state = Checkpoint(
        trial, 7, trial.make_network().state_dict(), {"state": 1}, [], {}, [{"a": 1}]
    )
    tracking = Tracking(tmp_path / "store", "segmentation")
    run = tracking.start("one", {"trial": "0"})
    record_result(tracking, run, Evaluation(state))
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in (FILE, "verdict.json", "table.txt"):
        tracking.fetch(run, name, folder)
    return folder


@pytest.mark.slow
def test_a_folder_of_a_run_is_as_good_as_the_run_and_can_be_measured_again(
    kept: Path, few_events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*more: str) -> str:
        arguments = ["--run", str(kept), "--runs", str(tmp_path / "none"), *more]
        assert run_command(report.parser(), report.main, arguments) == 0
        return capsys.readouterr().out

    capsys.readouterr()
    assert shown("--all") == (kept / "table.txt").read_text() + "\n"
    assert shown("--data", str(few_events)) == shown()
    page = tmp_path / "page.html"
    shown("--data", str(few_events), "--html", str(page))
    assert "Worst and best events" in page.read_text()
    assert "could not be drawn" not in page.read_text()
    for split in ("train", "tune"):
        (tmp_path / f"{split}.h5").symlink_to(few_events / f"{split}.h5")
    write_events(tmp_path / "test.h5", read_events(few_events / "test.h5", indices=range(2)))
    (kept / "verdict.json").unlink()
    assert "Best on 2 test events" in shown("--data", str(tmp_path))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_what_is_kept_is_what_is_needed_to_use_it(kept: Path) -> None:
    state = checkpoints.load(kept)
    assert (state.step, state.optimizer, state.window) == (7, {}, [])
    state.restored()


def test_a_folder_without_a_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", str(tmp_path), "--data", "anywhere"]
    assert run_command(report.parser(), report.main, arguments) == 2
    assert f"{tmp_path}: no checkpoint.pt in this folder" in capsys.readouterr().err


@pytest.mark.slow
def test_errors_are_given_of_means_over_events_only(kept: Path) -> None:
    result = EvaluationResult.read(json.loads((kept / "verdict.json").read_text()))
    assert "accuracy" in result.errors[THIS]["ALL"]
    errors, means = {"MIP": {"ari": 0.1, "bias": 0.2}}, {"MIP": {"ari": 0.5, "bias": 0.6}}
    assert _of_means(errors, means, {"MIP": {"ari": 0.5, "bias": 0.7}}) == {"MIP": {"ari": 0.1}}
    lines = table(result).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith(f"  {THIS}"))
    assert lines[first + 1].startswith(f"  {ERRORS}")
    assert lines[first + 2].startswith(f"  {UNTRAINED}")


def test_every_tuned_way_to_read_a_network_has_its_errors_behind_it() -> None:
    ways = (f"{THIS}, tuned thresholds", f"{THIS}, untuned", f"{THIS}, linked voxels")
    means: dict[str, Means] = {way: {"MIP": {"ari": 0.5}} for way in ways}
    errors: dict[str, Means] = {way: {"MIP": {"ari": 0.1}} for way in (ways[0], ways[2])}
    beside = {"linked voxels": {"MIP": {"reach": 1.0}}}
    result = EvaluationResult("clustering", {}, {}, means, {"tune": 1, "test": 1}, beside, errors)
    assert list(result.rows) == [ways[0], ERRORS, ways[1], ways[2], "± 68 %, linked voxels"]


@pytest.mark.parametrize("task", TASKS)
def test_a_table_is_no_wider_than_a_terminal(task: str) -> None:
    shown = layout(task)
    means: Means = {name: {} for part in shown["tables"] for name in part["columns"]}
    for part in shown["tables"]:
        for name in part["columns"]:
            means[name] |= dict.fromkeys(part["metrics"], 0.123)
    at = {name: {"eps": 1000.0} for name in TASKS[task].scored_classes}
    result = EvaluationResult(task, at, {}, {THIS: means}, {"tune": 40, "test": 60})
    lines = table(result).splitlines()
    assert any("0.123" in line for line in lines)
    for part in shown["tables"]:
        columns = "".join(f"{head} " for head in part["columns"].values()).split()
        assert any(line.split()[-len(columns) :] == columns for line in lines), "heads apart"
    assert max(len(line) for line in lines if "0.123" in line or "1e+03" in line) <= 80


@pytest.mark.parametrize("network", ["clustering", "infill", "segmentation"])
def test_the_table_of_a_kept_network_is_no_wider_than_a_terminal(network: str) -> None:
    """It has the errors of every way of clustering, also of the untrained network."""
    kept = json.loads((ROOT / "models" / network / "verdict.json").read_text())
    lines = table(EvaluationResult.read(kept)).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    if network == "clustering":
        names = ("joined pieces", "seeds", "linked voxels")
        labels = [f"  ± 68 %, untrained, {name}  " for name in names]
        labels[1] = labels[1].replace("untrained", "untrained network")
        assert all(any(line.startswith(label) for line in lines) for label in labels)


def test_a_long_name_moves_the_columns_of_its_whole_table() -> None:
    way = "untrained network, by a way whose name is long"
    means: dict[str, Means] = {name: {"MIP": {"ari": 0.5}} for name in (THIS, way)}
    result = EvaluationResult("clustering", {}, {}, means, {"tune": 1, "test": 1})
    lines = table(result).split("\n\n")[1].splitlines()
    ends = {line.rindex("0.500") for line in lines if "0.500" in line}
    assert way in "".join(lines)
    assert len(ends) == 1, lines


def test_a_network_is_judged_where_its_own_engine_is_not(few_events: Path) -> None:
    settings = {"task.name": "segmentation", "network.depth": 2, "network.filters": 2}
    trial = make_trial({**settings, "data.splits.path": str(few_events)})
    weights = trial.make_network().state_dict()
    gpu = {"network.engine": "spconv", "resources.gpus": 1.0}
    elsewhere = make_trial({**settings, "data.splits.path": str(few_events), **gpu})
    result = evaluate_on_test(Evaluation(Checkpoint(elsewhere, 1, weights, {}, [])))
    assert UNTRAINED in result.means


def test_spconv_wants_gpus_of_a_trial() -> None:
    with pytest.raises(ValueError, match=r"spconv works on GPUs only; set resources.gpus"):
        make_trial({"network.engine": "spconv"})
