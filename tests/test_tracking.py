"""Tracking: a server that goes away for a while costs no number."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lartpc_ray.tracking import Tracking


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def serve(folder: Path, port: int) -> subprocess.Popen:
    """An MLflow server on loopback, in a process group of its own; it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def stop(server: subprocess.Popen) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_costs_no_number(tmp_path: Path) -> None:
    port = free_port()
    servers = [serve(tmp_path, port)]
    try:
        tracking = Tracking(tmp_path / "runs", "study", f"http://127.0.0.1:{port}")
        run = tracking.start("trial 0", {"study": "s", "trial": "0"})
        tracking.numbers(run, {"goal": 0.1}, 1)
        stop(servers[0])
        back = threading.Timer(20, lambda: servers.append(serve(tmp_path, port)))
        back.start()
        began = time.monotonic()
        tracking.numbers(run, {"goal": 0.2}, 2)
        assert time.monotonic() - began > 15, "there was a server all the time"
        tracking.numbers(run, {"goal": 0.3}, 3)
        assert tracking.logged(run, "goal") == {1: 0.1, 2: 0.2, 3: 0.3}
        back.join()
    finally:
        for server in servers[1:]:
            stop(server)
