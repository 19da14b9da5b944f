"""Data-parallel training, the overhead of Ray Train, and a search of short trials.

`python benchmarks/scaling.py --part ddp --part overhead --part trials` prints them.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.loader import batches
from lartpc_ray.data.splits import Split, sample
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.train.loop import train
from lartpc_ray.train.workers import trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Trial

ROOT = Path(__file__).parents[1]


def few(folder: Path) -> Path:
    """Write the sample's training events, and one event for each other split."""
    counts: dict[Split, range | None] = {"train": None, "tune": range(1), "test": range(1)}
    for split, indices in counts.items():
        write_events(folder / f"{split}.h5", read_events(sample(split), indices=indices))
    return folder


def training(
    data: Path, options: argparse.Namespace, workers: int = 1, events: int | None = None
) -> Trial:
    """Trial 0 of a budget on cores, validated four times."""
    settings = {
        "data.splits.path": str(data),
        "data.batch_events": events or options.batch,
        "optimizer.steps": options.steps,
        "optimizer.evaluate_every": max(1, options.steps // 4),
        "optimizer.batchnorm_batches": 0,
        "resources.workers": workers,
        "resources.gpus": 0.0,
    }
    return read_space(find_space("clustering"), options.budget, settings).first_trial()


def of_checkpoint(folder: Path, trial: Trial) -> list[float]:
    """Seconds a step between validations; the first, in which all is warmed up, left out."""
    state = checkpoints.newest(folder, trial)
    assert state is not None
    return [numbers["seconds_a_step"] for numbers in state.history[1:]]


def by_loop(trial: Trial, folder: Path) -> list[float]:
    train(trial, folder, lambda _: None)
    return of_checkpoint(folder, trial)


def by_ray_train(trial: Trial, folder: Path) -> list[float]:
    with ray_session(trial.resources.workers, dashboard=False):
        labels = {"study": "scaling", "trial": "0"}
        trainer(trial, folder, folder / "ray", folder / "notes.txt", [], labels).fit()
    return of_checkpoint(folder, trial)


def by_torch(trial: Trial, folder: Path) -> list[float]:
    """Train the same network on the same events in a plain torch loop."""
    torch.set_num_threads(trial.resources.cpus)
    network = trial.make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=trial.optimizer.learning_rate)
    source = batches(trial.data.splits.events("train"), trial.data, trial.task.prepare)
    found = []
    for first in range(0, trial.optimizer.steps, trial.optimizer.evaluate_every):
        began = time.perf_counter()
        for step in range(first, first + trial.optimizer.evaluate_every):
            batch = next(source)
            features, frozen = trial.task.features(batch), trial.task.frozen(step)
            predicted = network(batch.coords, features, batch.shape, batch.event, frozen)
            loss = trial.task.criterion(predicted, batch, step)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            optimizer.step()
        found.append((time.perf_counter() - began) / trial.optimizer.evaluate_every)
    return found[1:]


def overhead(options: argparse.Namespace) -> None:
    ways = {"plain torch loop": by_torch, "this loop": by_loop, "Ray Train": by_ray_train}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        trial = training(few(Path(scratch)), options)
        for repeat in range(options.repeats):
            for name, way in ways.items():
                found[name] += way(trial, Path(scratch) / f"{name} {repeat}")
    plain = statistics.median(found["plain torch loop"])
    for name, times in found.items():
        median = statistics.median(times)
        print(f"  {name:<20}{1000 * median:>8.1f} ms a step{100 * (median / plain - 1):>+8.1f} %")


def ddp(options: argparse.Namespace) -> None:
    """Time steps of a fixed number of events, and steps that grow with the workers."""
    sizes = [(count, options.batch * more) for count in options.workers for more in {1, count}]
    found: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as scratch:
        data = few(Path(scratch))
        for repeat in range(options.repeats):
            for (count, events), times in found.items():
                trial = training(data, options, count, events)
                times += by_ray_train(trial, Path(scratch) / f"{count} {events} {repeat}")
    rates = {size: size[1] / statistics.median(times) for size, times in found.items()}
    one = rates[sizes[0]] / sizes[0][0]
    for (count, events), rate in rates.items():
        share = f"efficiency {100 * rate / one / count:.0f} %"
        print(
            f"  {count:>3} workers, {events:>3} events a step{rate:>8.1f} events a second, {share}"
        )


def trials(options: argparse.Namespace) -> None:
    """Compare the times of a search's lines with the work in its checkpoints."""
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        space = short(runs, f"trials: {options.short}, steps: 2, min_steps: 2")
        settings = ("optimizer.evaluate_every=2", "optimizer.batchnorm_batches=0")
        more = [text for one in settings for text in ("--set", one)]
        command = [sys.executable, "-u", "-m", "lartpc_ray.tune", str(space), "--budget", "smoke"]
        command += ["--data", str(few(runs)), "--runs", scratch, *more]
        search = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        times: dict[str, dict[int, float]] = defaultdict(dict)
        began = time.perf_counter()
        for line in search.stderr or ():
            if told := re.match(r"trial (\d+)  (\S+) steps .* (running|done)\b", line):
                name = {"-": "start"}.get(told[2], "report" if told[3] == "running" else "end")
                times[name].setdefault(int(told[1]), time.perf_counter())
        if search.wait():
            raise RuntimeError("the search failed; run it by hand")
        (folder,) = runs.glob("*/trials")
        work = [_work(folder / str(number)) for number in range(options.short)]
    later = range(1, options.short)
    between = [times["start"][one] - times["end"][one - 1] for one in later]
    starting = [times["report"][one] - times["start"][one] - work[one] for one in later]
    whole = times["end"][later[-1]] - times["end"][0]
    first = times["report"][0] - began - work[0]
    print(f"  the first trial, from the command to its first number: {first:.1f} s")
    print(f"  one ends, the next starts (sampler, scheduler, MLflow): {_middle(between)}")
    print(f"  start-up of a trial after the first: {_middle(starting)}")
    print(f"  overhead a trial, all told: {(whole - sum(work[1:])) / len(later):.2f} s")


def short(folder: Path, budget: str) -> Path:
    """Write the smoke study with another budget of that name."""
    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    path = folder / "short.yaml"
    path.write_text(re.sub(r"smoke: \{.*\}", f"smoke: {{{budget}}}", text))
    return path


def _work(folder: Path) -> float:
    """Seconds that a trial trained and validated on one event."""
    (file,) = folder.glob("step-*.pt")
    (numbers,) = checkpoints.load(file).history
    return numbers["seconds_a_step"] * numbers["step"] + numbers["seconds_an_event"]


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s (at most {max(values):.2f})"
