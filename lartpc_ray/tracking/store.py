"""The one door to MLflow: its client, with every error as a line that says how to go on."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lartpc_ray.atomic import replace_file
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text, shown_uri, uri_passwords, without_password

REFUSED_LOGIN = "no password supplied|password authentication failed|using password"
"""What PostgreSQL and MySQL write of a password that is missing or wrong."""
STORE = "mlflow.db"
TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
SILENCE = 20.0
"""Seconds that MLflow may take before a line reports the wait, and between two such lines."""
FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's limits for the first call: a wrong address answers within half a minute."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""The usual ports of databases that MLflow can use."""
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
INVALID = "INVALID_PARAMETER_VALUE"
TRACEBACKS = "mlflow.store.db.utils"
"""A logger of MLflow that prints the traceback of an error that MLflow raises, too."""
OURS = (TypeError, AttributeError, AssertionError, FileNotFoundError)
"""Errors that no store raises: mistakes of a program, and a file that is not there."""


class StoreError(RuntimeError):
    """An error of an MLflow store or registry, in one line without passwords.

    Attributes:
        code: MLflow's name of the error; empty for an error of another library.
    """

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.code = code


def local_store(folder: Path) -> str:
    """Return the URI of the SQLite store in the runs folder."""
    return sqlite_uri(folder.resolve() / STORE)


def sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite file; SQLAlchemy reads %20 as a space, and options after ?.

    For a name that has either MLflow makes an empty folder of the changed name, too.

    Example:
        >>> sqlite_uri(Path("/run%201/mlflow.db")), sqlite_uri(Path("/my 50%/mlflow.db"))
        ('sqlite:////run%25201/mlflow.db', 'sqlite:////my 50%/mlflow.db')
    """
    text = str(path)
    text = text if unquote(text) == text else text.replace("%", "%25")
    return f"sqlite:///{text}".replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store in a writable folder; None for another store."""
    path = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
    if not uri.startswith("sqlite:///") or path.name in ("", ":memory:"):
        return None
    return path if path.parent.is_dir() and os.access(path.parent, os.W_OK) else None


def lock_file(uri: str, name: str, locks: Callable[[], Path]) -> Path:
    """Return the lock file of some runs of a store: beside a SQLite store, else in `locks`.

    Args:
        uri: of the store.
        name: of the runs.
        locks: returns the folder of this user's locks.
    """
    if path := sqlite_file(uri):
        return path.with_name(f"{path.name}.{name}.lock")
    store = hashlib.sha256(shown_uri(uri).encode()).hexdigest()[:16]
    return locks() / f"{store}.{name}"


def with_tags(tags: Mapping[str, str]) -> str:
    """Return MLflow's filter for the runs that have all these tags.

    Example:
        >>> with_tags({"study": "smoke-1", "trial": "0"})
        "tags.`study` = 'smoke-1' and tags.`trial` = '0'"
    """
    return " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())


def quoted(value: str) -> str:
    """Return a text as MLflow's filters read it.

    Example:
        >>> print(quoted("smoke-1"), quoted("it's"))
        'smoke-1' "it's"
    """
    return f'"{value}"' if "'" in value else f"'{value}'"


def chosen_store(uri: str | None) -> str | None:
    """Return the URI of `--tracking-uri`, else of MLFLOW_TRACKING_URI; None for the local store.

    An argument without its password, as the commands print it, takes that of MLFLOW_TRACKING_URI.

    Raises:
        ValueError: for an argument with a password, which all users of the machine can list.
    """
    given = os.environ.get(TRACKING)
    if uri and given and uri == shown_uri(given):
        return given
    if uri and shown_uri(uri) != uri and uri != given:
        raise ValueError(
            f"--tracking-uri {shown_uri(uri)}: leave out the password, which other users "
            f"see; set MLFLOW_TRACKING_PASSWORD (a server) or PGPASSWORD, or {TRACKING}"
        )
    return uri or given or None


def is_database(uri: str) -> bool:
    """Return whether a store is a database on a server, which MLflow's client opens itself."""
    return uri.partition(":")[0].partition("+")[0] in PORTS


def plan_store(uri: str | None, folder: Path) -> str | None:
    """Return the URI that a plan keeps: without password, None for the store of its folder.

    A SQLite file has its whole path: a run may be resumed in another folder.
    """
    chosen = chosen_store(uri)
    if chosen and (path := sqlite_file(chosen)) and not path.is_absolute():
        _, mark, options = chosen.partition("?")
        chosen = f"{sqlite_uri(path.resolve())}{mark}{options}"
    return None if chosen in (None, local_store(folder)) else shown_uri(str(chosen))


def kept_store(uri: str | None, folder: Path) -> str:
    """Return the URI of a plan for MLflow; MLFLOW_TRACKING_URI may have its password."""
    given = os.environ.get(TRACKING, "")
    if uri and shown_uri(given) == shown_uri(uri):
        return given
    return uri or local_store(folder)


def refuse_without_store(folder: Path) -> None:
    """Refuse a folder without a local store, for a command that reads.

    Raises:
        ValueError: with the name of the folder.
    """
    if not (folder / STORE).exists():
        raise ValueError(
            f"{folder}: no results here (no {STORE}); give the folder of the search or of the "
            "training with --runs, or its store with --tracking-uri"
        )


def refuse_uncopied(client: MlflowClient, shown: str, run: str, name: str) -> None:
    """Refuse an artifact that could not be copied, though the store has it.

    MLflow reports every error of a copy, also one of a disk, as a wrong path.

    Raises:
        StoreError: if the store lists the artifact.
    """
    parent = str(PurePosixPath(name).parent).removeprefix(".") or None
    paths: list[str] = []
    with suppress(StoreError):
        paths = [one.path for one in client.list_artifacts(run, parent)]
    if name in paths:
        raise StoreError(
            f"MLflow {shown}: {name} of run {run} is there, and cannot be copied; look at the disk "
            "of the artifacts and at the one for temporary files, then try again"
        )


def _passwords(uri: str) -> list[str]:
    """Return the passwords of a URI in the forms that a library may repeat, long ones first.

    A library may decode a password, encode it again, or take a part of it for the host.
    """
    forms: set[str] = set()
    for given in uri_passwords(uri):
        plain = {given, unquote(given), unquote_plus(given)}
        plain |= {error_text(one, len(one)) for one in plain if one.strip()}
        forms |= plain | {quote(one, safe="") for one in plain} | {quote_plus(one) for one in plain}
        forms |= {part for one in plain for part in re.split(r"[@/:?#]", one) if len(part) > 2}
    return sorted(forms, key=len, reverse=True)


class StoreClient:
    """MLflow's client; its methods raise `StoreError`, and a line reports a long wait.

    Args:
        uri: of the tracking store.
        shown: the URI for messages, if another: a database that is made has a temporary name.
    """

    def __init__(self, uri: str, shown: str = "") -> None:
        logging.getLogger(TRACEBACKS).setLevel(logging.CRITICAL)
        self._uri = uri
        self._shown = shown_uri(shown or uri)
        self._registry = os.environ.get(REGISTRY) or None
        for store in (uri, self._registry or ""):
            _refuse_unusable(store)
        with self._guarded("open"):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=self._registry)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy that is not filled yet
            raise AttributeError(name)
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._guarded(name):
                return method(*arguments, **named)

        return call

    def check(self) -> None:
        """Ask the store, and the registry if it is another, for a first answer.

        Raises:
            StoreError: if a store does not answer, is damaged or has another version.
        """
        with one_try():
            self.search_experiments(max_results=1)
            if self._registry:
                self.search_registered_models(max_results=1)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        registry = self._registry if "model" in name else None
        uri = registry or self._uri
        shown = f"registry {shown_uri(registry)}" if registry else f"MLflow {self._shown}"
        try:
            with _waits_reported(shown, name):
                yield
        except OURS:
            raise
        except Exception as error:
            raise _store_error(error, shown, [*_passwords(self._uri), *_passwords(uri)]) from None


@contextmanager
def _waits_reported(shown: str, name: str) -> Iterator[None]:
    """Write a line every `SILENCE` seconds while a call takes long, and one after its answer.

    Args:
        shown: the store.
        name: of the method that is called.
    """
    began, ended, limit = time.monotonic(), threading.Event(), SILENCE

    def report() -> None:
        while not ended.wait(limit):
            passed = time.monotonic() - began
            log.warning(
                f"{shown}: no answer for {passed:.0f} s ({name}); still waiting (minutes, at most)"
            )

    threading.Thread(target=report, daemon=True).start()
    try:
        yield
        if (passed := time.monotonic() - began) > limit:
            log.info(f"{shown}: answered after {passed:.0f} s ({name})")
    finally:
        ended.set()


def _refuse_unusable(uri: str) -> None:
    """Refuse a database that cannot be opened at all; MLflow tries for minutes to open it."""
    shown = shown_uri(uri)
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StoreError(f"MLflow {shown}: no address ({error})") from None
    if uri.startswith("sqlite:///"):
        path = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
        writable = os.access(path if path.exists() else path.parent, os.W_OK)
        if path.is_dir() or not path.parent.is_dir() or not writable:
            reason = "a folder" if path.is_dir() else "no writable file or folder"
            raise StoreError(f"MLflow {shown}: {reason}; {_how_to_go_on(f'MLflow {shown}')}")
    port = PORTS.get(parts.scheme.partition("+")[0])
    if port and parts.hostname:
        try:
            socket.create_connection((parts.hostname, parts.port or port), 10).close()
        except (OSError, ValueError) as error:
            reason = f"the database does not answer ({error_text(error)})"
            if isinstance(error, ValueError):  # its text holds a part of the password
                reason = "no valid port; in a password write / as %2F, @ as %40"
            hint = _how_to_go_on(f"MLflow {shown}")
            raise StoreError(f"MLflow {shown}: {reason}; {hint}") from None
        _open_once(uri)


def _open_once(uri: str) -> None:
    """Connect to a database once: where the password is missing MLflow tries for an hour."""
    from mlflow.store.db.utils import create_sqlalchemy_engine

    shown = f"MLflow {shown_uri(uri)}"
    engine: Callable[[str], Any] = create_sqlalchemy_engine
    try:
        with _waits_reported(shown, "open"):
            engine(uri).connect().close()
    except Exception as error:
        raise _store_error(error, shown, _passwords(uri)) from None


def _store_error(error: Exception, shown: str, passwords: list[str]) -> StoreError:
    """Return an error of MLflow or of a library below it in one line."""
    code = str(error.error_code) if isinstance(error, MlflowException) else ""
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None) == 404:
        code = MISSING
    text = error_text(error, 5000).partition(" [SQL:")[0]
    text = re.sub(r"^\(raised as a result of [^)]*\) ", "", text)
    for password in passwords:
        text = text.replace(password, "***")
    text = without_password(text)
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        text = "a database of another MLflow version; see `mlflow db upgrade`, after a copy of it"
    if re.search(REFUSED_LOGIN, text):
        return StoreError(
            f"{shown}: the password is missing or wrong; {where_password(shown.split(' ', 1)[1])}"
        )
    if "Max retries exceeded" in text or "timed out" in text:
        cause = re.search(r"\[Errno -?\d+\] [\w ]+", text)
        text = f"the server does not answer ({cause[0] if cause else 'timeout'})"
    hint = "" if code in (MISSING, EXISTS, INVALID) else f"; {_how_to_go_on(shown)}"
    return StoreError(f"{shown}: {text[:300]}{hint}", code)


def _how_to_go_on(shown: str) -> str:
    kind, uri = shown.split(" ", 1)
    if kind == "registry":
        return f"start it, or unset {REGISTRY}"
    if urlsplit(uri).scheme.startswith("http"):
        return "start the server, or give another store with --tracking-uri"
    return "mend it, or give another store with --tracking-uri or --runs"


def where_password(uri: str) -> str:
    """Return where MLflow finds the password of a store, as a text."""
    if uri.startswith("postgresql"):
        return "set PGPASSWORD"
    if is_database(uri):
        return f"set {TRACKING} with it, and MLFLOW_BACKEND_STORE_URI for mlflow ui"
    return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def one_try() -> AbstractContextManager[None]:
    """Let calls end within half a minute where the server is away."""
    return _environment(FIRST_CALL)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def make_store(path: Path) -> None:
    """Make MLflow's database whole or not at all.

    MLflow cannot open a half-created database, so create it under a temporary name.
    """
    if path.exists():
        return
    with replace_file(path, keep_existing=True) as part:  # another search may be first
        client = StoreClient(sqlite_uri(part), shown=sqlite_uri(path))
        client.search_experiments(max_results=1)
        client.delete_experiment("0")  # MLflow's empty "Default", which the browser lists first
