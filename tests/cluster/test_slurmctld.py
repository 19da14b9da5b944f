"""cluster/slurm.sh under a real SLURM of two nodes: a time limit, a lost node, the same table.

The SLURM is one of the test's own: munged, slurmctld and one slurmd per node, on loopback, with a
configuration in a folder (Debian: slurm-wlm, munge). Two slurmd on one machine need a SLURM that
was built with --enable-multiple-slurmd, as Debian's is.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from processes import free_port  # noqa: E402 (beside this folder)
from searches import checked, finished, tune  # noqa: E402

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DAEMONS = {name: shutil.which(name, path=PATH) for name in ("munged", "slurmctld", "slurmd")}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(DAEMONS.values()), reason="no SLURM (slurm-wlm, munge) here"),
    pytest.mark.skipif("LARTPC_REHEARSALS" not in os.environ, reason="make test-cluster runs it"),
]
CONFIGURATION = """
ClusterName=lartpc
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=30
KillWait=20
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 Port={one} CPUs=2 Gres=gpu:4
NodeName=two NodeHostname=localhost NodeAddr=127.0.0.1 Port={two} CPUs=2 Gres=gpu:4
PartitionName=main Nodes=one,two Default=YES MaxTime=60
"""


class Slurm:
    """A SLURM of two nodes, with the folder of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"},
            "PATH": PATH,
            "PYTHONPATH": str(ROOT),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        }

    def __call__(self, *command: str) -> str:
        """Run one of SLURM's commands and return its output."""
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def daemon(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / "logs" / "-".join([name, *arguments[-1:]]).replace("/", "_")
        with log.open("w") as file:
            return subprocess.Popen(
                [str(DAEMONS[name]), *arguments], stdout=file, stderr=file, env=self.environment
            )

    def job(self, number: str) -> dict[str, str]:
        words = self("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, done: Callable[[dict[str, str]], bool], limit: float = 900) -> None:
        deadline = time.monotonic() + limit
        while not done(job := self.job(number)):
            late = time.monotonic() > deadline or job["JobState"] == "FAILED"
            assert not late, f"{job}\n{self.output(number)}"
            time.sleep(0.5)

    def wait_for_nodes(self) -> None:
        deadline = time.monotonic() + 60
        command = ("sinfo", "--noheader", "--Node", "--format=%T")
        while self.try_again(*command) != "idle\nidle\n":
            logs = [log.read_text() for log in (self.folder / "logs").iterdir()]
            assert time.monotonic() < deadline, "\n".join(logs)
            time.sleep(0.5)

    def try_again(self, *command: str) -> str:
        """Run a command that fails while slurmctld starts."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout

    def output(self, number: str) -> str:
        path = self.folder / f"slurm-{number}.out"
        return path.read_text() if path.exists() else ""

    def processes(self) -> list[int]:
        """Return the processes of the daemons and of their jobs."""
        mark, found = f"SLURM_CONF={self.folder}/".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found


def write_configuration(folder: Path) -> None:
    for name in ("logs", "state", "one", "two", "munge"):
        (folder / name).mkdir()
    values = {"port": free_port(), "one": free_port(), "two": free_port()}
    text = CONFIGURATION.format(folder=folder, user=pwd.getpwuid(os.geteuid()).pw_name, **values)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
    for number in range(4):
        (folder / f"gpu{number}").touch()
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    (folder / "cluster").symlink_to(ROOT / "cluster")
    (folder / "token").write_text(secrets.token_hex(16))
    (folder / "token").chmod(0o600)
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets: short paths
    folder.chmod(0o755)  # munge's clients ask for it
    write_configuration(folder)
    slurm = Slurm(folder)
    try:
        names = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        files = [f"--{name}={folder}/munge/{name.removesuffix('-file')}" for name in names]
        slurm.daemon("munged", "--foreground", "--force", *files)
        deadline = time.monotonic() + 60
        while not (folder / "munge" / "socket").exists():
            assert time.monotonic() < deadline, "munged has no socket"
            time.sleep(0.1)
        slurm.daemon("slurmctld", "-D")
        for node in ("one", "two"):
            slurm.daemon("slurmd", "-D", "-N", node)
        slurm.wait_for_nodes()
        yield slurm
    finally:
        for process in slurm.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder)


def in_state(wanted: str) -> Callable[[dict[str, str]], bool]:
    return lambda job: job["JobState"] == wanted


def trains(slurm: Slurm, number: str, begins: int) -> Callable[[dict[str, str]], bool]:
    """Wait for a validation of a search that has begun this often."""

    def reached(job: dict[str, str]) -> bool:
        output = slurm.output(number)
        assert job["JobState"] != "COMPLETED", output
        searches = re.split(r"^study ", output, flags=re.MULTILINE)[1:]
        return (
            len(searches) == begins
            and re.search(r"^trial \d +\d+ steps", searches[-1], re.M) is not None
        )

    return reached


def table(output: str) -> str:
    (found,) = re.findall("best of 2 trials.*?every metric", output, re.DOTALL)
    return str(found)


def test_a_job_that_meets_its_time_limit_and_loses_a_node_ends_with_the_same_table(
    slurm: Slurm, few_events: Path, tmp_path: Path
) -> None:
    """Two nodes of two cores; SLURM itself sends the signal, kills, and queues again."""
    settings = ("steps=600", "evaluate_every=20", "batchnorm_batches=2")
    words = [word for setting in settings for word in ("--set", f"optimizer.{setting}")]
    options = ("--budget", "laptop", "--data", str(few_events), *words)
    size = ("--time=60", "--cpus-per-task=2", "--gpus-per-node=0")
    number = slurm("sbatch", "--parsable", *size, "cluster/slurm.sh", "smoke", *options).strip()
    slurm.wait(number, trains(slurm, number, 1))
    steps = slurm("scontrol", "--oneliner", "show", "step", number).splitlines()
    sizes = [re.findall(r"StepId=(\S+) .* Nodes=(\d) CPUs=(\d+)", step) for step in steps]
    assert sum(one[0][1:] == ("1", "2") for one in sizes if one) == 2, steps  # one Ray per node
    hours, minutes, _ = map(int, slurm.job(number)["RunTime"].split(":"))
    limit = f"TimeLimit={60 * hours + minutes + 2}"  # the signal comes two minutes before it
    slurm("scontrol", "update", f"JobId={number}", limit)
    slurm.wait(number, in_state("PENDING"))
    assert slurm.job(number)["Restarts"] == "1"
    assert "To continue" in slurm.output(number)
    slurm("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    slurm.wait(number, trains(slurm, number, 2))
    slurm("scontrol", "update", "NodeName=two", "State=DOWN", "Reason=lost")
    slurm.wait(number, in_state("PENDING"))
    assert slurm.job(number)["Restarts"] == "2"
    slurm.try_again("scontrol", "update", "NodeName=two", "State=RESUME")  # or it is back already
    slurm.wait(number, in_state("COMPLETED"))
    output = slurm.output(number)
    (study,) = set(re.findall(r"^study (smoke-\S+):", output, re.MULTILINE))
    checked(slurm.folder / "runs", study, 2)
    status, out, err = finished(tune(tmp_path, *options))
    assert status == 0, err
    assert table(output) == table(out)
