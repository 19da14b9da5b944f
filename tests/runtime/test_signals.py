"""Signals: what a command says before it stops."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lartpc_ray.runtime.run_folder import resumable
from lartpc_ray.runtime.signals import STOPS, CheckpointOnSignal, handle_stops
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST

AGAIN = "python -m lartpc_ray.tune smoke --resume runs/smoke-1"


@pytest.fixture
def no_stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Install handlers of `STOPS` that remember the signals and stop nothing."""
    before = {number: signal.getsignal(number) for number in STOPS}
    received: list[int] = []
    handle_stops(lambda number, _: received.append(number))
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the commands to resume that are logged, once a thread has had the time for it."""
    deadline = time.monotonic() + 10
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.01)
    return [text.rpartition("run:\n  ")[2] for text in caplog.messages]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_schedulers_signal_is_answered_with_the_command_to_resume_before_all_else(
    number: int, no_stop: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Ray, which gets the signal, too, may end the process before the closing lines."""
    caplog.set_level(logging.INFO, "lartpc_ray")
    with resumable(AGAIN):
        os.kill(os.getpid(), number)
        assert named(caplog) == [AGAIN]
        os.kill(os.getpid(), number)
    assert named(caplog) == [AGAIN], "once"
    assert no_stop == [number, number], "the handler of the command is called, too"
    os.kill(os.getpid(), number)
    assert named(caplog) == [AGAIN], "nothing is named after the end"


WAITING = """
import ctypes, logging, os, signal, sys, threading
from lartpc_ray.runtime.run_folder import resumable

signal.signal(signal.SIGTERM, signal.default_int_handler)
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
system, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
with resumable("AGAIN"):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    threading.Timer(2, os._exit, (1,)).start()
    for _ in range(2):  # the second lock waits for ever, also after a signal
        system.pthread_mutex_lock(mutex)
"""


def test_the_command_is_named_while_the_main_thread_waits_inside_a_library() -> None:
    """Ray's core may end the process before its wait comes back to Python."""
    found = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout == "to continue afterwards, run:\n  AGAIN\n"


def test_a_stop_asks_for_checkpoints_and_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lartpc_ray")
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, stop: sent.append(stop))
    stopping = CheckpointOnSignal(lambda: [tmp_path], lambda *_: None)
    stopping._received(signal.SIGTERM, None)
    (line,) = caplog.messages
    assert line.startswith("stopping after the next step")
    deadline = time.monotonic() + 10
    while not (tmp_path / CHECKPOINT_REQUEST).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sent, "it waits for the checkpoint"
    (tmp_path / CHECKPOINT_REQUEST).unlink()
    while not sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent == [signal.SIGTERM]


def test_an_interrupt_at_the_keyboard_names_it_at_the_end_only(
    no_stop: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stop after the checkpoints is a signal, too."""
    caplog.set_level(logging.INFO, "lartpc_ray")
    with resumable(AGAIN):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert no_stop == [signal.SIGINT, signal.SIGTERM]
    assert caplog.messages == []


def test_a_disk_that_takes_no_request_stops_the_command_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(Path, "touch", full)
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, stop: sent.append(stop))
    CheckpointOnSignal(lambda: [tmp_path], lambda *_: None)._ask()
    assert sent == [signal.SIGTERM]
    assert "No space left on device" in caplog.text
