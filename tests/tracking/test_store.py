"""Errors of MLflow and of what is below it: one line without passwords, and how to go on."""

import json
import logging
import re
import shutil
import socket
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from processes import free_port

from lartpc_ray.terminal.text import shown_uri, without_password
from lartpc_ray.tracking import store
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import (
    REGISTRY,
    STORE,
    TRACKING,
    StoreClient,
    StoreError,
    chosen_store,
    kept_store,
    local_store,
    plan_store,
    sqlite_file,
)

SECRET = "postgresql://me:s3cr%40t@127.0.0.1:1/db"


def refused(folder: Path, uri: str | None = None) -> str:
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        Tracking(folder, "study", uri)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30
    return str(caught.value)


def test_a_server_that_is_away_is_a_line_within_seconds(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    text = refused(tmp_path, uri)
    assert text.startswith(f"MLflow {uri}: the server does not answer ([Errno 111]")
    assert text.endswith("start the server, or give another store with --tracking-uri")


def test_a_registry_that_is_away_is_named_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(REGISTRY, uri)
    text = refused(tmp_path)
    assert text.startswith(f"registry {uri}: ")
    assert text.endswith(f"start it, or unset {REGISTRY}")


@pytest.mark.parametrize(
    "uri", ["postgresql://me@127.0.0.1:{}/db", "mysql+pymysql://127.0.0.1:{}/db", "sqlite:////no/x"]
)
def test_a_database_that_is_away_is_a_line_within_seconds(tmp_path: Path, uri: str) -> None:
    text = refused(tmp_path, uri.format(free_port()))
    assert text.endswith("mend it, or give another store with --tracking-uri or --runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("fe_sendauth: no password supplied", "the password is missing or wrong; set PGPASSWORD"),
        ('password authentication failed for user "me"', "the password is missing or wrong"),
        ("Access denied for user 'me' (using password: NO)", "the password is missing or wrong"),
        ("column users.password does not exist", "column users.password does not exist"),
    ],
)
def test_a_database_that_asks_for_a_password_is_a_line_at_once(
    reason: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow would try for an hour to open it."""
    tried: list[str] = []

    def engine(uri: str) -> None:
        tried.append(uri)
        raise RuntimeError(f"connection failed: {reason}")

    monkeypatch.setattr("mlflow.store.db.utils.create_sqlalchemy_engine", engine)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/db"
        text = refused(tmp_path, uri)
    assert text.startswith(f"MLflow {uri}: ")
    assert answer in text
    assert ("missing or wrong" in text) == ("missing or wrong" in answer)
    assert tried == [uri], "once"


@pytest.mark.parametrize("damage", ["cut", "text", "folder", "version"])
def test_a_damaged_database_is_a_line_with_its_name(tmp_path: Path, damage: str) -> None:
    Tracking(tmp_path / "made", "study")
    path = tmp_path / STORE  # a path that MLflow has not opened in this process
    shutil.copy(tmp_path / "made" / STORE, path)
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:10_000])
    elif damage == "text":
        path.write_text("no database" * 1000)
    else:
        with sqlite3.connect(path) as database:
            database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
        database.close()
    text = refused(tmp_path)
    assert str(path) in text
    assert "give another store" in text
    assert ("another MLflow version" in text) == (damage == "version")


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "study")
    tracking.client.delete_experiment(tracking.experiment)
    command = f"{TRACKING}={local_store(tmp_path)} mlflow experiments restore -x 1"
    assert refused(tmp_path).endswith(f": {command}")


def test_answers_that_a_thing_is_missing_keep_their_code(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "study")
    with pytest.raises(StoreError) as caught:
        tracking.client.get_run("0" * 32)
    assert caught.value.code == store.MISSING
    with pytest.raises(ValueError, match=rf"run 0+: not in sqlite:///{tmp_path}"):
        tracking.run_info("0" * 32)


def test_the_store_of_the_environment_is_used_and_the_argument_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACKING, "http://a")
    assert Tracking(tmp_path, None).uri == "http://a"
    assert Tracking(tmp_path, None, "http://b").uri == "http://b"
    assert plan_store(None, tmp_path) == "http://a"
    monkeypatch.setenv(TRACKING, "")
    assert Tracking(tmp_path, None).uri == local_store(tmp_path)
    assert plan_store(None, tmp_path) is None
    assert plan_store(local_store(tmp_path), tmp_path) is None


def test_a_resumed_study_stays_in_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACKING, "http://a")
    assert kept_store(None, tmp_path) == local_store(tmp_path)
    assert kept_store("http://b", tmp_path) == "http://b"


def test_a_store_in_the_present_folder_is_found_from_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = plan_store("sqlite:///mine.db?timeout=3", tmp_path / "runs")
    assert kept == f"sqlite:///{tmp_path}/mine.db?timeout=3"
    monkeypatch.setenv(TRACKING, "sqlite:///mine.db")
    assert plan_store(None, tmp_path / "runs") == f"sqlite:///{tmp_path}/mine.db"


@pytest.mark.parametrize("name", ["run%201", "50%", "what?"])
def test_a_runs_folder_of_any_name_holds_its_store(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    run = Tracking(folder, "study").start("run", {"kind": "search"})
    assert (folder / STORE).is_file()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [folder / STORE]
    assert Tracking(folder, None).run_info(run)["name"] == "run"
    assert sqlite_file(local_store(folder)) == folder / STORE


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("sqlite:///{}/x.db", "x.db"),
        ("sqlite:///{}/a%20b.db?timeout=3", "a b.db"),
        ("sqlite:///{}/no/x.db", None),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://a/x.db", None),
    ],
)
def test_the_file_of_a_sqlite_store(tmp_path: Path, uri: str, name: str | None) -> None:
    assert sqlite_file(uri.format(tmp_path)) == (tmp_path / name if name else None)


def test_passwords_reach_neither_plans_nor_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="leave out the password") as caught:
        chosen_store(SECRET)
    assert "s3cr" not in str(caught.value)
    monkeypatch.setenv(TRACKING, SECRET)
    plan = plan_store(None, tmp_path)
    assert plan == "postgresql://me@127.0.0.1:1/db"
    assert kept_store(plan, tmp_path) == SECRET
    assert Tracking(tmp_path, None).shown == plan
    monkeypatch.setattr(store, "MlflowClient", lambda **_: Leaky())
    with pytest.raises(StoreError) as failed:
        StoreClient(SECRET).get_run("1")
    for secret in ("s3cr%40t", "s3cr@t"):
        assert secret not in str(failed.value)


class Leaky:
    """A client whose errors hold the password."""

    def get_run(self, run: str) -> None:
        raise OSError(f"cannot connect to {SECRET} with password s3cr@t")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:5000/x", "http://a:5000/x"),
        ("http://me:p@a:5000", "http://me@a:5000"),
        ("mysql+pymysql://me:p:q@h/db", "mysql+pymysql://me@h/db"),
        ("x postgresql://u:p@h/d?sslpassword=q y", "x postgresql://u@h/d?sslpassword=*** y"),
        ("sqlite:////tmp/a@b:c.db", "sqlite:////tmp/a@b:c.db"),
        ("postgresql://me:p/q@h/db", "postgresql://me@h/db"),
        ("http://h:5000/#/models/a@champion", "http://h:5000/#/models/a@champion"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("http://h:9: the server a@b", "http://h:9: the server a@b"),
    ],
)
def test_passwords_are_removed_from_texts(text: str, shown: str) -> None:
    assert without_password(text) == shown


ODD = (
    *("geh eim", "12 3456", "geh@eim wört", "geh/eim klar", "geh?eim klar", "geh#eim klar"),
    *(" vorn", "tab\tin", "geh%eim", "50% gut\"klar'"),
)


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("form", ["postgresql://me:{}@127.0.0.1:1/db", "mysql://h/db?password={}"])
def test_a_password_of_odd_characters_is_shown_nowhere(
    password: str, encoded: bool, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = form.format(quote(password, safe="") if encoded else password)
    shown = form.replace(":{}@", "@").replace("{}", "***")

    class Repeats:
        """A client whose errors hold the URI and the password as it was decoded."""

        def get_run(self, run: str) -> None:
            raise OSError(f"cannot connect to {uri} with {password!s}, {quote_plus(password)}")

    monkeypatch.setenv(TRACKING, uri)
    assert shown_uri(uri) == shown
    assert plan_store(None, tmp_path) == shown
    assert kept_store(shown, tmp_path) == uri
    assert Tracking(tmp_path, None).shown == shown
    with pytest.raises(ValueError, match="leave out the password") as given:
        chosen_store(uri.replace("db", "other"))
    monkeypatch.setattr(store, "MlflowClient", lambda **_: Repeats())
    monkeypatch.setattr(store, "_refuse_unusable", lambda _: None)
    with pytest.raises(StoreError) as failed:
        StoreClient(uri).get_run("1")
    words = [word for word in re.split(r"[\s@/?#]", password) if len(word) > 2]
    assert words
    for text in (str(given.value), str(failed.value)):
        assert not any(word in text for word in words), text


def test_a_password_with_spaces_is_removed_from_a_text() -> None:
    text = "no answer from postgresql://me:my pass@h/db; see http://h:5000 and a@b"
    assert "pass" not in without_password(text)
    assert without_password("http://h: the user a@b") == "http://h: the user a@b"


def test_a_long_wait_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow:
        def get_run(self, run: str) -> str:
            time.sleep(0.3)
            return run

    caplog.set_level(logging.INFO, "lartpc_ray")
    monkeypatch.setattr(store, "SILENCE", 0.05)
    monkeypatch.setattr(store, "MlflowClient", lambda **_: Slow())
    assert StoreClient("http://slow").get_run("1") == "1"
    assert "MLflow http://slow: no answer for 0 s (get_run); still waiting" in caplog.text
    assert 2 <= json.dumps(caplog.messages).count("waiting") <= 6, "again and again"
    assert caplog.messages[-1] == "MLflow http://slow: answered after 0 s (get_run)"
    time.sleep(0.2)
    assert caplog.messages[-1].startswith("MLflow http://slow: answered"), "the lines have ended"


def test_a_wait_for_a_new_database_names_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its temporary name is of no use to a person."""

    class Slow:
        def __init__(self, tracking_uri: str, **_: object) -> None:
            time.sleep(0.3)
            Path(tracking_uri.removeprefix("sqlite:///")).touch()

        def search_experiments(self, max_results: int) -> None: ...

        def delete_experiment(self, number: str) -> None: ...

    monkeypatch.setattr(store, "SILENCE", 0.05)
    monkeypatch.setattr(store, "MlflowClient", Slow)
    store.make_store(tmp_path / "mlflow.db")
    assert f"MLflow sqlite:///{tmp_path / 'mlflow.db'}: no answer for" in caplog.text
    assert "part~" not in caplog.text
