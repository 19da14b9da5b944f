"""A search on a cluster that grows as trials wait: Ray's autoscaler, its nodes on this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from processes import descendants

ROOT = Path(__file__).parents[2]
LISTS = (
    *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands"),
    *("setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
"""What Ray wants to see in a cluster's file, and nothing here uses."""
CLOUD = {
    "cluster_name": "growing",
    "max_workers": 1,
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 1},
    },
    "head_node_type": "head",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    **{key: [] for key in LISTS},
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Start a head without cores that may start one worker of one core; give its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    provider = {"type": "fake_multinode", "gcs_address": address}
    config, log = tmp_path / "cloud.json", tmp_path / "head.log"
    config.write_text(json.dumps({**CLOUD, "provider": provider}))
    variables = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    variables |= {"RAY_AUTH_MODE": "disabled"}
    with TemporaryDirectory(prefix="ray") as folder, log.open("w") as file:  # sockets: short paths
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--num-cpus", "0", f"--port={address.rpartition(':')[2]}"),
            *("--node-ip-address=127.0.0.1", f"--autoscaling-config={config}"),
            *(f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"),
        ]
        head = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **variables})
        try:
            deadline = time.monotonic() + 60
            while "Ray runtime started" not in log.read_text():
                assert head.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield address
        finally:
            for process in [*descendants(head.pid), head.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            head.wait()


def searched(runs: Path, address: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lartpc_ray.tune", "smoke", "--runs", str(runs), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=runs, timeout=300, check=False
    )


@pytest.mark.slow
def test_trials_wait_for_nodes_that_are_not_there_yet(
    tmp_path: Path, cluster: str, few_events: Path
) -> None:
    data = ("--data", str(few_events))
    refused = searched(tmp_path, cluster, *data)
    assert refused.returncode == 2, refused.stderr
    assert "if it grows as trials wait, set their number with --concurrent" in refused.stderr
    found = searched(tmp_path, cluster, *data, "--concurrent", "2")
    assert found.returncode == 0, found.stderr
    assert "best of 2 trials" in found.stdout
