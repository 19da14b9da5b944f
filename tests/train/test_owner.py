"""One writer for the runs of a study: copies of its folder, many times, in real processes.

LARTPC_ROUNDS gives the number of rounds; `make test-attack` runs 20.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from processes import free_port, serve, stop
from searches import copy_running, finished, of_steps, train, tune, until

from lartpc_ray.terminal.command import INTERRUPTED
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tracking.store import StoreError, local_store
from lartpc_ray.train import owner, training
from lartpc_ray.train.owner import Owner, locks_are_shared, only_writer, owned
from lartpc_ray.train.training import train_trial
from lartpc_ray.trials.trial import Trial
from lartpc_ray.tune.study_plan import PLAN

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("LARTPC_ROUNDS", "4"))
PROMPT = {"RAY_worker_niceness": "0"}
"""Environment in which Ray's workers have the priority of other processes."""
WRITER = """
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train import owner

uri, host = sys.argv[1:]
socket.gethostname = lambda: host
owner.EVERY, owner.PATIENCE, owner.LOOK = 0.5, 4.0, 0.2
print("ready", flush=True)
locks = ExitStack()
for line in sys.stdin:
    if line == "end\\n":
        locks.close()
        print("ended", flush=True)
        continue
    folder = Path(line.strip())
    store = uri or f"sqlite:///{folder.parent.parent / 'mlflow.db'}"
    tracking = Tracking(folder.parent, "smoke", store)
    with ExitStack() as taken:
        try:
            taken.enter_context(owner.only_writer(tracking.uri, folder))
            tags = {"study": folder.name, "kind": "search"}
            run = ""
            if uri:
                start = lambda: tracking.start("search", tags)
                run = taken.enter_context(owner.owned(tracking, start, folder, tags))
        except ValueError as error:
            print(f"refused {error}", flush=True)
            continue
        print(f"owned {run}", flush=True)
        locks = taken.pop_all()
"""


class Writer:
    """A process that writes a study's runs, as if on a machine of its own.

    Args:
        folder: for its locks.
        uri: of the store; empty for a SQLite file.
        host: name of the machine.
    """

    def __init__(self, folder: Path, uri: str, host: str) -> None:
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)}
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", WRITER, uri, host]
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def ask(self, text: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def copies(folder: Path, study: str, count: int) -> list[Path]:
    """Make copies of a study's folder, each in a runs folder of its own."""
    made = [folder / f"runs{number}" / study for number in range(count)]
    for copy in made:
        copy.mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    started = serve(tmp_path_factory.mktemp("server"), port)
    yield f"http://127.0.0.1:{port}"
    stop(started)


def contend(writers: list[Writer], folders: list[Path]) -> Writer:
    """Let all writers open one run at once; return the one that owns it."""
    for writer, folder in zip(writers, folders, strict=True):
        writer.ask(folder)
    answers = [writer.answer() for writer in writers]
    holders = [
        writer
        for writer, answer in zip(writers, answers, strict=True)
        if answer.startswith("owned ")
    ]
    assert len(holders) == 1, answers
    for answer in answers:
        if not answer.startswith("owned"):
            assert answer.startswith("refused "), answer
            assert "give this copy of the folder another name" in answer
    return holders[0]


def check_one_run(uri: str, study: str) -> None:
    """Check that one run of a study is left, with one owner."""
    client = MlflowClient(tracking_uri=uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"tags.study = '{study}'")
    assert list(run.data.params) == ["owner/1"]


@pytest.mark.slow
def test_of_four_copies_with_one_sqlite_store_one_writes(tmp_path: Path) -> None:
    writers = [Writer(tmp_path / "locks", "", "here") for _ in range(4)]
    try:
        assert [writer.answer() for writer in writers] == ["ready"] * 4
        for number in range(ROUNDS):
            folders = copies(tmp_path, f"study-{number}", 4)
            holder = contend(writers, folders)
            holder.ask("end")
            assert holder.answer() == "ended"
            assert not list(tmp_path.glob("*.lock"))
        killed = contend(writers, folders)
        killed.kill()  # a resume goes on at once
        writers.remove(killed)
        writers[0].ask(folders[0])
        assert writers[0].answer().startswith("owned ")
    finally:
        for writer in writers:
            writer.kill()


@pytest.mark.slow
def test_of_four_machines_with_one_server_one_writes(tmp_path: Path, server: str) -> None:
    writers = [Writer(tmp_path / f"locks{one}", server, f"host{one}") for one in range(4)]
    try:
        assert [writer.answer() for writer in writers] == ["ready"] * 4
        for number in range(ROUNDS):
            folders = copies(tmp_path, f"study-{number}", 4)
            holder = contend(writers, folders)
            check_one_run(server, f"study-{number}")
            late = writers[writers.index(holder) - 1]
            late.ask(folders[0])  # the owner shows signs of life
            assert late.answer().startswith("refused ")
            holder.ask("end")
            assert holder.answer() == "ended"
            began = time.monotonic()
            late.ask(folders[0])  # which has ended properly
            assert late.answer().startswith("owned ")
            assert time.monotonic() - began < 4, "less than the patience"
            late.ask("end")
            assert late.answer() == "ended"
    finally:
        for writer in writers:
            writer.kill()


@pytest.mark.slow
def test_after_a_kill_the_same_machine_goes_on_at_once_and_another_one_soon(
    tmp_path: Path, server: str
) -> None:
    folder, copy = copies(tmp_path, "killed", 2)
    steps = [("host0", folder, 0.0), ("host0", folder, 0.0), ("host0", copy, 0.0)]
    for host, place, wait in [*steps, ("host1", copy, 4.0)]:
        writer = Writer(tmp_path / host, server, host)
        try:
            assert writer.answer() == "ready"
            began = time.monotonic()
            writer.ask(place)
            assert writer.answer().startswith("owned ")
            assert (time.monotonic() - began >= 4) == (wait > 0)
        finally:
            writer.kill()


def test_a_second_copy_on_this_machine_is_refused(tmp_path: Path) -> None:
    """Also for a server that is not asked at all; the lock is free again at once."""
    folder, copy = copies(tmp_path, "study", 2)
    for uri in ("http://127.0.0.1:1", local_store(tmp_path)):
        with (
            only_writer(uri, folder),
            pytest.raises(ValueError, match=rf"^{copy}: {folder} \(process {os.getpid()} on "),
            only_writer(uri, copy),
        ):
            pass
        with only_writer(uri, copy), only_writer(uri, copy.parent / "another name"):
            pass
    assert not list(tmp_path.glob("*.lock"))


def test_a_copy_waits_for_a_sign_of_life_from_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has died, one that has ended, one that lives, and a claim at the same time."""
    monkeypatch.setattr(owner, "EVERY", 0.02)
    monkeypatch.setattr(owner, "PATIENCE", 0.3)
    monkeypatch.setattr(owner, "LOOK", 0.05)
    (folder,) = copies(tmp_path, "study", 1)
    tracking = Tracking(tmp_path, "smoke")
    tags = {"study": "study", "kind": "search"}
    run = tracking.start("search", tags)
    there = replace(Owner.of(folder), host="elsewhere", process=1)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "of", lambda _: there)
        owner._claim(tracking, run, folder)
    with (
        owned(tracking, lambda: run, folder, tags),
        monkeypatch.context() as patch,
    ):  # it gave no sign
        patch.setattr(Owner, "of", lambda _: there)
        with pytest.raises(ValueError, match=rf"{folder} \(process {os.getpid()} on "):
            owner._claim(tracking, run, folder)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(owner, "_changes", None)  # the end is known without a look
        patch.setattr(Owner, "of", lambda _: there)
        assert owner._claim(tracking, run, folder) == 3
    assert time.monotonic() - began < 1


def test_of_two_claims_at_once_one_is_refused_and_a_deleted_run_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = copies(tmp_path, "study", 1)
    tracking = Tracking(tmp_path, "smoke")
    tags = {"study": "study", "kind": "search"}
    run = tracking.start("search", tags)
    with monkeypatch.context() as patch:
        there = replace(Owner.of(folder), host="elsewhere", process=1)
        patch.setattr(Owner, "of", lambda _: there)
        assert owner._claim(tracking, run, folder) == 1
    with monkeypatch.context() as patch:
        read = iter([(0, None, ""), (1, there, "")])
        patch.setattr(owner, "_read", lambda *_: next(read))
        with pytest.raises(ValueError, match="process 1 on elsewhere"):
            owner._claim(tracking, run, folder)
    gone = tracking.client.create_run(tracking.experiment).info.run_id
    tracking.client.delete_run(gone)
    assert owner._claim(tracking, gone, folder) == 0
    offered = iter([gone, run])
    tracking.set_tags(run, {owner.BEAT: owner.ENDED})
    assert owner._own(tracking, lambda: next(offered), folder, tags) == (run, 2)


def test_a_run_that_is_deleted_between_its_finding_and_its_start_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker deletes it where a second process has made one, too."""
    (folder,) = copies(tmp_path, "study", 1)
    tracking = Tracking(tmp_path, "smoke")
    tags = {"study": "study", "kind": "search"}
    found = tracking.start("search", tags)
    update = tracking.client.update_run

    def delete_first(run: str, **status: str) -> None:
        tracking.client.delete_run(run)
        update(run, **status)

    with monkeypatch.context() as patch:
        patch.setattr(tracking.client, "update_run", delete_first)
        run, number = owner._own(tracking, lambda: tracking.start("search", tags), folder, tags)
    assert (run != found, number) == (True, 1)
    with pytest.raises(StoreError, match="must be in the 'active' state"):
        owner._own(tracking, lambda: update(found, status="RUNNING") or found, folder, tags)


def test_a_process_decides_before_a_copy_that_found_its_run_gives_up_its_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has made a run, too, and has died before it decided."""
    (folder,) = copies(tmp_path, "study", 1)
    tracking = Tracking(tmp_path, "smoke")
    tags = {"study": "study", "kind": "search"}
    runs = [
        str(tracking.client.create_run(tracking.experiment, tags=tags).info.run_id)
        for _ in range(2)
    ]
    for run in runs:
        owner._claim(tracking, run, folder)
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda wait: now.__setitem__(0, now[0] + wait)
    )
    monkeypatch.setattr(owner, "time", clock)
    assert owner._is_only_run(tracking, min(runs), folder, tags)
    assert now[0] < owner.PATIENCE - 10 * owner.LOOK


def test_a_training_owns_its_run_on_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy on another machine is refused; it goes on in the same run after the end."""
    monkeypatch.setattr(owner, "EVERY", 0.02)
    monkeypatch.setattr(owner, "PATIENCE", 0.5)
    monkeypatch.setattr(owner, "LOOK", 0.05)
    monkeypatch.setattr(Tracking, "local", False)
    monkeypatch.setattr(training, "only_writer", lambda *_: nullcontext())  # of another machine
    folder, copy = copies(tmp_path, "smoke-1", 2)
    tracking = Tracking(tmp_path, "smoke")
    with training._only_training(folder, tracking), monkeypatch.context() as patch:
        there = replace(Owner.of(copy), host="elsewhere", process=1)
        patch.setattr(Owner, "of", lambda _: there)
        with (
            pytest.raises(ValueError, match=rf"^{copy}: {folder} \(process {os.getpid()} on "),
            training._only_training(copy, tracking),
        ):
            pass
    with pytest.raises(KeyboardInterrupt), training._only_training(copy, tracking):
        raise KeyboardInterrupt
    (run,) = tracking.client.search_runs([tracking.experiment])
    assert run.info.status == "KILLED"
    assert set(run.data.params) == {"owner/1", "owner/2"}
    assert run.data.tags[owner.BEAT] == owner.ENDED
    with pytest.raises(OSError, match="EIO"), training._only_training(copy, tracking):
        raise OSError(5, "EIO")
    assert tracking.client.get_run(run.info.run_id).info.status == "FAILED"


def test_a_training_asks_its_store_before_it_trains(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    trial = Trial()
    with pytest.raises(StoreError, match="not a database"):
        train_trial(trial, name="smoke", runs=tmp_path)
    assert not list(tmp_path.glob("smoke-*"))


def test_free_locks_prove_the_end_of_an_owner(tmp_path: Path) -> None:
    here = Owner.of(tmp_path)
    copy = replace(here, place=(1, 1), folder="/copy")
    assert here.has_left(here)
    assert here.has_left(copy), "the lock of the writers on this machine"
    other = replace(copy, writers="/tmp/job 5")
    assert not here.has_left(other)
    assert here.has_left(replace(here, writers="/job")), "the lock of the folder"
    requeued = replace(here, host="node2", place=(here.place[0], 99))
    assert not here.has_left(requeued), "a disk whose locks hold on one machine"
    assert replace(here, shared=True).has_left(replace(requeued, shared=True))
    assert not replace(here, shared=True).has_left(replace(copy, host="b", shared=True))


@pytest.mark.parametrize(
    ("mount", "shared"),
    [
        ("server:/home /home nfs4 rw,relatime,vers=4.2,local_lock=none 0 0", True),
        ("server:/home /home nfs rw,vers=3,local_lock=all 0 0", False),
        ("server:/home /home nfs rw,nolock 0 0", False),
        ("o2ib:/home /home lustre rw,flock 0 0", True),
        ("o2ib:/home /home lustre rw,localflock 0 0", False),
        ("/dev/sda1 /home ext4 rw 0 0", False),
        ("server:/home /home/me/x nfs4 rw 0 0", False),
    ],
)
def test_the_mount_decides_whether_locks_hold_on_all_machines(
    tmp_path: Path, mount: str, shared: bool
) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\n{mount}\n")
    assert locks_are_shared(Path("/home/me/runs/study"), tmp_path / "mounts") == shared


@pytest.mark.slow
def test_a_copy_of_a_running_study_is_refused_and_goes_on_after_its_kill(
    tmp_path: Path, server: str, few_events: Path
) -> None:
    """The copy goes on in the runs of MLflow that the killed search has begun."""
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    runs.mkdir()
    elsewhere.mkdir()
    begun = (*of_steps(2000, 20, few_events), "--tracking-uri", server)
    search = tune(runs, *begun, variables=PROMPT)
    try:
        until(search, r"trial 0 +20 steps")
        (folder,) = (path.parent for path in runs.glob(f"*/{PLAN}"))
        copy = copy_running(folder, elsewhere)
        status, _, err = finished(tune(elsewhere, "--resume", str(copy)))
        assert status == 2, err
        line = err.strip().splitlines()[-1]
        assert f"{copy}: {folder} (process {search.pid} on " in line
    finally:
        search.kill()
        search.communicate()
    search = tune(elsewhere, "--resume", str(copy), variables=PROMPT)
    try:
        until(search, r"trial \d +\d+ steps")
        search.send_signal(signal.SIGINT)
        status, _, err = finished(search)
    finally:
        search.kill()
    assert status == INTERRUPTED, err
    assert "has not ended it" not in err
    client = MlflowClient(tracking_uri=server)
    (experiment,) = [one for one in client.search_experiments() if one.name == "smoke"]
    tagged = f"tags.study = '{folder.name}'"
    found = client.search_runs([experiment.experiment_id], tagged)
    kinds = [run.data.tags.get("trial", "search") for run in found]
    assert len(kinds) == len(set(kinds)), kinds
    (parent,) = (run for run in found if "trial" not in run.data.tags)
    assert {"owner/1", "owner/2"} <= set(parent.data.params)
    assert parent.data.tags[owner.BEAT] == owner.ENDED


@pytest.mark.slow
def test_a_copy_of_a_running_training_is_refused_and_goes_on_after_an_interruption(
    tmp_path: Path, server: str, few_events: Path
) -> None:
    """The refused copy stands for one on another machine: it has locks of its own."""
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    runs.mkdir()
    elsewhere.mkdir()
    there = PROMPT | {"RAY_TMPDIR": str(elsewhere)}
    first = train(runs, *of_steps(20_000, 20, few_events), "--tracking-uri", server)
    try:
        until(first, r"step +20 ")
        (folder,) = (path.parent for path in runs.glob("*/job.json"))
        copy = copy_running(folder, elsewhere)
        status, _, err = finished(train(elsewhere, "--resume", str(copy), variables=there))
        assert status == 2, err
        assert f"{copy}: {folder} (process {first.pid} on " in err.strip().splitlines()[-1]
    finally:
        first.send_signal(signal.SIGINT)
        finished(first)
    again = train(elsewhere, "--resume", str(copy), variables=PROMPT)
    try:
        until(again, r"step +\d+ ")
        again.send_signal(signal.SIGINT)
        status, _, err = finished(again)
    finally:
        again.kill()
    assert status == INTERRUPTED, err
    client = MlflowClient(tracking_uri=server)
    (experiment,) = [one for one in client.search_experiments() if one.name == "smoke"]
    (run,) = client.search_runs([experiment.experiment_id], f"tags.study = '{folder.name}'")
    assert {"owner/1", "owner/2"} == set(run.data.params)
    assert (run.info.status, run.data.tags[owner.BEAT]) == ("KILLED", owner.ENDED)
