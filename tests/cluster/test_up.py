"""`ray up cluster/onprem.yaml` over real SSH, a search across machines, one of them lost.

Three hosts in network namespaces of this machine (head and two workers, 10.77.0.10-12) are made by
`hosts.sh`, which LARTPC_HOSTS names. It needs root, sshd and rsync, and a folder outside /tmp with
a virtual environment that all hosts see, LARTPC_SHARED: `make test-cluster` says how.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

import pytest

ROOT = Path(__file__).parents[2]
HOSTS = os.environ.get("LARTPC_HOSTS", "")
SHARED = Path(os.environ.get("LARTPC_SHARED", "/nowhere"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOSTS or os.geteuid() != 0, reason="no LARTPC_HOSTS, or not root"),
]


def shell(*command: str, limit: float = 300, check: bool = True) -> str:
    """Run on this machine, as the one who owns the cluster; what it says."""
    environment = {
        **os.environ,
        "BASE": str(SHARED / "hosts"),
        **({} if "bash" in command else {"HOME": str(SHARED / "client")}),  # hosts.sh needs its own
        "RAY_UP_enable_autoscaler_v2": "0",
        "RAY_AUTH_MODE": "token",
        "PATH": f"{SHARED}/lartpc_ray/.venv/bin:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=limit, cwd=SHARED
    )
    said = done.stdout + done.stderr
    assert not check or done.returncode == 0, f"{command}: {said[-3000:]}"
    return said


def on(host: int, command: str, limit: float = 300, check: bool = True) -> str:
    """Run on one of the hosts, in the shell that `ray up` has prepared."""
    script = f"source ~/.lartpc; cd {SHARED}; {command}"
    return shell(
        "bash", HOSTS, "ssh", str(host), f"bash -c {shlex.quote(script)}", limit=limit, check=check
    )


@pytest.fixture
def cluster() -> Iterator[None]:
    """Start the shipped configuration with this machine's folder, key and small nodes."""
    for name in ("client", "runs", "lartpc_ray/lartpc_ray"):
        rmtree(SHARED / name, ignore_errors=True)
    (SHARED / "client").mkdir(parents=True)
    kept = ignore_patterns("__pycache__", ".git", ".venv")
    copytree(ROOT, SHARED / "lartpc_ray", ignore=kept, dirs_exist_ok=True)
    text = (ROOT / "cluster" / "onprem.yaml").read_text().replace("/shared", str(SHARED))
    text = text.replace("~/.ssh/id_ed25519", str(SHARED / "hosts" / "id_ed25519"))
    text = text.replace("export PATH", f"export PYTHONPATH={SHARED}/lartpc_ray PATH")
    size = "--num-cpus=1 --object-store-memory=300000000 --memory=3000000000"
    text = text.replace("ray start", f"ray start {size}")
    (SHARED / "cluster.yaml").write_text(text)
    for left in Path("/tmp/ray").glob("cluster-lartpc.*"):  # of a try that failed
        left.unlink()
    shell("bash", HOSTS, "down", check=False)
    shell("bash", HOSTS, "up")
    try:
        shell("ray", "get-auth-token", "--generate")
        shell("ray", "up", "-y", "--no-config-cache", "cluster.yaml", limit=600)
        yield
        assert 10 in with_raylet()
        shell("ray", "down", "-y", "cluster.yaml", limit=300)
        deadline = time.monotonic() + 120  # workers look for the head a minute long, then they end
        while hosts := with_raylet():
            assert time.monotonic() < deadline, f"`ray down` left a raylet on the hosts {hosts}"
            time.sleep(2)
    finally:
        shell("bash", HOSTS, "down", check=False)


def with_raylet() -> list[int]:
    return [host for host in (10, 11, 12) if "raylet" in on(host, "ps ax")]


def nodes() -> int:
    count = "import ray; ray.init(logging_level=50); "
    count += 'print("alive", len([1 for n in ray.nodes() if n["Alive"]]))'
    found = re.findall(r"alive (\d+)", on(10, f"python -c {shlex.quote(count)}", check=False))
    return int(found[0]) if found else 0


def test_a_search_over_three_hosts_survives_the_loss_of_one(
    cluster: None, few_events: Path
) -> None:
    copytree(few_events, SHARED / "runs" / "events", dirs_exist_ok=True)
    deadline = time.monotonic() + 300
    while nodes() < 3:
        assert time.monotonic() < deadline, "a worker did not come up"
    settings = "--budget smoke --set optimizer.steps=60 --set optimizer.batchnorm_batches=2"
    search = f"python -m lartpc_ray.tune smoke {settings} --workers 2 --runs runs"
    search += " --data runs/events --tracking-uri http://127.0.0.1:5000 > runs/out 2> runs/err"
    on(10, f"nohup setsid {search} < /dev/null & sleep 1")
    said = SHARED / "runs" / "err"
    deadline = time.monotonic() + 400
    while not re.search(r"trial 0 +10 steps", said.read_text()):
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.5)
    for host in (11, 12):  # the one that has a rank of the trial, or both
        if "RayTrainWorker" in on(host, "ps ax"):
            on(host, "kill -9 $(pgrep -f ray)", check=False)
            break
    else:
        pytest.fail(f"no worker of the trial on the two hosts: {said.read_text()}")
    deadline = time.monotonic() + 600
    while "best of 2 trials" not in (SHARED / "runs" / "out").read_text():
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(1)
    sys.path.insert(0, str(ROOT / "tests"))
    from searches import checked

    (study,) = (SHARED / "runs").glob("smoke-*")
    checked(SHARED / "runs", study.name, 2)
