"""A Ray of one's own admits this user only."""

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RaySystemError

from lartpc_ray.runtime import ray_session as ray_session_module
from lartpc_ray.runtime.ray_session import private_folder, ray_session, remove_old_sessions
from lartpc_ray.runtime.signals import STOPS, restore_interrupts

NOBODY = 65534
INTRUDER = f"""
import os, sys
from ray._raylet import GcsClient
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
client = GcsClient(address=sys.argv[1])
client.internal_kv_put(b"proof", b"intruder", True, b"fun", timeout=10)
"""

FREED = """
import ray
from lartpc_ray.runtime import ray_session as session

references = []
inner = session.handle_stops

def make_garbage(handler):
    inner(handler)
    for reference in [references.pop() for _ in range(min(50, len(references)))]:
        cycle = [reference]
        cycle.append(cycle)
    lists = [[] for _ in range(2000)]  # Python collects the garbage

with session.ray_session(1, dashboard=False):
    references += [ray.put(number) for number in range(5_000)]
    session.handle_stops = make_garbage
print(len(references), "references are left")
"""
"""Free references to objects while Ray ends: Ray ended the process, without a message."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(tmp_path: Path) -> None:
    with ray_session(1, dashboard=False):
        address = ray.get_runtime_context().gcs_address
        node: Any = vars(ray._private.worker)["_global_node"]
        session = Path(node.get_session_dir_path())
        assert private_folder() in session.parents
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
        del environment["RAY_AUTH_TOKEN"]
        intruder = subprocess.run(
            [sys.executable, "-c", INTRUDER, address],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert intruder.returncode != 0
        assert "InvalidAuthToken" in intruder.stderr
        listing = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "ls", str(session)],
            capture_output=True,
            text=True,
        )
        assert "Permission denied" in listing.stderr


@pytest.mark.slow
def test_each_session_has_a_token_of_its_own() -> None:
    tokens, mode = [], os.environ.get("RAY_AUTH_MODE")
    for _ in range(2):
        with ray_session(1, dashboard=False):
            tokens.append(os.environ["RAY_AUTH_TOKEN"])

            @ray.remote
            def seen() -> str:
                return os.environ["RAY_AUTH_MODE"]

            assert ray.get(seen.remote()) == "token"
        with pytest.raises(RaySystemError, match="has not been started"):
            ray.put(b"a late call starts no other Ray")
    assert tokens[0] != tokens[1]
    assert os.environ.get("RAY_AUTH_MODE") == mode
    assert all(len(token) == 64 for token in tokens)
    assert not (Path.home() / ".ray" / "auth_token").exists()


def test_a_folder_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(RuntimeError, match="mode 0700"):
        private_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(RuntimeError, match="mode 0700"):
        private_folder()


def test_the_logs_of_the_newest_ended_sessions_stay(tmp_path: Path) -> None:
    """Days of use fill no disk; a session whose driver lives stays, and so does what is not one."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()  # its number is free again
    ended = [f"session_2026-11-0{day}_08-00-00_000001_{process.pid}" for day in range(1, 9)]
    living = f"session_2026-10-01_08-00-00_000001_{os.getpid()}"
    for name in (*ended, living, "session_of_mine"):
        (tmp_path / name / "logs").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / ended[-1])
    remove_old_sessions(tmp_path)
    kept = {*ended[-5:], living, "session_of_mine", "session_latest"}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.slow
def test_references_that_are_freed_while_ray_ends_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left, _, words = done.stdout.partition(" ")
    assert words == "references are left\n"
    assert int(left) < 5_000, "some were freed"


def test_ctrl_c_waits_for_the_end_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames that it leaves hold references; a second one leaves at once."""
    ended: list[bool] = []
    left = threading.Event()

    def shutdown(*signals: int) -> None:
        for number in signals:
            os.kill(os.getpid(), number)
        if len(signals) > 1:
            left.wait(60)
        ended.append(gc.isenabled())

    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        restore_interrupts()
        monkeypatch.setattr(ray, "shutdown", lambda: shutdown(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            ray_session_module._end_ray()
        assert ended == [False], "no garbage is collected while Ray ends"
        assert gc.isenabled()
        monkeypatch.setattr(ray, "shutdown", lambda: shutdown(signal.SIGTERM, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            ray_session_module._end_ray()
        assert ended == [False], "it has not ended a second time"
    finally:
        left.set()
        for number, handler in before.items():
            signal.signal(number, handler)
