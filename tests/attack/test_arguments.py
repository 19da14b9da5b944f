"""Wrong arguments of the commands: one line with the argument, its value and what to do."""

import argparse
from pathlib import Path

import pytest
from conftest import TINY

from lartpc_ray import __main__ as package
from lartpc_ray.data import __main__ as data
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.report import __main__ as report
from lartpc_ray.terminal.command import OneLineParser, run
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train import __main__ as train
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.space_file import parse_setting
from lartpc_ray.tune import __main__ as tune

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "tune": (tune, ["smoke"]),
    "train": (train, ["smoke"]),
    "thresholds": (thresholds, ["clustering", "--run", "0123"]),
    "predict": (predict, ["--run", "0123", "events.h5", "-o", "out.h5"]),
    "report": (report, ["smoke"]),
    "": (package, ["dashboards"]),
}
NUMBERS = {
    "predict": ("--side", "--workers", "--shard-events"),
    "thresholds": ("--workers", "--refine", "--min-voxels"),
    "report": ("--workers",),
    "tune": ("--workers", "--seed", "--concurrent"),
    "train": ("--workers", "--seed"),
}
HUGE = "99999999999999"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the lines of slow work, which a loaded machine would add to the refusal."""
    monkeypatch.setattr("lartpc_ray.terminal.phases.FIRST", 600.0)


def line_of(
    capsys: pytest.CaptureFixture[str], module: object, words: list[str], status: int = 2
) -> str:
    """Return the only line of a command that is refused."""
    assert run(module.parser(), module.main, words) == status  # type: ignore[attr-defined]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("below", ["", "/further/down"])
def test_a_file_as_the_folder_of_the_results_is_named_with_its_argument(
    name: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    module, words = COMMANDS[name]
    line = line_of(capsys, module, [*words, "--runs", f"{tmp_path}/file{below}"])
    assert f"argument --runs: {tmp_path}/file: not a folder; give the name of a folder" in line
    assert (tmp_path / "file").read_text() == "x"


def test_a_file_as_the_folder_of_the_results_is_named_in_python(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="file: not a folder; give the name of a folder"):
        Tracking(tmp_path / "file", "study")


def test_a_file_as_the_folder_of_shards_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").write_text("x")
    words = ["--run", "0123", "events.h5", "-o", str(tmp_path / "shards")]
    assert "shards: not a folder; give" in line_of(capsys, predict, words, 1)


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name, flags in NUMBERS.items() for flag in flags]
)
@pytest.mark.parametrize("value", [HUGE, "-1", "1.5", "9" * 5000])
def test_a_whole_number_out_of_its_limits_is_named_with_them(
    name: str, flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, words = COMMANDS[name]
    line = line_of(capsys, module, [*words, f"{flag}={value}"])
    assert f"argument {flag}: {value[:40]}: give a whole number from " in line


@pytest.mark.parametrize(
    "words",
    [
        *(["inspect", "sample/test", f"{flag}={HUGE}"] for flag in ("--side", "--plane")),
        ["convert", "sample/test", "out.h5", f"--side={HUGE}"],
        *(["draw", "sample/test", "--event=0", f"{flag}={HUGE}"] for flag in ("--side", "--count")),
        ["draw", "sample/test", f"--event={HUGE}"],
        *(["simulate", "out.h5", f"{flag}={HUGE}"] for flag in ("--side", "--events", "--seed")),
    ],
)
def test_a_whole_number_of_data_out_of_its_limits_is_named_with_them(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(capsys, data, words)
    assert f"data {words[0]}: argument --" in line
    assert f"{HUGE}: give a whole number from " in line


def test_every_whole_number_of_a_command_has_limits() -> None:
    """A bare `int` would take any number."""

    def bare(parser: argparse.ArgumentParser) -> list[str]:
        found = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                assert all(isinstance(one, OneLineParser) for one in action.choices.values())
                found += [flag for one in action.choices.values() for flag in bare(one)]
            elif action.type is int:
                found.append(f"{parser.prog} {action.dest}")
        return found

    modules = [*(module for module, _ in COMMANDS.values()), data]
    assert [flag for module in modules for flag in bare(module.parser())] == []


def test_the_side_of_a_setting_has_the_same_limit() -> None:
    key, value = parse_setting(f"data.splits.layout.side={HUGE}")
    with pytest.raises(ValueError, match="less than or equal to 1048576"):
        make_trial({**TINY, key: value})


def test_an_unknown_argument_with_a_password_is_shown_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = line_of(capsys, report, ["smoke", "--store", "postgresql://me:geh eim@h/db"])
    assert line.endswith("unrecognized arguments: --store postgresql://me@h/db; see --help")


READING = {
    "predict": ["--run", "0123", "sample.h5", "-o", "OUT.h5"],
    "predict a model": ["--run", "models:/smoke@champion", "sample.h5", "-o", "OUT.h5"],
    "thresholds": ["clustering", "--run", "0123"],
    "thresholds export": ["clustering", "--run", "0123", "--export", "mlreco"],
    "thresholds a model": ["clustering", "--run", "models:/smoke/1"],
    "report": ["smoke"],
    "report a run": ["--run", "0123"],
    "report a model": ["--run", "models:/smoke/1"],
    "report against": ["smoke", "--against", "models:/smoke/1"],
    "report by": ["smoke", "--by", "energy"],
    "tune michel": ["michel", "--budget", "smoke", "--run", "0123"],
    "tune michel of a model": ["michel", "--budget", "smoke", "--run", "models:/smoke/1"],
}


@pytest.mark.parametrize("name", READING)
def test_a_mistyped_folder_of_results_is_not_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    module, _ = COMMANDS[name.split()[0]]
    words = [*READING[name], "--runs", "rnus", "--quiet"]
    line = line_of(capsys, module, words)
    assert "rnus: no results here (no mlflow.db); give the folder" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", READING)
def test_a_damaged_store_is_one_line_in_every_command_that_reads_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_text("no database")
    module, _ = COMMANDS[name.split()[0]]
    line = line_of(capsys, module, [*READING[name], "--quiet"], 1)
    assert f"MLflow sqlite:///{tmp_path}/runs/mlflow.db: " in line
    assert "mend it, or give another store with --tracking-uri or --runs" in line
    assert (tmp_path / "runs" / "mlflow.db").read_text() == "no database"


@pytest.mark.parametrize(
    "words",
    [
        *(["clustering", "--run", run, "--runs", "rnus"] for run in ("none", "TMP")),
        ["clustering", "--outputs", "none.h5", "--runs", "rnus"],
        ["clustering", "--run", "MODEL", "--objective", "beauty", "--runs", "rnus"],
        ["clustering", "--run", "MODEL", "--export", "spine", "--method", "linked"],
    ],
)
def test_thresholds_with_a_wrong_argument_make_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Nor is an experiment made in a store that is there."""
    monkeypatch.chdir(tmp_path)
    names = {"TMP": str(tmp_path), "MODEL": str(ROOT / "models" / "clustering")}
    line_of(capsys, thresholds, [*(names.get(word, word) for word in words), "--quiet"])
    assert list(tmp_path.iterdir()) == []
    Tracking(tmp_path / "rnus", "other")
    words = ["clustering", "--run", "0123", "--runs", "rnus", "--quiet"]
    assert "run 0123: no checkpoint.pt" in line_of(capsys, thresholds, words)
    names_now = [one.name for one in Tracking(tmp_path / "rnus", None).client.search_experiments()]
    assert names_now == ["other"]


@pytest.mark.parametrize(
    "words",
    [
        ["none.h5", "--event", "0"],
        ["sample/test", "--event", "999"],
        ["sample/test", "--event", "0", "-o", "none/page.html"],
        ["sample/test", "--event", "0", "--predicted", "none.h5"],
    ],
)
def test_a_drawing_that_is_refused_makes_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line_of(capsys, data, ["draw", *words])
    assert list(tmp_path.iterdir()) == []
