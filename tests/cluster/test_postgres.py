"""MLflow on PostgreSQL, as cluster/mlflow.sh starts it: many writers lose and double nothing.

The database is one of the test's own, on loopback, with a password; it needs PostgreSQL's programs
and psycopg (`pip install 'lartpc-ray[postgres]'`).
"""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from processes import free_port  # noqa: E402 (beside this folder)
from searches import finished, tune  # noqa: E402

PROGRAMS = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
INITDB, POSTGRES = (shutil.which(name, path=":".join(PROGRAMS)) for name in ("initdb", "postgres"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INITDB and POSTGRES), reason="no PostgreSQL (initdb, postgres) here"),
    pytest.mark.skipif(not importlib.util.find_spec("psycopg"), reason="no psycopg"),
]
OWNER = "postgres" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root; its package brings this user."""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Start a PostgreSQL cluster and give its address for SQLAlchemy."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    port, word = free_port(), secrets.token_hex(8)
    (folder / "password").write_text(word)
    if OWNER:
        for path in (folder, folder / "password"):
            shutil.chown(path, OWNER)
    made = [str(INITDB), "-D", f"{folder}/data", "-U", "mlflow", "--auth=scram-sha-256"]
    made += [f"--pwfile={folder}/password", "--no-sync"]
    subprocess.run(made, user=OWNER, cwd=folder, check=True, capture_output=True)
    command = [str(POSTGRES), "-D", f"{folder}/data", "-p", str(port), "-k", str(folder)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, user=OWNER, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while "ready to accept connections" not in (folder / "log").read_text():
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg://mlflow:{word}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # its word for a fast shutdown
        server.wait(60)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the MLflow server of the cluster files on that database and give its address."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    binaries = Path(sys.executable).parent
    command = ["bash", str(ROOT / "cluster" / "mlflow.sh"), str(folder), str(port)]
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    environment["MLFLOW_BACKEND_STORE_URI"] = database
    started = subprocess.run(command, env=environment, capture_output=True, text=True)
    try:
        log = folder / "mlflow.log"
        assert started.returncode == 0, started.stderr + (log.read_text() if log.exists() else "")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(int((folder / "mlflow.pid").read_text()), signal.SIGKILL)


PRINTED = """
import sys
from pathlib import Path
from lartpc_ray.tracking.runs import Tracking

tracking = Tracking(Path("runs"), "study", sys.argv[1])
run = tracking.start("run", {"kind": "search"})
tracking.log_text(run, "text", "a.txt")
"""


def test_a_database_without_its_password_is_refused_and_keeps_its_artefacts_in_the_folder(
    database: str, tmp_path: Path
) -> None:
    """The printed URI has no password: MLflow would try for an hour."""
    printed = re.sub(r":\w+@", "@", database)
    command = [sys.executable, "-c", PRINTED, printed]
    word = database.split("@")[0].rsplit(":")[-1]
    for known in ({}, {"PGPASSWORD": word}, {"MLFLOW_TRACKING_URI": database}):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **known}
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        refused = "the password is missing or wrong; set PGPASSWORD\n"
        assert done.stderr.endswith(refused) == bool(not known), done.stderr
        assert word not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "not where the command ran"
    assert len(list((tmp_path / "runs" / "mlartifacts" / "study").rglob("a.txt"))) == 1


WRITER = """
import sys
from pathlib import Path
from lartpc_ray.tracking.runs import Tracking

folder, uri, study = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
tracking = Tracking(Path(folder), "clustering", uri)
parent = tracking.start(study, {"study": study, "kind": "search"})
for number in range(3):
    run = tracking.start(f"trial {number}", {"study": study, "trial": str(number)}, parent)
    tracking.log_params(run, {"network.depth": number, "data.splits.path": "x" * 400})
    for step in range(20):
        values = {"objective": step + 0.01 * number, "loss": 1.0 / (step + 1)}
        tracking.log_metrics(run, values, step)
        print(number, step, flush=True)
    tracking.finish(run)
tracking.finish(parent)
"""


def begin(folder: Path, uri: str, study: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), uri, study],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def kept(uri: str, experiment: str) -> dict[str, dict[str, dict[str, list[tuple[int, float]]]]]:
    """Study to run to number to (step, value); no run of a study has another's name.

    Of the search and its trials; what the machine did meanwhile is left out.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    studies: dict[str, dict[str, Any]] = {}
    for run in client.search_runs([found.experiment_id]):
        if "study" not in run.data.tags:
            continue
        runs = studies.setdefault(run.data.tags["study"], {})
        name = run.info.run_name
        assert name not in runs, f"{name} of {run.data.tags['study']}: twice"
        assert run.info.status == "FINISHED", name
        histories = {
            key: client.get_metric_history(run.info.run_id, key)
            for key in run.data.metrics
            if not re.match("seconds|system/|resources/", key)
        }
        runs[name] = {
            key: [(one.step, one.value) for one in history] for key, history in histories.items()
        }
    return studies


def test_writers_that_begin_at_once_lose_and_double_nothing(server: str, tmp_path: Path) -> None:
    """Four studies in an experiment that none of them finds; one driver is killed and resumed."""
    names = [f"study {letter}" for letter in "abcd"]
    writers = [begin(tmp_path, server, name) for name in names]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        go(writer)
    for line in writers[0].stdout or ():
        if line == "1 10\n":
            break
    writers[0].kill()
    writers.append(begin(tmp_path, server, names[0]))
    go(writers[-1])
    for writer in writers[1:]:
        writer.communicate(timeout=300)
        assert writer.returncode == 0
    writers[0].communicate()
    found = kept(server, "clustering")
    trials = {
        f"trial {number}": {
            "objective": [(step, step + 0.01 * number) for step in range(20)],
            "loss": [(step, 1.0 / (step + 1)) for step in range(20)],
        }
        for number in range(3)
    }
    assert found == {name: {name: {}, **trials} for name in names}


def test_two_searches_at_once_share_a_server(server: str, few_events: Path, tmp_path: Path) -> None:
    """Two drivers, each with a folder of its own, one seed: the same numbers, each once."""
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    more = ("--budget", "smoke", "--data", str(few_events), "--tracking-uri", server)
    for process in [tune(folder, *more) for folder in folders]:
        status, out, err = finished(process)
        assert status == 0, err
        assert f"in the browser:  {server}/#" in out
    first, second = kept(server, "smoke").values()
    assert len(first) == 3
    for (_, one), (_, other) in zip(sorted(first.items()), sorted(second.items()), strict=True):
        assert one == other
