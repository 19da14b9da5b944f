"""Log a finished network and its report page to MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lartpc_ray.predict.evaluate import EvaluationResult, mean_of
from lartpc_ray.report.tables import TrialRow, table, trial_rows
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint


def log_result(tracking: Tracking, run: str, state: Checkpoint, result: EvaluationResult) -> None:
    """Keep a trained network in its run: trial, checkpoint, table, test metrics."""
    tracking.log_text(run, state.trial.model_dump_json(indent=1), "trial.json")
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(run, checkpoints.save(Path(scratch), state.to_use()))
    tracking.log_text(run, result.json(), "verdict.json")
    tracking.log_text(run, table(result), "table.txt")
    numbers = {
        f"test/{name}/{metric}": value
        for name, metrics in result.best.items()
        for metric, value in metrics.items()
    }
    for name, axes in result.thresholds.items():
        numbers |= {f"thresholds/{name}/{axis}": value for axis, value in axes.items()}
    mean = mean_of(state.trial.task.scored_classes, result.best, state.trial.task.metric)
    if mean is not None:
        numbers[f"test/mean/{state.trial.task.metric}"] = mean
    tracking.log_metrics(run, numbers, state.step)


def access_hint(tracking: Tracking, runs: Path, run: str, rival: str | None = None) -> str:
    """How to look at the result; also beside a rival's run."""
    store = f"--backend-store-uri {tracking.uri}" if tracking.uri.startswith("sqlite") else ""
    show = f"python -m lartpc_ray.report --run {run} --runs {runs}"
    if not store:
        return f"\nin MLflow at {tracking.uri}, run {run}\nagain:    {show}"
    ids = json.dumps([run, rival], separators=(",", ":"))
    both = f"http://127.0.0.1:5000/#/compare-runs?runs={quote(ids)}"
    both += f"&experiments={quote(json.dumps([tracking.experiment]))}"
    compare = f"\nbest two beside: {both}" if rival else ""
    return (
        f"\nin the browser:  mlflow ui {store} --host 127.0.0.1\n"
        f"                 http://127.0.0.1:5000/#/experiments/{tracking.experiment}/runs/{run}\n"
        f"this table:      {show}{compare}"
    )


def write_page(
    path: Path,
    name: str,
    tracking: Tracking,
    run: str | None,
    rows: Sequence[TrialRow],
    result: EvaluationResult | None,
    data: str | None = None,
) -> None:
    """Write the page about a study or a run, of which `page.sections.Subject` says the rest."""
    from lartpc_ray.report.page import Subject, write

    write(path, Subject(name, tracking, run, rows, result, data))


def log_report_page(
    tracking: Tracking, study: str, search: str, run: str, result: EvaluationResult
) -> None:
    """Keep the page of a search that has ended in its run, as report.html.

    All else is kept by then, so a page that cannot be made is said to be missing and no more.

    Args:
        tracking: where the search is.
        study: that it is of.
        search: its run.
        run: of its best trial.
        verdict: on that.
    """
    try:
        rows = trial_rows(tracking.trials(study, search))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "report.html"
            write_page(path, study, tracking, run, rows, result)
            tracking.log_artifact(search, path)
    except Exception as error:
        log.warning(f"the search has no report.html in MLflow: {error_text(error)}")
