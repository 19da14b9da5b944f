"""What one command of train or tune is: its arguments, its folder, its Ray, how it is stopped."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, get_args

import ray
import torch

from lartpc_ray import live
from lartpc_ray.command import Parser, say
from lartpc_ray.data.splits import Split
from lartpc_ray.loop import ASKED
from lartpc_ray.space import BudgetName, Space, budgets, find_space, parse_setting, read_space
from lartpc_ray.trial import Trial

LOCK = "lock"
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that stop a run; a scheduler sends the last one before a time limit."""
PATIENCE = 20.0
"""Seconds that a stop waits for checkpoints; SLURM kills 30 s after its SIGTERM."""


def study_parser(name: str, about: str, example: str) -> Parser:
    """The arguments that choose a study: shared by train and tune."""
    parser = Parser(name, about, example)
    parser.add_argument("study", metavar="NAME", help="search_spaces/NAME.yaml, or a path to one")
    parser.add_argument("--budget", choices=get_args(BudgetName), help="default: gpu or laptop")
    parser.add_argument("--data", help="folder with train, tune, test .h5 files, or one .h5 file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="fix a setting")
    parser.add_argument("--workers", type=int, help="data-parallel workers a trial")
    parser.add_argument("--seed", type=int, help="seed of the search and of every trial")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    parser.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="folder of a run to go on with")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--dashboard", action="store_true", help="start Ray's dashboard (1 GB)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, run nothing")
    return parser


def chosen_space(options: argparse.Namespace) -> Space:
    """The space that the arguments choose; says which budget it took where none was named."""
    budget = options.budget
    if budget is None:
        budget = "gpu" if torch.cuda.is_available() else "laptop"
        known = budgets(find_space(options.study))
        budget = budget if budget in known else next(iter(known))
        say(f"budget: {budget} ({known[budget]}); --budget chooses another")
    overrides = dict(parse_setting(text) for text in options.set)
    named = {
        "data.splits.path": options.data and str(Path(options.data).resolve()),
        "resources.workers": options.workers,
        "seed": options.seed,
        "data.seed": options.seed,
    }
    overrides |= {key: value for key, value in named.items() if value is not None}
    return read_space(find_space(options.study), budget, overrides)


def read_splits(trial: Trial) -> None:
    """Open every split and read its first event, before any worker starts.

    Raises:
        ValueError: naming the file, the event and what is wrong.
    """
    for split in get_args(Split):
        trial.task.prepare(trial.data.splits.events(split)[0])


class Stopping:
    """On one of `STOPS`: checkpoint, then stop.

    A second signal stops at once.

    Args:
        folders: of the runs that are asked for a checkpoint.
        stop: stops; a handler of signals.
    """

    def __init__(self, folders: Callable[[], list[Path]], stop: Callable[[int, Any], Any]) -> None:
        self._folders = folders
        self._stop = stop
        self._asking: threading.Thread | None = None

    def install(self) -> None:
        """Take the signals; only in the main thread."""
        for number in STOPS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: Any) -> None:
        if self._asking:
            self._stop(number, frame)
            return
        say("stopping at the next step, with a checkpoint; a second signal stops at once")
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def _ask(self) -> None:
        asked = [folder / ASKED for folder in self._folders() if folder.is_dir()]
        for file in asked:
            file.touch()
        deadline = time.monotonic() + PATIENCE
        while any(file.exists() for file in asked) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)


def interruptible() -> None:
    """From now on `STOPS` end what runs, as Ctrl-C does; only the main thread can say so."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def ray_runs(cpus: int | None = None, *, dashboard: bool) -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one here, on loopback and quiet.

    Once a command, from before its work until all of it is done: threads of Ray outlive its end,
    and a driver that went on, and started Ray again, was seen to crash in one of them.

    Args:
        cpus: cores of a local one; all by default.
        dashboard: Ray's, of a local one: 1 GB and some seconds. Needed wherever Tune stops trials
            of several workers, for it frees what they held.

    Raises:
        RuntimeError: where Ray does not start.
    """
    interruptible()
    try:
        _start_ray(cpus, dashboard)
        yield
    finally:
        _end_ray()


def _start_ray(cpus: int | None, dashboard: bool) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    where: dict[str, Any] = {"address": "auto"}
    if not os.environ.get("RAY_ADDRESS"):
        where = {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
    # Ray prints why a node was lost where results are printed, log_to_driver or not
    ray._private.worker._worker_logs_enabled = False
    for again in (True, True, False):
        try:
            context = ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            interruptible()  # Ray took SIGTERM
            break
        except Exception as error:
            ray.shutdown()
            if not again or "timed out" not in str(error):
                raise RuntimeError(f"Ray does not start: {error}") from error
            say("Ray did not start in the 30 s that it gives itself (a busy machine?); once more")
    if not (dashboard or os.environ.get("RAY_ADDRESS")):
        live.announce(Path(context.address_info["session_dir"]))  # type: ignore[attr-defined]


def _end_ray() -> None:
    """End Ray; `STOPS` are Ctrl-C from now on.

    In the second that it takes Ray leaves SIGTERM to the system, which kills without a word.
    """
    ending = threading.Thread(target=ray.shutdown)
    ending.start()
    while ending.is_alive():
        interruptible()
        ending.join(0.01)
    interruptible()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder of a run, for this process alone; the system gives it back when the process ends.

    Raises:
        ValueError: where another process has it, naming that process.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"{folder}: in use by {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def new_folder(runs: Path, name: str) -> Path:
    """A name for the folder of a new run, which is also its name in MLflow.

    The time is for people. The rest tells apart what begins in one second, on several machines or
    where a clock was set back.
    """
    return runs.resolve() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


def reopened(options: argparse.Namespace, name: str) -> tuple[Path, dict[str, Any]]:
    """The folder that `--resume` names, as it is or under RUNS, and what was planned in it.

    Raises:
        ValueError: where there is no such plan.
    """
    given: Path = options.resume
    folder = (given if given.exists() else options.runs / given).resolve()
    if not (folder / name).is_file():
        raise ValueError(f"{folder}: no study to resume here (no {name})")
    plan: dict[str, Any] = json.loads((folder / name).read_text())
    return folder, plan
