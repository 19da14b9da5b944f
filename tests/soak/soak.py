"""Use the commands for hours in a random order, and check after each action that all is well.

Usage: python tests/soak/soak.py HOURS [--seed N] [--folder FOLDER] [--actions N], or make soak

An action is a search, a resume, a prediction, a report, thresholds, or a restart of the MLflow
server. Signals stop some of them at a random moment: the command is interrupted or killed, one of
the processes that Ray started is killed, or the server is. After each action the script checks:

lost       a finished search has the table and the metrics of the first one with the same seed; a
           prediction has the same bytes, a report the same text
doubled    MLflow has one run per search, trial and thresholds, and one value per metric and step
left       no process is left, and no file in /dev/shm or /tmp
MLflow     each run has its parent, and no run is marked as running without a process
disk       the folder of a search is not larger than that of the first one; MLflow grows by at most
           `MOST_PER_ACTION`

Each action prints a line, also into FOLDER/soak.log. After a violation the script stops, prints
it with the seed and the number of the action, and keeps the folder. The networks are tiny. As root
the script sees its own /dev/shm and /tmp, of which nothing comes from other programs.
"""

import argparse
import ctypes
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import psutil
import soak_checks as checks
from soak_checks import MIB, Histories, within

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "network.depth=2",
    "optimizer.steps=4",
    "optimizer.evaluate_every=2",
    "optimizer.batchnorm_batches=2",
)
BUDGETS = ("smoke", "laptop")
"""Budget of the searches with seed 0, 1: one trial at a time, two."""
SESSIONS = 6
"""Folders of Ray that may be kept for their logs: five, and that of a killed command."""
GRACE = 90.0
"""Seconds in which the processes of a killed command end by themselves."""
LONGEST = 1800.0
"""Seconds after which a command counts as hanging."""
MOST_PER_ACTION = 4 * MIB
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "worker", "server")
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl


class ViolationError(Exception):
    """What a check has seen."""


@dataclass
class Study:
    """A search of the soak; `table` is empty until it has ended."""

    folder: Path
    seed: int
    table: str = ""
    outputs: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str
    stopped: str = ""


class Soak:
    """The state between two actions.

    Args:
        folder: of all files; the commands start there.
        seed: of the actions.
        places: folders in which nothing may be left.
    """

    def __init__(self, folder: Path, seed: int, places: list[Path]) -> None:
        self.folder, self.seed, self.places = folder, seed, places
        self.runs, self.database = folder / "runs", folder / "store" / "mlflow.db"
        self.studies: list[Study] = []
        self.first: dict[int, tuple[str, Histories, int]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.server: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.step = 0
        self.random = Random(seed)
        self.stored = 0
        self.counts: dict[str, int] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_server(self) -> None:
        """Start MLflow's server on loopback in its own process group; wait for its answer."""
        self.database.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.database.parent / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment(self.folder),
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.5)
        raise ViolationError("the MLflow server does not start")

    def stop_server(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers, and wait for their end."""
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, number)
            try:
                self.server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait()

    def run(self, name: str, *words: str, way: str = "") -> Result:
        """Run a command, and stop it in a way at a random moment of its usual time."""
        command = [sys.executable, "-m", f"lartpc_ray.{name}", *words, "--runs", str(self.runs)]
        command += [] if "--resume" in words else ["--tracking-uri", self.uri]
        out, err = (self.folder / "output" / f"{self.step}-{name}.{end}" for end in ("out", "err"))
        out.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        usual = statistics.median(self.seconds.get(name, [60.0]))
        with out.open("wb") as output, err.open("wb") as errors:
            process = subprocess.Popen(
                command, stdout=output, stderr=errors, env=environment(self.folder), cwd=self.folder
            )
            try:
                stopped = self.stop(process, way, self.random.uniform(0, usual)) if way else ""
                process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                hung = f"{name} {' '.join(words)} has not ended after {LONGEST:.0f} s"
                raise ViolationError(hung) from None
            finally:
                process.kill()
        if not stopped:
            self.seconds.setdefault(name, []).append(time.monotonic() - began)
        return Result(process.returncode, out.read_text(), err.read_text(), stopped)

    def stop(self, process: subprocess.Popen[bytes], way: str, seconds: float) -> str:
        """Wait, then stop the command or what it needs; return what happened."""
        try:
            process.wait(seconds)
            return ""
        except subprocess.TimeoutExpired:
            pass
        if way == "server":
            self.stop_server(self.random.choice([signal.SIGKILL, signal.SIGTERM]))
            time.sleep(self.random.uniform(0, 20))
            self.start_server()
        elif way == "worker":
            children = psutil.Process(process.pid).children(recursive=True)
            if not children:
                return ""
            child = self.random.choice(sorted(children, key=lambda child: child.pid))
            with_name = child.name()
            child.kill()
            return f"SIGKILL of {with_name} after {seconds:.0f} s"
        else:
            process.send_signal(signal.Signals[way])
        return f"{way} after {seconds:.0f} s"

    def search(self) -> str:
        """Start a search."""
        seed, known = self.random.randrange(len(BUDGETS)), set(self.runs.glob("smoke-*"))
        words = ["smoke", "--data", str(self.folder / "events"), "--seed", str(seed)]
        words += ["--budget", BUDGETS[seed]]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
        result = self.run("tune", *words, way=self.way())
        folders = [one for one in self.runs.glob("smoke-*") if (one / "plan.json").is_file()]
        new = [folder for folder in folders if folder not in known]
        if not new:
            if result.status == 0 or not result.stopped:
                raise ViolationError(f"no folder, status {result.status}: {result.err[-1000:]}")
            return f"search, seed {seed}: {result.stopped}, before it had a folder"
        self.studies.append(Study(new[0], seed))
        return self.end(self.studies[-1], result, f"search {new[0].name}, seed {seed}")

    def resume(self) -> str:
        """Resume a stopped search, or an ended one, which prints its table again."""
        stopped = [study for study in self.studies if not study.table]
        study = self.random.choice(stopped or self.studies)
        result = self.run("tune", "smoke", "--resume", str(study.folder), way=self.way())
        return self.end(study, result, f"resume {study.folder.name}, seed {study.seed}")

    def end(self, study: Study, result: Result, what: str) -> str:
        """Check how a search has ended."""
        if "Traceback" in result.err:
            raise ViolationError(f"{what}, {result.stopped or 'not stopped'}: {result.err[-3000:]}")
        if result.status:
            self.check_stop(result, what)
            return f"{what}: {result.stopped}, status {result.status}"
        table = result.out.split("every metric")[0]
        stored = checks.histories(self.database, study.folder.name)
        first, reference, size = self.first.setdefault(
            study.seed, (table, stored, checks.size(study.folder))
        )
        faults = checks.differences(reference, stored) if not study.table else []
        faults += checks.unfinished([study.folder])
        if table != first:
            faults.append(f"the table is not that of the first such search:\n{table}\n{first}")
        if checks.size(study.folder) > 1.5 * size + MIB:
            faults.append(f"{study.folder} holds {checks.size(study.folder)} bytes, not {size}")
        study.table = table
        if faults:
            raise ViolationError(f"{what}: " + "\n".join(faults))
        return f"{what}: the table{', ' + result.stopped if result.stopped else ''}"

    def check_stop(self, result: Result, what: str) -> None:
        """Check that a command ended because it was stopped, and printed how to go on."""
        way = result.stopped.split(" ")[0]
        if "Ray does not start" in result.err and "--resume" in result.err:
            return  # a machine with too much other work
        of_ray = result.stopped.startswith("SIGKILL of")
        if not way or (result.status == 2):
            raise ViolationError(f"{what}: status {result.status}: {result.err[-2000:]}")
        expected = {"SIGKILL": -9, "SIGTERM": 130, "SIGINT": 130}.get(way) if not of_ray else 1
        early = way in ("SIGTERM", "SIGINT") and result.status in (-15, -2)  # before Python ran
        if result.status not in (expected, 1) and not early:
            raise ViolationError(f"{what}: {result.stopped}: status {result.status}")
        if result.status == 1 and "--resume" not in result.err:
            raise ViolationError(f"{what}: {result.stopped}: no way to go on: {result.err[-2000:]}")

    def ended(self) -> Study:
        return self.random.choice([study for study in self.studies if study.table])

    def best(self, study: Study) -> str:
        """Return the MLflow run of a search's best trial."""
        return checks.best_run(self.database, study.folder.name)

    def predict(self) -> str:
        """Predict the test events by an ended search; a stopped prediction goes on."""
        study, way = self.ended(), self.random.choice(["", "", "SIGKILL", "SIGTERM", "worker"])
        output = self.folder / "predicted"
        events = self.folder / "events" / "test.h5"
        words = [str(events), "-o", str(output), "--shard-events", "1", "--run", self.best(study)]
        result = self.run("predict", *words, way=way)
        stopped = result.stopped
        if result.status and stopped:
            result = self.run("predict", *words)
        what = f"predict by {study.folder.name}{', ' + stopped if stopped else ''}"
        if result.status or "Traceback" in result.err:
            raise ViolationError(f"{what}: status {result.status}: {result.err[-2000:]}")
        shards = sorted(output.glob("events-*.h5"))
        self.same(study, "shards", b"".join(shard.read_bytes() for shard in shards), what)
        faults = checks.unfinished([output])
        shutil.rmtree(output)
        if faults:
            raise ViolationError(f"{what}: " + "\n".join(faults))
        return what

    def report(self) -> str:
        """Print a search again, as text or as a page."""
        study, page = self.ended(), self.folder / "page.html"
        html = self.random.random() < 0.5
        words = ("--html", str(page)) if html else ()
        result = self.run("report", "--run", self.best(study), *words)
        what = f"report of {study.folder.name}{' as a page' if html else ''}"
        if result.status or "Traceback" in result.err:
            raise ViolationError(f"{what}: status {result.status}: {result.err[-2000:]}")
        if html and "</html>" not in page.read_text()[-1000:]:
            raise ViolationError(f"{what}: the page is not whole")
        if not html:
            self.same(study, "report", result.out.encode(), what)
        return what

    def thresholds(self) -> str:
        """Tune the thresholds of an ended search again."""
        study = self.ended()
        result = self.run("thresholds", "smoke", "--run", self.best(study))
        what = f"thresholds of {study.folder.name}"
        if result.status or "Traceback" in result.err:
            raise ViolationError(f"{what}: status {result.status}: {result.err[-2000:]}")
        return what

    def restart(self) -> str:
        """Restart the server."""
        number = self.random.choice([signal.SIGKILL, signal.SIGTERM])
        self.stop_server(number)
        self.start_server()
        return f"restart of the server by {number.name}"

    def same(self, study: Study, kind: str, output: bytes, what: str) -> None:
        """Check that an output is that of the same command before."""
        if study.outputs.setdefault(kind, output) != output:
            (self.folder / "before").write_bytes(study.outputs[kind])
            (self.folder / "now").write_bytes(output)
            raise ViolationError(f"{what}: the output is another one: see before and now")

    def way(self) -> str:
        """Choose how a search is stopped; a third is not."""
        return self.random.choice(WAYS) if self.random.random() < 0.67 else ""

    def act(self) -> str:
        """Choose an action that is possible, and do it."""
        self.step += 1
        self.random = Random(f"{self.seed} {self.step}")
        ended = any(study.table for study in self.studies)
        weights: dict[Callable[[], str], int] = {self.search: 4, self.restart: 1}
        if self.studies:
            weights[self.resume] = 4 * sum(not study.table for study in self.studies) + 1
        if ended:
            weights |= {self.predict: 3, self.report: 2, self.thresholds: 2}
        (action,) = self.random.choices(list(weights), list(weights.values()))
        self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        return action()

    def check(self) -> None:
        """Check what holds after every action.

        Raises:
            ViolationError: with all that does not hold.
        """
        server = {self.server.pid} if self.server else set()
        reap(server)
        faults = within(GRACE, partial(checks.processes, server))
        reap(server)
        faults += within(5, lambda: checks.files(self.places, SESSIONS))
        faults += checks.store(
            self.database, {study.folder.name for study in self.studies if not study.table}
        )
        stored = checks.size(self.database.parent)
        if self.stored and stored > self.stored + MOST_PER_ACTION:
            faults.append(f"MLflow's store has grown from {self.stored} to {stored} bytes")
        self.stored = stored
        if faults:
            raise ViolationError("\n".join(faults))


def reap(keep: set[int]) -> None:
    """Remove the ended orphans from the process table: this process is their parent."""
    for child in psutil.Process().children():
        if child.pid not in keep and child.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(child.pid, os.WNOHANG)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of the commands: this checkout, one thread, caches in the folder."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def isolate(folder: Path) -> list[Path]:
    """Return the folders in which the commands' temporary files lie, and nothing else.

    As root this process has been given its own /dev/shm and an overlay over /tmp; else a folder
    in TMPDIR, and /dev/shm is not watched. A folder below /tmp would lie under the overlay, so that
    nobody else sees what is written to it: it is mounted again above the overlay.
    """
    if os.environ.get("LARTPC_SOAK") != str(os.getpid()):
        temporary = folder / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        return [temporary]
    upper, work = folder / "tmp", folder / "tmp.work"
    upper.mkdir()
    work.mkdir()
    layers = f"lowerdir=/tmp,upperdir={upper},workdir={work}"
    kept = Path("/dev/shm/folder")
    mount("-t", "tmpfs", "tmpfs", "/dev/shm")
    kept.mkdir()
    mount("--bind", str(folder), str(kept))
    mount("-t", "overlay", "-o", layers, "overlay", "/tmp")
    mount("--move", str(kept), str(folder))
    kept.rmdir()
    return [upper, Path("/dev/shm")]


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@contextmanager
def soaking(folder: Path, seed: int) -> Iterator[Soak]:
    """Write the events and start the server; stop the server at the end."""
    from lartpc_ray.data.files import read_events, write_events
    from lartpc_ray.data.splits import Split, sample

    folder.mkdir(parents=True)
    counts: dict[Split, int] = {"train": 8, "tune": 2, "test": 2}
    (folder / "events").mkdir()
    for split, count in counts.items():
        path = folder / "events" / f"{split}.h5"
        write_events(path, read_events(sample(split), indices=range(count)))
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    soak = Soak(folder, seed, isolate(folder))
    try:
        soak.start_server()
        yield soak
    finally:
        soak.stop_server(signal.SIGTERM)


def main(options: argparse.Namespace) -> int:
    """Act until the time is over or a check fails; print what was done."""
    folder, began = options.folder.resolve(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is stopped, too
    with soaking(folder, options.seed) as soak, (folder / "soak.log").open("a") as log:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=log, flush=True)

        say(f"seed {options.seed}, {options.hours:g} hours, in {folder}")
        status = 0
        while soak.step < options.actions and time.monotonic() < began + 3600 * options.hours:
            started = time.monotonic()
            try:
                done = soak.act()
                say(f"{soak.step:4d}  {time.monotonic() - started:5.0f} s  {done}")
                soak.check()
            except ViolationError as violation:
                say(f"VIOLATION in action {soak.step} of seed {options.seed}: {violation}")
                status = 1
                break
        counts = ", ".join(f"{count} {name}" for name, count in sorted(soak.counts.items()))
        hours = (time.monotonic() - began) / 3600
        say(f"{hours:.2f} hours, {soak.step} actions ({counts}), {status} violations")
    return status


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("hours", type=float)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--folder", type=Path, default=Path("/var/tmp/lartpc-soak"), help="new")
    made.add_argument("--actions", type=int, default=10**9, help="at most so many")
    return made


if __name__ == "__main__":
    options = parser().parse_args()
    if os.getuid() == 0 and shutil.which("unshare") and "LARTPC_SOAK" not in os.environ:
        os.environ["LARTPC_SOAK"] = str(os.getpid())  # exec keeps the number of the process
        namespace = ["unshare", "--mount", "--propagation", "private"]
        os.execvp("unshare", [*namespace, sys.executable, *sys.argv])
    sys.exit(main(options))
