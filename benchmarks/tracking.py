"""What MLflow costs: a trial trained with and without logging, by turns; 64 trials compared.

python benchmarks/tracking.py --repeats 5
python benchmarks/tracking.py --compare          # needs chromium and playwright
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lartpc_ray.runtime.resources import Machine
from lartpc_ray.tracking.provenance import sources, tags
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.loop import train
from lartpc_ray.trials.paths import key_settings, make_trial
from lartpc_ray.trials.trial import Trial

SEARCHED = ("network.depth", "network.filters", "optimizer.learning_rate")


def trained(trial: Trial, folder: Path, *, logged: bool) -> float:
    """Seconds of a trial from its start to its last step, as a search logs it."""
    tracking, machine = Tracking(folder, "study"), Machine(folder)
    found = sources(trial.data.splits, folder)
    began = time.perf_counter()
    run = ""
    if logged:
        run = tracking.start("trial 0", {"trial": str(time.time_ns())})
        tracking.log_params(run, key_settings(trial, SEARCHED))
        tracking.set_tags(run, tags(trial, found))
        tracking.log_datasets(run, found)
        tracking.log_text(run, trial.model_dump_json(indent=1), "trial.json")
        tracking.describe(run, "a trial")
        tracking.logged(run, "objective")

    def report(numbers: dict[str, float]) -> None:
        if logged:
            tracking.log_metrics(run, numbers | machine.read(), int(numbers["step"]))

    with tempfile.TemporaryDirectory() as scratch:
        train(trial, Path(scratch), report)
    if logged:
        tracking.finish(run)
    return time.perf_counter() - began


def cost(trial: Trial, repeats: int) -> None:
    """Print the medians of paired trials."""
    with tempfile.TemporaryDirectory() as scratch:
        trained(trial, Path(scratch), logged=True)  # the first makes the store
        pairs = [
            [trained(trial, Path(scratch), logged=logged) for logged in (False, True)]
            for _ in range(repeats)
        ]
    without, logged = (statistics.median(column) for column in zip(*pairs, strict=True))
    more = statistics.median(one[1] / one[0] - 1 for one in pairs)
    print(f"trial of {trial.optimizer.steps} steps: {without:.1f} s, logged {logged:.1f} s")
    print(f"logging costs {100 * more:+.2f} % (median of {repeats} pairs)")


def store(folder: Path, trials: int) -> tuple[Tracking, list[str]]:
    """Fill a store with a search of `trials` trials, of 20 validations each."""
    tracking, rng = Tracking(folder, "study"), np.random.default_rng(0)
    search = tracking.start("study-1", {"study": "study-1", "kind": "search"})
    runs = []
    for number in range(trials):
        trial = make_trial(
            {
                "network.depth": int(rng.integers(5, 8)),
                "network.filters": int(rng.choice([8, 12, 16])),
                "optimizer.learning_rate": float(10 ** rng.uniform(-3, -2)),
            }
        )
        run = tracking.start(f"trial {number}", {"trial": str(number)}, search)
        tracking.log_params(run, key_settings(trial, SEARCHED))
        for step in range(20):
            names = (
                "objective",
                "loss",
                "MIP/ari",
                "HIP/ari",
                "MIP/s0",
                "MIP/p0",
                "seconds_a_step",
            )
            tracking.log_metrics(run, {name: float(rng.random()) for name in names}, 100 * step)
        tracking.finish(run)
        runs.append(run)
    tracking.finish(search)
    return tracking, runs


def compare(trials: int, repeats: int) -> None:
    """Print how long the compare page takes until its table and its picture stand."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch:
        tracking, runs = store(Path(scratch), trials)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--workers", "1", "--port", str(port), "--backend-store-uri", tracking.uri]
        quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        null = subprocess.DEVNULL
        server = subprocess.Popen(command, env=quiet, stdout=null, stderr=null)
        try:
            began = time.perf_counter()
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
            print(f"MLflow's server answers after {time.perf_counter() - began:.1f} s")
            ids = quote(json.dumps(runs, separators=(",", ":")))
            place = f"http://127.0.0.1:{port}/#/compare-runs?runs={ids}"
            place += f"&experiments={quote(json.dumps([tracking.experiment]))}"
            times = []
            with sync_playwright() as playwright:
                flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync"]
                path = shutil.which("chromium")
                browser = playwright.chromium.launch(executable_path=path, args=flags)
                person = browser.new_context()  # who keeps what was loaded once
                for _ in range(repeats + 1):
                    page = person.new_page()
                    page.set_default_timeout(120_000)
                    began = time.perf_counter()
                    page.goto(place)
                    page.get_by_text(f"Comparing {trials} Runs").wait_for()
                    page.locator(".main-svg").first.wait_for()
                    page.get_by_text("Show diff only").first.wait_for()
                    times.append(time.perf_counter() - began)
                    page.close()
                browser.close()
        finally:
            server.terminate()
            server.wait(30)
    first, *later = times
    shown = ", ".join(f"{one:.1f}" for one in later)
    print(f"compare page of {trials} trials: {first:.1f} s in a browser that never saw MLflow,")
    print(f"  then median {statistics.median(later):.1f} s ({shown})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of a trial")
    parser.add_argument("--trials", type=int, default=64, help="of the compare page")
    parser.add_argument("--compare", action="store_true", help="time the compare page instead")
    options = parser.parse_args()
    if options.compare:
        compare(options.trials, options.repeats)
        return
    steps = options.steps
    values = {"network.depth": 5, "network.filters": 12, "network.blocks": 1}
    values |= {"optimizer.steps": steps, "optimizer.evaluate_every": steps // 2}
    cost(make_trial(values | {"task.coordinates": True, "data.batch_events": 2}), options.repeats)


if __name__ == "__main__":
    main()
