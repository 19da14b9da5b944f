"""Log a finished network and its report page to MLflow."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test, mean_of
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report.displays import log_displays
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import markdown, table, trial_rows
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints


def record_result(tracking: Tracking, run: str, evaluation: Evaluation) -> EvaluationResult:
    """Evaluate a finished network on the test split, and log it to its run.

    Logged are the checkpoint, the table, the test metrics, three events and the
    description.
    """
    result, state = evaluate_on_test(evaluation), evaluation.state
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(run, checkpoints.save(Path(scratch), state.to_use()))
    tracking.log_text(run, result.json(), "verdict.json")
    tracking.log_text(run, table(result), "table.txt")
    tracking.log_metrics(run, _metrics(evaluation, result), state.step)
    log_displays(tracking, run, evaluation, result)
    tracking.describe(run, markdown(result))
    return result


def _metrics(evaluation: Evaluation, result: EvaluationResult) -> dict[str, float]:
    task = evaluation.task
    metrics = {
        f"test/{name}/{metric}": value
        for name, means in result.best.items()
        for metric, value in means.items()
    }
    for name, point in result.thresholds.items():
        metrics |= {f"thresholds/{name}/{axis}": value for axis, value in point.items()}
    mean = mean_of(task.scored_classes, result.best, task.metric)
    return metrics | ({f"test/mean/{task.metric}": mean} if mean is not None else {})


def access_hint(tracking: Tracking, runs: Path, run: str, other: str | None = None) -> str:
    """Return the commands that show a run, and the address that compares it with another run."""
    store = f"--backend-store-uri {tracking.uri}" if tracking.uri.startswith("sqlite") else ""
    show = f"python -m lartpc_ray.report --run {run} --runs {runs}"
    if not store:
        return f"\nin MLflow at {tracking.uri}, run {run}\nagain:    {show}"
    ids = json.dumps([run, other], separators=(",", ":"))
    both = f"http://127.0.0.1:5000/#/compare-runs?runs={quote(ids)}"
    both += f"&experiments={quote(json.dumps([tracking.experiment]))}"
    compare = f"\nbest two beside: {both}" if other else ""
    return (
        f"\nin the browser:  mlflow ui {store} --host 127.0.0.1\n"
        f"                 http://127.0.0.1:5000/#/experiments/{tracking.experiment}/runs/{run}\n"
        f"this table:      {show}{compare}"
    )


def write_page(path: Path, subject: Subject) -> None:
    """Write the page about a study or a run."""
    from lartpc_ray.report.page import write

    write(path, subject)


def log_report_page(tracking: Tracking, search: str, subject: Subject) -> None:
    """Log the page of a finished search to its run, as report.html.

    All else is logged before, so a page that cannot be made is a warning.

    Args:
        tracking: store of the search.
        search: its run.
        subject: of the page; its rows are read here.
    """
    try:
        rows = trial_rows(tracking.trials(subject.name, search))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "report.html"
            write_page(path, replace(subject, rows=rows))
            tracking.log_artifact(search, path)
    except Exception as error:
        log.warning(f"the search has no report.html in MLflow: {error_text(error)}")
