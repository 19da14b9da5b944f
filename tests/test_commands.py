"""Every command: help with an example, one-line errors, exit status."""

import json
import lzma
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lartpc_ray import __main__ as package
from lartpc_ray.data import __main__ as data
from lartpc_ray.data.splits import sample
from lartpc_ray.predict import __main__ as predict
from lartpc_ray.report import __main__ as report
from lartpc_ray.runtime.ray_session import private_folder
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.thresholds import __main__ as thresholds
from lartpc_ray.train import __main__ as train
from lartpc_ray.tune import __main__ as tune

COMMANDS = {
    "tune": tune,
    "train": train,
    "thresholds": thresholds,
    "predict": predict,
    "report": report,
    "data": data,
}
ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command in a process, as a user does."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_command(COMMANDS[name].parser(), COMMANDS[name].main, ["--help"])
    assert status == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"example: python -m lartpc_ray.{name} " in out


def test_the_package_lists_its_commands() -> None:
    status, out, _ = run("lartpc_ray")
    assert status == 0
    assert "python -m lartpc_ray.tune" in out
    assert "python -m lartpc_ray settings" in out


@pytest.mark.parametrize("name", package.ACTIONS)
def test_what_the_package_itself_does_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(package.parser(), package.main, [name, "--help"]) == 0
    assert f"example: python -m lartpc_ray {name}" in capsys.readouterr().out


def planned_search(folder: Path, uri: str | None) -> None:
    folder.mkdir(parents=True)
    planned: dict[str, Any] = {
        "space": "clustering",
        "budget": "laptop",
        "overrides": {},
        "uri": uri,
    }
    (folder / "plan.json").write_text(json.dumps(planned))


def test_dashboards_says_how_to_open_all_that_shows_the_newest_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dashboards(*more: str) -> int:
        return run_command(package.parser(), package.main, ["dashboards", *more])

    assert dashboards("--runs", str(tmp_path)) == 2
    assert f"{tmp_path}: no search in it" in capsys.readouterr().err
    for age, name in enumerate(("new", "old")):
        planned_search(tmp_path / name, None)
        os.utime(tmp_path / name / "plan.json", (1e9 - age, 1e9 - age))
    assert dashboards("--runs", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.startswith("new\n")
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db --host 127.0.0.1" in out
    assert f"optuna-dashboard {tmp_path}/new/optuna.journal" in out
    assert "--web.listen-address=127.0.0.1:9090" in out
    (scrape,) = re.findall(r"--config\.file=(\S+)", out)
    assert str(private_folder() / "ray") in Path(scrape).read_text()
    (board,) = re.findall(r"(\S+/dashboards/\S+)", out)
    assert Path(board).name == "lartpc.json"
    assert Path(board).is_file()


def test_the_commands_of_dashboards_work_in_a_folder_with_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "my runs"
    planned_search(runs / "a b", None)
    assert run_command(package.parser(), package.main, ["dashboards", "--runs", str(runs)]) == 0
    lines = [
        shlex.split(line) for line in capsys.readouterr().out.splitlines() if "my runs" in line
    ]
    names = {word.partition("=")[2] or word for words in lines for word in words if "my" in word}
    journal = runs / "a b" / "optuna.journal"
    assert names >= {str(runs), f"sqlite:///{runs}/mlflow.db", str(journal)}
    assert f"{runs}/prometheus.yml" in names


def test_dashboards_shows_a_database_by_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_search(tmp_path / "study", "postgresql://me@127.0.0.1/db")
    assert run_command(package.parser(), package.main, ["dashboards", "--runs", str(tmp_path)]) == 0
    command = "mlflow ui --backend-store-uri postgresql://me@127.0.0.1/db --host 127.0.0.1"
    assert command in capsys.readouterr().out


def truncated(folder: Path) -> str:
    path = folder / "short.h5"
    path.write_bytes(lzma.decompress(sample("tune").read_bytes())[:5000])
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lartpc_ray.tune", "clusterin"], "did you mean 'clustering'"),
        (["lartpc_ray.tune", "smoke", "--data", "none.h5"], "none.h5: no such file"),
        (["lartpc_ray.tune", "smoke", "--data", "SHORT"], "short.h5: not a readable HDF5 file"),
        (["lartpc_ray.tune", "smoke", "--set", "network.dpth=3"], "did you mean 'network.depth'"),
        (["lartpc_ray.tune", "smoke", "--set", "network.depth=99"], "network.depth: 99: input"),
        (["lartpc_ray.tune", "smoke", "--set", "network.depth=deep"], "'deep': input should be"),
        (["lartpc_ray.tune", "smoke.yaml"], "or the name of a study: clustering, "),
        (
            ["lartpc_ray.tune", "smoke", "--resume", "nowhere"],
            "no study to resume here (no plan.json); `tune` resumes the folder of a search",
        ),
        (
            ["lartpc_ray.train", "smoke", "--set", "start_weights=models/none"],
            "start_weights: models/none: no such checkpoint; give a checkpoint.pt, or the folder",
        ),
        (["lartpc_ray.train", "smoke", "--set", "optimizer.steps"], "write it as path=value"),
        (
            ["lartpc_ray.report", "--run", "none", "--runs", "TMP"],
            "no results here (no mlflow.db); give",
        ),
        (["lartpc_ray.report", "nope", "--runs", "TMP"], "no results here (no mlflow.db); give"),
        (
            ["lartpc_ray.report", "--run", "models/none", "--runs", "TMP"],
            "/models/none: no such folder; give the id of a run, or the folder of one",
        ),
        (
            ["lartpc_ray.predict", "--run", "models/none", "none.h5", "-o", "TMP/a.h5"],
            "/models/none: no such folder; give the id of a run, or the folder of one",
        ),
        (
            ["lartpc_ray.predict", "--run", "models/clustering", "none.h5", "-o", "TMP/a.csv"],
            "a.csv: the command does not write .csv files; give NAME.h5 or NAME.parquet",
        ),
        (
            ["lartpc_ray.data", "convert", "sample/tune", "TMP/a.root"],
            "a.root: the command does not write .root files; give NAME.h5",
        ),
        (["lartpc_ray.report", "--runs", "TMP"], "give the name of a study, or --run ID"),
        (["lartpc_ray.data", "inspect", "none.h5"], "none.h5: no such file"),
        (["lartpc_ray.data", "convert", "none.root", "TMP/a.h5"], "none.root: no such file"),
        (
            ["lartpc_ray.data", "draw", "none.npz", "--event", "0", "-o", "a.html"],
            "none.npz: no such",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"SHORT": truncated(tmp_path), "TMP": str(tmp_path)}
    module = COMMANDS[arguments[0].split(".")[1]]
    given = [places.get(argument, argument) for argument in arguments[1:]]
    status = run_command(module.parser(), module.main, given)
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert message in last
    assert last.startswith(f"python -m {arguments[0]}: ")
    assert "Traceback" not in err
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_inspect_counts() -> None:
    status, out, _ = run("lartpc_ray.data", "inspect", "sample/tune", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["layout"] == "PILArNet-M v3"
    assert found["events"] == 200
    assert found["voxels"] == sum(one["voxels"] for one in found["classes"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "more", "unit"), [("x,y,z", (), "MeV"), ("wire,tick", ("--plane", "0"), "ADC counts")]
)
def test_inspect_gives_the_unit_of_the_energies(
    tmp_path: Path, axes: str, more: tuple[str, ...], unit: str
) -> None:
    place = ",".join("5" for _ in axes.split(","))
    (tmp_path / "a.csv").write_text(f"event,{axes},energy\n0,{place},7\n")
    status, out, _ = run("lartpc_ray.data", "inspect", str(tmp_path / "a.csv"), *more)
    assert status == 0
    assert f"median 1 voxels, 7 {unit} each\n" in out


PRINT_STATE = """
import json, logging, os
before = dict(os.environ), sorted(logging.root.manager.loggerDict)
import lartpc_ray
print(json.dumps([before, (dict(os.environ), sorted(logging.root.manager.loggerDict))]))
"""


def test_the_import_of_the_package_changes_no_variable_and_no_logger() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_STATE], capture_output=True, text=True, check=True
    )
    before, after = json.loads(done.stdout)
    assert before == after


def cpu_seconds(*arguments: str) -> float:
    """Return the CPU time in s of a process, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_import_of_the_package_takes_little_cpu() -> None:
    assert cpu_seconds("-c", "import lartpc_ray") < 0.3  # 0.03 s on a quiet core


@pytest.mark.parametrize("name", COMMANDS)
def test_help_takes_little_cpu(name: str) -> None:
    assert cpu_seconds("-m", f"lartpc_ray.{name}", "--help") < 1  # at most 0.5 s on a quiet core


def test_a_mistyped_name_takes_little_cpu() -> None:
    given = ("smoke", "--set", "optimizer.learnin_rate=1")
    assert cpu_seconds("-m", "lartpc_ray.tune", *given) < 1  # 0.2 s on a quiet core


def test_the_console_script_lists_and_runs_the_commands() -> None:
    script = "from lartpc_ray.__main__ import console; console()"  # as pyproject.toml names it

    def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)

    done = called("--help")
    assert done.returncode == 0
    out = " ".join(done.stdout.split())
    assert all(f"{name} {about}" in out for name, about in package.COMMANDS.items())
    done = called("data", "inspect", "none.h5")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("python -m lartpc_ray.data: none.h5")


ENDING = """
import atexit, sys, threading, time
from lartpc_ray.terminal.command import Parser, run_and_exit

class Slow:
    def __del__(self):
        time.sleep(60)

sys.slow = Slow()
threading.Thread(target=lambda: (time.sleep(0.5), print("thread"))).start()

def main(options):
    atexit.register(lambda: print("exit function"))
    print("result")
    if options.debug:
        raise TypeError("of ours")
    return 7

run_and_exit(Parser("x", "", ""), main)
"""


def test_a_process_ends_after_its_exit_functions_and_frees_nothing() -> None:
    def ended(*arguments: str, into: int = subprocess.PIPE) -> tuple[int, str, str]:
        command = [sys.executable, "-c", ENDING, *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=into,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout, done.stderr

    assert ended()[:2] == (7, "result\nthread\nexit function\n")
    status, out, err = ended("--debug")
    assert (status, out) == (1, "result\nthread\nexit function\n")
    assert err.endswith("TypeError: of ours\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended(into=writer)[0] == 120
    finally:
        os.close(writer)


@pytest.mark.slow
def test_a_process_with_closed_streams_ends_with_its_status_and_mixes_no_output() -> None:
    words = [sys.executable, "-m", "lartpc_ray.data", "--quiet", "inspect", "none.h5"]

    def ended(streams: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["sh", "-c", f"{shlex.join(words)} {streams}"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    status, out, err = ended(">&-")
    assert (status, out) == (2, "")
    assert err.startswith("python -m lartpc_ray.data: none.h5")
    assert len(err.splitlines()) == 1
    assert ended("2>&-") == (2, "", "")
