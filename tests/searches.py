"""Searches in processes of their own, and their runs in MLflow."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

ROOT = Path(__file__).parents[1]


def tune(
    runs: Path, *more: str, study: str = "smoke", variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return _run("tune", runs, study, *more, variables=variables)


def train(
    runs: Path, *more: str, study: str = "smoke", variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return _run("train", runs, study, *more, variables=variables)


def _run(
    name: str, runs: Path, study: str, *more: str, variables: Mapping[str, str] | None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"lartpc_ray.{name}", study, "--runs", str(runs), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environment |= variables or {}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=runs)


def of_steps(steps: int, every: int, events: Path) -> tuple[str, ...]:
    """Give the options of a search with two trials at a time on few events."""
    settings = (f"steps={steps}", f"evaluate_every={every}", "batchnorm_batches=2")
    words = [word for setting in settings for word in ("--set", f"optimizer.{setting}")]
    return ("--budget", "laptop", "--data", str(events), *words)


def until(process: subprocess.Popen[str], pattern: str) -> None:
    """Read what a search says until it says this."""
    deadline = time.monotonic() + 600
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(pattern, line):
            return
        assert time.monotonic() < deadline, pattern
    raise AssertionError(f"it ended before {pattern!r}")


def copy_running(folder: Path, into: Path) -> Path:
    """Copy the folder of a running search or training, whose old checkpoints may go meanwhile."""
    ignore = shutil.ignore_patterns("*.part*", "ray", "checkpoint-now", "*.new")
    for _ in range(10):
        try:
            return Path(shutil.copytree(folder, into / folder.name, ignore=ignore))
        except shutil.Error:
            shutil.rmtree(into / folder.name)
    raise AssertionError(f"{folder}: its files change all the time")


def finished(process: subprocess.Popen[str], limit: float = 600) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=limit)
    finally:
        process.kill()
    return process.returncode, out, err


def mlflow_runs(runs: Path) -> dict[str, list[Run]]:
    """Return the runs by study, or by name without the objective."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    named: dict[str, list[Run]] = {}
    for run in found:
        tags = run.data.tags
        name = tags["study"] if tags.get("kind") == "search" else run.info.run_name
        named.setdefault(name.partition(" · ")[0], []).append(run)
    return named


def best_of(named: Mapping[str, list[Run]]) -> Run:
    """Return the trial that is tagged as the best."""
    (found,) = [run for runs in named.values() for run in runs if "best" in run.data.tags]
    return found


def registered(runs: Path) -> dict[str, ModelVersion]:
    """Alias to the version of the study's model that has it."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    aliases = client.get_registered_model("smoke").aliases
    return {alias: client.get_model_version("smoke", aliases[alias]) for alias in aliases}


def checked(runs: Path, study: str, trials: int) -> None:
    """One run a trial in MLflow, ended, with one number a step."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    named = mlflow_runs(runs)
    expected = {study: 1} | {f"trial {number}": 1 for number in range(trials)}
    named = {name: one for name, one in named.items() if "class" not in one[0].data.tags}
    (thresholds,) = (name for name in named if name.startswith("thresholds "))
    assert len(named.pop(thresholds)) == 1
    assert len(client.search_model_versions("name = 'smoke'")) <= 2, "registered once"
    assert {name: len(found) for name, found in named.items()} == expected
    for name, (found,) in named.items():
        assert found.info.status == "FINISHED", name
        if name != study:
            objectives = client.get_metric_history(found.info.run_id, "objective")
            steps = [one.step for one in objectives]
            assert steps == sorted(set(steps)), f"{name}: a step is missing or counted twice"
