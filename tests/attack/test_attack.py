"""Malformed spaces, settings and files, and faults of the system: one line each, never a traceback.

A quick part runs with the fast tests, a longer part with the slow tests; `make test-attack` sets
LARTPC_ATTACK_MINUTES, for which each attack of the longer part goes on with other seeds.
"""

import builtins
import errno
import io
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from grammar import Grammar

from lartpc_ray.atomic import read_json, write_json
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import sample
from lartpc_ray.tracking.provenance import file_digest
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import StoreError
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import make_trial
from lartpc_ray.trials.space_file import parse_setting, read_space
from lartpc_ray.trials.yaml_file import read_yaml

import_module("torch._dynamo.utils")  # a fault in its first import would leave half of it

MINUTES = float(os.environ.get("LARTPC_ATTACK_MINUTES", "0"))
SECONDS = 5.0
"""Of computing that a malformed input may take."""
SPACE = b"task: clustering\nbudgets: {smoke: {trials: 2, steps: 4, min_steps: 2}}\n"
TRIAL = make_trial({"network.depth": 2, "network.filters": 1, "network.blocks": 1})


def seeds(count: int, minutes: float = 0.0) -> Iterator[int]:
    """Yield so many seeds, and others while the minutes last."""
    end = time.monotonic() + 60 * minutes
    seed = 0
    while seed < count or time.monotonic() < end:
        yield seed
        seed += 1
    print(f"{seed} inputs")


def one_line(read: Callable[[], Any], *names: str) -> None:
    """Check that the input is read, or refused in a line that holds one of the names."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's, of choices that are lists
        try:
            read()
            reason = names[0]
        except ValueError as error:
            reason = str(error)
    assert "\n" not in reason
    assert any(name in reason for name in names), reason
    assert time.process_time() - start < SECONDS


def attack_spaces(folder: Path, count: int, minutes: float = 0.0) -> None:
    path = folder / "space.yaml"
    for seed in seeds(count, minutes):
        path.write_bytes(Grammar(seed).space())
        one_line(lambda: read_space(path, "smoke"), str(path))


def attack_settings(folder: Path, count: int, minutes: float = 0.0) -> None:
    path = folder / "space.yaml"
    path.write_bytes(SPACE)

    def read(text: str) -> None:
        read_space(path, "smoke", dict([parse_setting(text)]))

    for seed in seeds(count, minutes):
        text = Grammar(-seed).setting()
        one_line(lambda text=text: read(text), str(path), "--set")  # type: ignore[misc]


def test_some_malformed_spaces_and_settings_are_refused_in_a_line(tmp_path: Path) -> None:
    attack_spaces(tmp_path, 150)
    attack_settings(tmp_path, 100)


@pytest.mark.slow
def test_malformed_spaces_are_refused_in_a_line(tmp_path: Path) -> None:
    attack_spaces(tmp_path, 5000, MINUTES)


@pytest.mark.slow
def test_malformed_settings_are_refused_in_a_line(tmp_path: Path) -> None:
    attack_settings(tmp_path, 2000, MINUTES)


ERRNOS = ("ENOSPC", "EIO", "ESTALE", "EMFILE", "EACCES", "EDQUOT", "ENOENT", "EROFS", "ENOMEM")


class FaultyFile(io.FileIO):
    """A file whose reads and writes are counted, and fail when it is their turn."""

    faults: "Faults"

    def readinto(self, *buffer: Any) -> Any:
        self.faults.count("read")
        return super().readinto(*buffer)

    def readall(self) -> Any:
        self.faults.count("read")
        return super().readall()

    def write(self, *data: Any) -> Any:
        self.faults.count("write")
        return super().write(*data)

    @staticmethod
    def open(path: Any, mode: str = "r", *_: Any, **named: Any) -> Any:
        raw = FaultyFile(path, mode.replace("b", "").replace("t", ""))
        kinds = {"+": io.BufferedRandom, "r": io.BufferedReader}
        kind = next((kinds[letter] for letter in kinds if letter in mode), io.BufferedWriter)
        text = {name: named[name] for name in ("encoding", "errors", "newline") if name in named}
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), **text)


class Faults:
    """Let the n-th call of a function of the system fail with an error number."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, number: int, after: int) -> None:
        self.left, self.name, self.number = after, name, number
        if name in ("read", "write"):
            patch.setattr(FaultyFile, "faults", self, raising=False)
            for module in (io, builtins):
                patch.setattr(module, "open", FaultyFile.open)
            return
        owner, attribute = {
            "open": (io, "open"),
            "fsync": (os, "fsync"),
            "replace": (os, "replace"),
            "stat": (os, "stat"),
        }[name]
        real = getattr(owner, attribute)

        def call(*arguments: Any, **named: Any) -> Any:
            self.count(name)
            return real(*arguments, **named)

        patch.setattr(owner, attribute, call)

    def count(self, name: str) -> None:
        """Count a call, and let it fail if it is its turn."""
        self.left -= name == self.name
        if self.left == -1 and name == self.name:
            raise OSError(self.number, os.strerror(self.number))

    @property
    def happened(self) -> bool:
        return self.left < 0


def operations(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return the writes and reads of small files, each a function without arguments."""
    events = list(read_events(sample("test"), indices=range(2)))
    state = Checkpoint(TRIAL, 1, TRIAL.make_network().state_dict(), {}, [{"objective": 0.5}])
    (folder / "space.yaml").write_bytes(SPACE)
    write_json(folder / "old.json", {"a": 1})
    checkpoints.save(folder, state, "old.pt")
    write_events(folder / "old.h5", events)
    return {
        "write events": lambda: write_events(folder / "new.h5", events),
        "read events": lambda: list(read_events(folder / "old.h5")),
        "write JSON": lambda: write_json(folder / "new.json", {"a": 1}),
        "read JSON": lambda: read_json(folder / "old.json"),
        "write checkpoint": lambda: checkpoints.save(folder, state, "new.pt"),
        "read checkpoint": lambda: checkpoints.load(folder / "old.pt"),
        "read YAML": lambda: read_yaml(folder / "space.yaml"),
        "digest": lambda: file_digest(folder / "old.h5", folder / "digests.json"),
    }


@pytest.mark.parametrize("function", ["open", "read", "write", "fsync", "replace", "stat"])
def test_a_fault_of_the_system_is_an_error_and_leaves_no_half_file(
    tmp_path: Path, function: str
) -> None:
    written, happened = {"new.h5", "new.json", "new.pt", "digests.json"}, False
    for name, operation in operations(tmp_path).items():
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for number in ERRNOS:
            for after in range(3):
                with pytest.MonkeyPatch.context() as patch:
                    faults = Faults(patch, function, getattr(errno, number), after)
                    with suppress(OSError, ValueError):
                        operation()
                    patch.undo()
                    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
                    new = left.keys() - before.keys()
                    assert new <= written, (name, number, after)
                    assert all(left[path] == before[path] for path in before.keys() - written)
                    for path in new:
                        assert left[path], (name, number, "an empty file")
                        (tmp_path / path).unlink()
                happened |= faults.happened
                if not faults.happened:
                    break
    assert happened, "no operation calls the function"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EMFILE"])
def test_a_connection_that_fails_is_a_line_about_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(errno, name)

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "connect", fail)
    for uri in ("http://127.0.0.1:5000", "postgresql://me@127.0.0.1/db"):
        with pytest.raises(StoreError, match=f"MLflow {uri}: the (server|database) does not") as no:
            Tracking(tmp_path, "study", uri)
        assert "\n" not in str(no.value)
        assert os.strerror(number) in str(no.value)
