"""Time the report page of 1,000 trials.

    python benchmarks/page.py [--trials 1000]

The study is made up: nine searched settings and three validations per trial, in a local MLflow
store. `report NAME --html` then runs in its own process. `--network RUN --runs RUNS` gives the best
trial the checkpoint and the result of a run of a real study, and times that page too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from lartpc_ray.report.search_plots import distribution
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.runs import NAMES, Tracking
from lartpc_ray.trials.checkpoint import FILE
from lartpc_ray.trials.recorded import searched
from lartpc_ray.trials.shipped import shipped


def make_study(runs: Path, trials: int) -> str:
    """Write a search of some trials; return the id of the run of trial 0."""
    rng = np.random.default_rng(0)
    text = (shipped("search_spaces") / "clustering.yaml").read_text()
    distributions = {path: distribution(*entry) for path, entry in searched(text).items()}
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    tracking = Tracking(runs, "clustering")
    search = tracking.start("made up", {"study": "made up", "kind": "search"})
    tracking.log_text(search, text, "clustering.yaml")
    tracking.set_tags(search, {NAMES: json.dumps(short_names(distributions))})
    ids = []
    for index in range(trials):
        run = tracking.start(f"trial {index}", {"study": "made up", "trial": str(index)}, search)
        tracking.log_params(run, sampler.ask(distributions).params)
        for step in (100, 200, 300):
            numbers = {"objective": rng.random() * step / 300, "seconds_an_event": rng.random()}
            tracking.log_metrics(run, numbers, step)
        tracking.finish(run)
        ids.append(run)
    tracking.finish(search)
    return ids[0]


def lend_network(runs: Path, run: str, source: Path, network: str) -> None:
    """Give a run the checkpoint and the result of another run."""
    origin, tracking = Tracking(source, None), Tracking(runs, "clustering")
    with tempfile.TemporaryDirectory() as scratch:
        for name in (FILE, "verdict.json"):
            tracking.log_artifact(run, origin.fetch(network, name, Path(scratch)))
    tracking.set_tags(run, {"best": "true"})


def time_page(runs: Path) -> str:
    """Return the time that the command takes, and the size of the page."""
    page = runs / "page.html"
    command = [sys.executable, "-m", "lartpc_ray.report", "clustering", "--runs", str(runs)]
    start = time.perf_counter()
    subprocess.run([*command, "--html", str(page)], check=True)
    return f"{time.perf_counter() - start:.1f} s, {page.stat().st_size / 1e6:.1f} MB"


def main() -> None:
    """Write the study and its pages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--network", help="id of a run of a real clustering study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where that run is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = make_study(Path(folder), options.trials)
        print("page of the trials alone:", time_page(Path(folder)))
        if options.network:
            lend_network(Path(folder), first, options.runs, options.network)
            print("page with a network:", time_page(Path(folder)))


if __name__ == "__main__":
    main()
