"""The processes and ports of a test: its descendants, a port that is free, MLflow's server."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


def descendants(ancestor: int) -> dict[int, str]:
    """Process id to command line of all that descend from a process."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
            titles[int(folder.name)] = title
    found = {ancestor}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return {process: titles[process] for process in found - {ancestor}}
        found |= more


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start an MLflow server on loopback in its own process group, and wait for its answer."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
