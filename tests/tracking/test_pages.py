"""The closing lines of a command: they work in another folder, and show no password."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from lartpc_ray.report import __main__ as report
from lartpc_ray.report.record import access_hint
from lartpc_ray.terminal.command import run as run_command
from lartpc_ray.tracking.pages import password_hint, show_study, store_arguments, study_page
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import TRACKING


def local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """Return the tracking of a store in a file, whatever the environment names."""
    monkeypatch.delenv(TRACKING, raising=False)
    return Tracking(folder, "study")


@pytest.mark.parametrize(
    ("here", "arguments"), [(".", ""), ("elsewhere", " --runs {}/runs"), ("..", " --runs {}/runs")]
)
def test_the_arguments_find_the_store_from_the_folder_of_the_command(
    here: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ".." they are relative to it, so that they are short."""
    tracking = local(tmp_path / "runs", monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / here)
    expected = arguments.format(tmp_path.name if here == ".." else tmp_path)
    assert store_arguments(tracking) == expected


def test_the_printed_report_works_in_the_folder_in_which_it_was_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `--resume` of a study of another folder; no empty database is made there."""
    tracking = local(tmp_path / "with space" / "runs", monkeypatch)
    run = tracking.start("trial 0", {"trial": "0"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    line = access_hint(tracking, run).splitlines()[1]
    command = shlex.split(line.partition("python -m lartpc_ray.report ")[2])
    assert run_command(report.parser(), report.main, command) == 2, "the run was not evaluated"
    assert f"run {run}: no verdict.json" in capsys.readouterr().err, "it was found"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_server_stands_in_the_command_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACKING, "http://me:s3cret@server:5000")
    tracking = Tracking(tmp_path, None)
    tracking.experiment = "7"
    text = access_hint(tracking, "12ab", "study-1")
    assert "--run 12ab --tracking-uri http://me@server:5000 --all" in text
    assert "s3cret" not in text
    password = "left out above; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    assert text.splitlines()[-1].split(":", 1)[1].strip() == password
    assert "mlflow ui" not in text, "a server has its pages already"
    assert study_page(tracking, "study-1") in text


@pytest.mark.parametrize(
    ("uri", "server", "password"),
    [
        (
            "postgresql://me:s3cret@127.0.0.1/db",
            "mlflow ui --backend-store-uri postgresql://me@127.0.0.1/db --host 127.0.0.1",
            "left out above; set PGPASSWORD",
        ),
        (
            "mysql+pymysql://me:s3cret@127.0.0.1/db",
            "mlflow ui --host 127.0.0.1",
            "left out above; set MLFLOW_TRACKING_URI with it, and MLFLOW_BACKEND_STORE_URI for "
            "mlflow ui",
        ),
    ],
)
def test_a_database_needs_a_server_and_its_password(
    uri: str, server: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACKING, uri)
    tracking = Tracking(tmp_path, None)
    text = access_hint(tracking, "12ab", "study-1")
    assert "s3cret" not in text
    *_, shown, page, last = text.splitlines()
    assert shown == f"in the browser:  {server}"
    assert page.strip() == study_page(tracking, "study-1")
    assert last == f"the password:    {password}"
    printed = store_arguments(tracking).split()[1]
    assert Tracking(tmp_path, None, printed).uri == uri, "the printed command, in this terminal"
    monkeypatch.delenv(TRACKING)
    assert password_hint(Tracking(tmp_path, None, printed)) == ""


def test_the_address_of_a_study_opens_its_trials_the_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = local(tmp_path, monkeypatch)
    show_study(tracking, "study-1", ["network.depth", "task.loss.mask"])
    address = access_hint(tracking, "12ab", "study-1").splitlines()[-1].strip()
    (experiment, key) = re.fullmatch(
        r"http://127\.0\.0\.1:5000/#/experiments/(\d+)/runs\?workflowType=machine_learning"
        r"&viewStateShareKey=(\S+)",
        address,
    ).groups()  # type: ignore[union-attr]
    tags = tracking.client.get_experiment(experiment).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    assert view["searchFilter"] == "tags.study = 'study-1' and tags.trial != ''"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`objective`", False)
    assert view["selectedColumns"] == [
        "metrics.`objective`",
        "metrics.`objective_error`",
        "params.`depth`",
        "params.`mask`",
    ]


@pytest.mark.parametrize("name", ["clustering-1 (copy)", "it's", "größer + 1%", "a[1]"])
def test_a_study_in_a_folder_of_any_name_has_runs_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A copy of a folder needs another name, which a person chooses."""
    tracking = local(tmp_path, monkeypatch)
    tags = {"study": name, "kind": "search"}
    assert tracking.start("a", tags) == tracking.start("a", tags)
    show_study(tracking, name, ["network.depth"])
    page = study_page(tracking, name)
    key = unquote(page.partition("viewStateShareKey=")[2])
    kept = tracking.client.get_experiment(tracking.experiment).tags
    view = json.loads(kept[f"mlflow.sharedViewState.{key}"])
    shown = view["searchFilter"].removesuffix(" and tags.trial != ''")
    assert len(tracking.client.search_runs([tracking.experiment], shown)) == 1
