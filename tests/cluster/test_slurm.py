"""cluster/slurm.sh without SLURM: stand-ins for its programs run all of it on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from processes import descendants  # noqa: E402 (beside this folder)

SLURM = {
    "scontrol": 'if [ "$1" = requeue ]; then echo "$2" >>requeued; else echo "$3" | tr , "\\n"; fi',
    "srun": 'echo "$*" >>srun.log; while [[ $1 == -* ]]; do [ "$1" = -w ] && shift; shift; done; '
    'exec "$@"',
    "hostname": "echo 127.0.0.1",
}
RAY = {
    "ray": 'echo "$*" >>ray.log; case "$1" in status) grep -c block ray.log | xargs seq '
    '| sed "s/.*/ 1 node_&/";; start) sleep 60;; esac',
    "python": 'echo "$*" >>python.log; echo "study smoke-1: 2 trials" >&2; '
    'trap "exit 1" USR1; echo begun >begun; for _ in $(seq ${STEPS:-600}); do sleep 0.1; done; '
    "exit ${STATUS:-0}",
}


def project(folder: Path, programs: dict[str, str]) -> None:
    """Make a project's folder with a virtual environment that finds these programs first."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, text in programs.items():
        (binaries / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (binaries / name).chmod(0o755)
    path = f"{binaries}:{Path(sys.executable).parent}:$PATH"
    (binaries / "activate").write_text(f'export PATH="{path}"\n')
    (folder / "token").write_text("0123456789abcdef" * 2)
    (folder / "cluster").symlink_to(ROOT / "cluster")


def job(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        **variables,
    }
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)  # for Rays of one node
    command = ["bash", str(ROOT / "cluster" / "slurm.sh"), *arguments]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )


def ended(process: subprocess.Popen[bytes], folder: Path, limit: float) -> tuple[int, str]:
    """Return the job's status and output, and end its steps as SLURM does."""
    try:
        process.wait(limit)
    finally:
        started = descendants(process.pid)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for one in started:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    return process.returncode, (folder / "said").read_text()


def test_a_job_that_is_told_queues_itself_again_and_goes_on(tmp_path: Path) -> None:
    project(tmp_path, SLURM | RAY)
    first = job(tmp_path, "smoke", "--budget", "smoke")
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.05)
    first.send_signal(signal.SIGUSR1)
    status, said = ended(first, tmp_path, 30)
    assert status == 1, said
    assert (tmp_path / "requeued").read_text() == "77\n"
    assert (tmp_path / "runs" / "slurm-77.study").read_text() == "smoke-1\n"
    second = job(tmp_path, "smoke", "--budget", "smoke", STEPS="1")
    status, said = ended(second, tmp_path, 60)
    assert status == 0, said
    wanted = "-m lartpc_ray.tune smoke --budget smoke"
    again = f"{wanted} --resume smoke-1"
    assert (tmp_path / "python.log").read_text().splitlines() == [wanted, again]
    assert (tmp_path / "requeued").read_text() == "77\n", "a search that has ended is not queued"
    steps = (tmp_path / "srun.log").read_text().splitlines()[:3]
    assert "-w one hostname" in steps[0]
    assert "--cpus-per-task=1 -w one ray start --block --num-cpus=1" in steps[1]
    assert "--head --node-ip-address=127.0.0.1 --port=20077" in steps[1]
    assert "--nodes=1 --ntasks=1 --cpus-per-task=1 -w two ray start --block" in steps[2]
    assert steps[2].endswith("--address=127.0.0.1:20077")


def test_a_job_that_slurm_kills_goes_on_with_its_study(tmp_path: Path) -> None:
    """The loss of a node: no signal comes first, SLURM queues the job by itself."""
    project(tmp_path, SLURM | RAY)
    first = job(tmp_path, "smoke")
    study = tmp_path / "runs" / "slurm-77.study"
    deadline = time.monotonic() + 60
    while not study.exists() or not study.read_text():
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()
        time.sleep(0.05)
    first.kill()
    ended(first, tmp_path, 30)
    status, said = ended(job(tmp_path, "smoke", STEPS="1"), tmp_path, 60)
    assert status == 0, said
    assert (tmp_path / "python.log").read_text().splitlines()[-1].endswith("--resume smoke-1")
    assert not (tmp_path / "requeued").exists()


def test_a_job_whose_time_is_up_before_ray_is_queues_itself_again(tmp_path: Path) -> None:
    project(tmp_path, SLURM | RAY | {"ray": "echo $1 >>ray.log; [ $1 = status ] || sleep 60"})
    process = job(tmp_path, "smoke")
    deadline = time.monotonic() + 60
    log = tmp_path / "ray.log"
    while not log.exists() or "status" not in log.read_text():
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    status, said = ended(process, tmp_path, 60)
    assert status == 1, said
    assert (tmp_path / "requeued").read_text() == "77\n"
    assert not (tmp_path / "python.log").exists()


def test_a_search_that_fails_ends_the_job_with_its_status(tmp_path: Path) -> None:
    project(tmp_path, SLURM | RAY)
    status, said = ended(job(tmp_path, "smoke", STEPS="1", STATUS="2"), tmp_path, 60)
    assert status == 2, said
    assert not (tmp_path / "requeued").exists()


def test_a_node_that_does_not_start_ends_the_job_at_once(tmp_path: Path) -> None:
    project(tmp_path, SLURM | RAY | {"ray": '[ "$1" = status ] || { echo no memory >&2; exit 1; }'})
    status, said = ended(job(tmp_path, "smoke"), tmp_path, 60)
    assert status == 1
    assert said.splitlines()[-2:] == ["no memory", "Ray did not start on a node (see above)"]
    assert not (tmp_path / "python.log").exists()


@pytest.mark.slow
def test_a_search_over_two_nodes_of_the_script(few_events: Path, tmp_path: Path) -> None:
    """Ray and the search are real; both nodes are on this machine."""
    project(tmp_path, SLURM)
    process = job(tmp_path, "smoke", "--budget", "smoke", "--data", str(few_events))
    status, said = ended(process, tmp_path, 590)
    assert status == 0, said
    assert "best of 2 trials" in said
    assert len(re.findall("ray start --block", (tmp_path / "srun.log").read_text())) == 2
