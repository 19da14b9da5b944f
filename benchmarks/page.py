"""How long the report page of 1,000 trials takes: python benchmarks/page.py [--trials 1000]

A made-up study in a local MLflow store, each trial with nine searched settings and three
validations; then `report NAME --html` in a process of its own. With `--network RUN --runs RUNS` of
a real study once more: that run's verdict and checkpoint stand for those of the best trial.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.runs import NAMES, Tracking
from lartpc_ray.trials.checkpoint import FILE
from lartpc_ray.trials.space import shipped
from lartpc_ray.trials.space_file import searched


def study(runs: Path, trials: int) -> list[str]:
    """A search of `trials` trials; the ids of its runs."""
    rng = np.random.default_rng(0)
    text = (shipped("search_spaces") / "clustering.yaml").read_text()
    tracking = Tracking(runs, "clustering")
    search = tracking.start("made up", {"study": "made up", "kind": "search"})
    tracking.log_text(search, text, "clustering.yaml")
    made = []
    for number in range(trials):
        tags = {"study": "made up", "trial": str(number)}
        run = tracking.start(f"trial {number}", tags, search)
        values = {path: drawn(rng, *of) for path, of in searched(text).items()}
        tracking.set_tags(search, {NAMES: json.dumps(short_names(values))})
        tracking.log_params(run, values)
        for step in (100, 200, 300):
            numbers = {"objective": rng.random() * step / 300, "seconds_an_event": rng.random()}
            tracking.log_metrics(run, numbers, step)
        tracking.finish(run)
        made.append(run)
    tracking.finish(search)
    return made


def drawn(rng: np.random.Generator, kind: str, values: list[Any]) -> object:
    """A value of a searched setting."""
    if kind in ("choice", "grid"):
        return values[rng.integers(len(values))]
    if kind == "int":
        return int(rng.integers(values[0], values[1] + 1))
    ends = np.array(values, float)
    low, high = np.log(ends) if kind == "log" else ends
    value = rng.uniform(low, high)
    return float(np.exp(value) if kind == "log" else value)


def lend(runs: Path, run: str, of: Path, network: str) -> None:
    """Give a run the verdict and the network of another."""
    there, here = Tracking(of, None), Tracking(runs, "clustering")
    with tempfile.TemporaryDirectory() as scratch:
        for name in (FILE, "verdict.json"):
            here.log_artifact(run, there.fetch(network, name, Path(scratch)))
    here.set_tags(run, {"best": "true"})


def timed(runs: Path) -> tuple[float, float]:
    """Seconds that the command takes, and the size of the page in MB."""
    page = runs / "page.html"
    command = [sys.executable, "-m", "lartpc_ray.report", "clustering", "--runs", str(runs)]
    began = time.perf_counter()
    subprocess.run([*command, "--html", str(page)], check=True)
    return time.perf_counter() - began, page.stat().st_size / 1e6


def main() -> None:
    made = argparse.ArgumentParser()
    made.add_argument("--trials", type=int, default=1000)
    made.add_argument("--network", help="id of a run of a real clustering study")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where that run is kept")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        began = time.perf_counter()
        ids = study(runs, options.trials)
        print(f"{options.trials} trials written in {time.perf_counter() - began:.0f} s")
        print("page of the trials alone: {:.1f} s, {:.1f} MB".format(*timed(runs)))
        if options.network:
            lend(runs, ids[0], options.runs, options.network)
            print("page with a network: {:.1f} s, {:.1f} MB".format(*timed(runs)))


if __name__ == "__main__":
    main()
