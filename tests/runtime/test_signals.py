"""Signals: what a command says before it stops."""

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from lartpc_ray.runtime.run_folder import resumable
from lartpc_ray.runtime.signals import CheckpointOnSignal
from lartpc_ray.trials.checkpoint import CHECKPOINT_REQUEST

AGAIN = "python -m lartpc_ray.tune smoke --resume runs/smoke-1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_schedulers_signal_is_answered_with_the_command_to_resume_before_all_else(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray, which gets the signal, too, may end the process before the closing lines."""
    caplog.set_level(logging.INFO, "lartpc_ray")
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, stop: sent.append(stop))
    stopping = CheckpointOnSignal(lambda: [tmp_path], lambda *_: None)
    with resumable(AGAIN):
        stopping._received(number, None)
        first, second = caplog.messages
        assert first.startswith("stopping after the next step")
        assert second.endswith(f"run:\n  {AGAIN}")
    deadline = time.monotonic() + 10
    while not (tmp_path / CHECKPOINT_REQUEST).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sent, "it waits for the checkpoint"
    (tmp_path / CHECKPOINT_REQUEST).unlink()
    while not sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent == [signal.SIGTERM]


def test_an_interrupt_at_the_keyboard_names_it_at_the_end_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lartpc_ray")
    monkeypatch.setattr(CheckpointOnSignal, "_ask", lambda _: None)
    with resumable(AGAIN):
        CheckpointOnSignal(list, lambda *_: None)._received(signal.SIGINT, None)
    assert [text.split(",")[0] for text in caplog.messages] == ["stopping after the next step"]
