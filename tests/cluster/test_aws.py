"""`ray up cluster.yaml` against moto's EC2 and IAM, on this machine; a spot node is taken away.

Stand-ins for ssh and rsync lead to a folder per instance; the addresses of the instances are
loopback addresses (127.77.0.0/16), where real Ray nodes run. Every command of the file is executed:
what needs root or a package registry by stand-ins that keep a record.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import free_port

ROOT = Path(__file__).parents[2]
pytest.importorskip("moto", reason="no moto here")
pytest.importorskip("flask", reason="no flask here")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("rsync"), reason="no rsync here"),
    pytest.mark.skipif("LARTPC_REHEARSALS" not in os.environ, reason="make test-cluster runs it"),
]
REGION = "us-east-1"
IMAGE = "ami-0a1b2c3d4e5f60718"
SSH = """
while [[ $1 != *@* ]]; do case $1 in -o|-i|-L) shift;; esac; shift; done
host=${1#*@}; shift
export HOME=$HOSTS/$host LARTPC_HOST=$host PATH=/usr/bin:/bin
if [ ! -d "$HOME" ]; then
  mkdir -p "$HOME"; echo "export PATH=$HOSTS/host-bin:/usr/bin:/bin" >"$HOME/.bashrc"
fi
cd; exec setsid --wait bash -c "$*" </dev/null
"""
RSYNC = """
given=()
while (($#)); do
  case $1 in
    --rsh) shift ;;
    *@*:*) at=${1#*@}; path=${at#*:}; given+=("$HOSTS/${at%%:*}/${path#\\~/}") ;;
    *) given+=("$1") ;;
  esac
  shift
done
exec RSYNC "${given[@]}"
"""
SUDO = """
echo "$LARTPC_HOST: $*" >>$HOSTS/sudo.log
case $1 in
  tee) cat >"$HOME/$(basename "$2")" ;;
  mkdir) "$@" ;;
  mount) touch "$HOME/mounted" ;;
esac
"""
PYTHON3 = """
[ "$1 $2" = "-m venv" ] || exec PYTHON "$@"
mkdir -p "$3" && cp -r $HOSTS/venv-bin "$3/bin"
"""
PIP = 'echo "$LARTPC_HOST: $*" >>$HOSTS/pip.log'
STOP = """
import os, signal
from pathlib import Path
mark = b"LARTPC_HOST=" + os.environ["LARTPC_HOST"].encode() + b"\\0"
kin = {os.getpid(), os.getppid()}
for folder in Path("/proc").glob("[0-9]*"):
    try:
        if b"/ray/" not in (folder / "cmdline").read_bytes() or int(folder.name) in kin:
            continue
        if mark in (folder / "environ").read_bytes():
            os.kill(int(folder.name), signal.SIGKILL)
    except OSError:
        pass
"""
ADDRESS = """
import boto3, os
client = boto3.client("ec2")
wanted = [{"Name": "ip-address", "Values": [os.environ["LARTPC_HOST"]]}]
found = client.describe_instances(Filters=wanted)["Reservations"]
print(found[0]["Instances"][0]["PrivateIpAddress"] if found else os.environ["LARTPC_HOST"])
"""
RAY = """
echo "$LARTPC_HOST: $*" >>$HOSTS/ray.log
case $1 in
  stop) exec PYTHON -c 'STOP' ;;
  start)
    [[ $* != *--head* ]] || set -- "$@" --temp-dir=$HOSTS/ray
    set -- "$@" --node-ip-address=$(PYTHON -c 'ADDRESS') --object-store-memory=80000000 ;;
esac
exec PYTHON -m ray.scripts.scripts "$@"
"""
MLFLOW = """
echo "$LARTPC_HOST: $*" >>$HOSTS/mlflow.log
exec PYTHON -m http.server --bind "$3" "$5"
"""
PROGRAMS = {
    "client-bin": {"ssh": SSH, "rsync": RSYNC},
    "host-bin": {
        **{"ssh": SSH, "rsync": RSYNC, "sudo": SUDO, "python3": PYTHON3},
        "mountpoint": "[ -e $HOME/mounted ]",
    },
    "venv-bin": {"pip": PIP, "ray": RAY, "mlflow": MLFLOW, "python": 'exec PYTHON "$@"'},
}


def write_programs(folder: Path) -> None:
    words = {"STOP": STOP, "ADDRESS": ADDRESS}
    words |= {"RSYNC": str(shutil.which("rsync")), "PYTHON": sys.executable}
    for place, programs in PROGRAMS.items():
        (folder / place).mkdir()
        for name, text in programs.items():
            for word, value in words.items():
                text = value.join(re.split(rf"(?<!\w){word}(?!\w)", text))
            (folder / place / name).write_text(f"#!/usr/bin/env bash\n{text}")
            (folder / place / name).chmod(0o755)


class Cloud:
    """The account, the client's folder and a folder per instance."""

    def __init__(self, folder: Path, url: str) -> None:
        import boto3

        self.folder = folder
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOSTS": str(folder),
            "HOME": str(folder / "client"),
            "PATH": f"{folder}/client-bin:/usr/bin:/bin",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # Ray takes loopback addresses for those
            "LANG": "C.UTF-8",
            "USER": "ubuntu",
        }
        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key")
        keys = {
            name: self.environment[name.upper().replace("ENDPOINT", "AWS_ENDPOINT")]
            for name in names
        }
        self.ec2 = boto3.resource("ec2", REGION, **keys)
        self.iam = boto3.client("iam", REGION, **keys)

    def network(self) -> None:
        """Make a network of loopback addresses the only one."""
        for subnet in list(self.ec2.subnets.all()):
            subnet.delete()
        network = self.ec2.create_vpc(CidrBlock="127.77.0.0/16")
        subnet = network.create_subnet(CidrBlock="127.77.1.0/24", AvailabilityZone=f"{REGION}a")
        self.ec2.meta.client.modify_subnet_attribute(
            SubnetId=subnet.id, MapPublicIpOnLaunch={"Value": True}
        )

    def instances(self) -> list[Any]:
        wanted = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        return list(self.ec2.instances.filter(Filters=wanted))

    def workers(self) -> list[Any]:
        return [one for one in self.instances() if one.instance_lifecycle == "spot"]

    def run(self, *command: str, limit: float = 600) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=limit
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-6000:]}{done.stderr[-6000:]}"
        return done.stdout + done.stderr

    def ray(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "ray.scripts.scripts", *words)

    def on_head(self, script: str) -> str:
        """Run Python on the head, as `ray exec` would."""
        (head,) = [one for one in self.instances() if one not in self.workers()]
        command = f"source ~/.bashrc; python -c {shlex.quote(script)}"
        shell = f"bash --login -c -i {shlex.quote(command)}"
        return self.run("ssh", f"ubuntu@{head.public_ip_address}", shell)

    def working_node(self) -> Any:
        """Wait for the one spot node, until Ray's node on it lives, and return it."""
        deadline = time.monotonic() + 600
        while True:
            found = self.workers()
            if len(found) == 1 and found[0].id in self.on_head(ALIVE):
                return found[0]
            assert time.monotonic() < deadline, f"{found}\n{self.monitor()}"
            time.sleep(2)

    def take_away(self, instance: Any) -> None:
        """End a spot instance as AWS does: nobody on it is asked."""
        instance.terminate()
        self.kill(instance.private_ip_address)
        shutil.rmtree(self.folder / instance.private_ip_address)

    def monitor(self) -> str:
        logs = (self.folder / "ray" / "session_latest" / "logs").glob("monitor.*")
        return "".join(path.read_text()[-4000:] for path in logs)

    def processes(self, host: str = "") -> list[int]:
        found = []
        marks = f"HOSTS={self.folder}\0".encode(), f"LARTPC_HOST={host}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if all(mark in path.read_bytes() for mark in marks):
                    found.append(int(path.parent.name))
        return found

    def kill(self, host: str = "") -> None:
        for process in self.processes(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def record(self, program: str) -> list[str]:
        return (self.folder / f"{program}.log").read_text().splitlines()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    from moto.ec2.models import elastic_network_interfaces
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    numbers = iter(range(1, 250))
    monkeypatch.setattr(
        elastic_network_interfaces, "random_public_ip", lambda: f"127.78.1.{next(numbers)}"
    )
    folder = Path(tempfile.mkdtemp(prefix="aws-"))  # sockets: short paths
    (folder / "client").mkdir()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    cloud = Cloud(folder, "http://{}:{}".format(*server.get_host_and_port()))
    try:
        write_programs(folder)
        cloud.network()
        text = (ROOT / "cluster.yaml").read_text()
        text = text.replace("/srv/lartpc", f"{folder}/srv").replace("6379", str(free_port()))
        text = re.sub(r"ami-\S+ # <>", IMAGE, text).replace(
            f"{folder}/srv #", f"{folder}/srv {free_port()} #"
        )
        (folder / "cluster.yaml").write_text(text)
        yield cloud
    finally:
        cloud.kill()
        server.stop()
        shutil.rmtree(folder)


ALIVE = """
import os
from ray.autoscaler.v2.sdk import get_cluster_status
status = get_cluster_status(open(os.environ["HOSTS"] + "/ray/ray_current_cluster").read().strip())
for node in status.active_nodes + status.idle_nodes:
    print("alive", node.instance_id)
"""
ASK = """
import ray
from ray.autoscaler.sdk import request_resources
ray.init(logging_level=50)
request_resources(bundles=[{"GPU": 1}])
"""


def test_a_cluster_comes_up_replaces_a_spot_node_and_goes(cloud: Cloud) -> None:
    config = str(cloud.folder / "cluster.yaml")
    cloud.ray("get-auth-token", "--generate")
    said = cloud.ray("up", "-y", "--no-config-cache", config)
    (head,) = cloud.instances()
    check_account(cloud, head)
    check_head(cloud, head, said)
    cloud.on_head(ASK)
    worker = cloud.working_node()
    check_worker(cloud, worker)
    cloud.take_away(worker)
    other = cloud.working_node()
    assert other.id != worker.id
    check_worker(cloud, other)
    cloud.ray("down", "-y", config)
    assert not cloud.instances()


def check_account(cloud: Cloud, head: Any) -> None:
    """Check the security group, the key and the instance profile."""
    (group,) = [one for one in cloud.ec2.security_groups.all() if one.group_name != "default"]
    assert [one["GroupId"] for one in head.security_groups] == [group.id]
    outside = [rule for rule in group.ip_permissions if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    inside = [rule for rule in group.ip_permissions if not rule["IpRanges"]]
    assert [pair["GroupId"] for rule in inside for pair in rule["UserIdGroupPairs"]] == [group.id]
    (key,) = cloud.ec2.key_pairs.all()
    assert head.key_name == key.name
    path = cloud.folder / "client" / ".ssh" / f"{key.name}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    name = head.iam_instance_profile["Arn"].rpartition("/")[2]
    (role,) = cloud.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    found = cloud.iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
    assert {one["PolicyName"] for one in found} == {"AmazonEC2FullAccess", "AmazonS3FullAccess"}


def check_host(cloud: Cloud, instance: Any, address: str) -> Path:
    """Check an instance and its folder: file mounts and common setup commands."""
    assert instance.image_id == IMAGE
    home = cloud.folder / address
    token = (cloud.folder / "client" / ".ray" / "auth_token").read_text()
    assert (home / ".ray" / "auth_token").read_text() == token
    project = home / "lartpc_ray"
    assert (project / "lartpc_ray" / "tune").is_dir()
    unwanted = (".venv", ".git", "runs", ".mypy_cache", ".peers", "lartpc_ray/__pycache__")
    assert not [name for name in unwanted if (project / name).exists()]
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in (settings["project"]["readme"], *included):
        assert (project / name).exists(), f"the wheel needs {name}"
    asked = [line for line in cloud.record("pip") if line.startswith(f"{address}: ")]
    assert len(set(asked)) == 1, "Ray gives a worker the common commands twice; they bear it"
    words = shlex.split(asked[0])
    assert Path(words[words.index("--constraint") + 1]) == project / "constraints.txt"
    extras = re.findall(r"lartpc_ray\[(.*)\]", words[-1])[0].split(",")
    assert {"aws", "postgres"} == set(extras) <= set(settings["project"]["optional-dependencies"])
    assert (home / ".lartpc").read_text().endswith((ROOT / "cluster" / "environment").read_text())
    assert (home / ".bashrc").read_text().count("source ~/.lartpc") == 1
    return home


def check_head(cloud: Cloud, head: Any, said: str) -> None:
    address = head.public_ip_address
    home = check_host(cloud, head, address)
    assert head.instance_type == "m5.xlarge"
    assert head.instance_lifecycle is None, "a head on a spot node"
    sudo = [line.removeprefix(f"{address}: ") for line in cloud.record("sudo")]
    shared = f"{cloud.folder}/srv"
    assert any(re.fullmatch("apt-get install -y -qq .*nfs-kernel-server", line) for line in sudo)
    assert f"mkdir -p {shared}" in sudo
    assert f"chown ubuntu {shared}" in sudo
    assert "exportfs -ra" in sudo
    exports = (home / "exports").read_text()
    assert f"{shared} 10.0.0.0/8(rw,sync,no_subtree_check)" in exports
    assert "172.16.0.0/12(rw" in exports, "the default network of an account"
    assert "MLflow: http://127.0.0.1:" in said
    (server,) = cloud.record("mlflow")
    assert "--host 127.0.0.1" in server
    started = [line for line in cloud.record("ray") if line.startswith(address)]
    assert [line.split()[1] for line in started] == ["stop", "start"]


def check_worker(cloud: Cloud, worker: Any) -> None:
    assert worker.instance_type == "g5.2xlarge"
    address = worker.private_ip_address
    assert (check_host(cloud, worker, address) / "mounted").exists()
    (head,) = [one for one in cloud.instances() if one.instance_lifecycle is None]
    mounted = (
        f"{address}: mount -t nfs {head.private_ip_address}:{cloud.folder}/srv {cloud.folder}/srv"
    )
    assert mounted in cloud.record("sudo")
    assert worker.iam_instance_profile is None
    assert worker.key_name == head.key_name
    assert worker.security_groups == head.security_groups
