"""Log a finished network and its report page to MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report.displays import log_displays
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.summary import headline, result_metric, summary_text
from lartpc_ray.report.tables import table, trial_rows
from lartpc_ray.report.verdict import result_content, result_text, verdict
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.pages import (
    password_hint,
    run_page,
    server_command,
    store_arguments,
    study_page,
)
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints


def record_result(
    tracking: Tracking, run: str, evaluation: Evaluation, *, choose_method: bool = False
) -> EvaluationResult:
    """Evaluate a finished network on the test split, and log it to its run.

    Logged are the checkpoint, the table, the test metrics, three events and the
    description.

    Args:
        tracking, run: of the network.
        evaluation: of the network.
        choose_method: as for `evaluate_on_test`; the checkpoint names the chosen reconstruction,
            so `predict` uses it.
    """
    with phase("evaluating on the test split"):
        result = evaluate_on_test(evaluation, choose_method=choose_method)
    state = evaluation.state
    with tempfile.TemporaryDirectory() as scratch:
        tracking.log_artifact(run, checkpoints.save(Path(scratch), state.to_use()))
    tracking.log_text(run, json.dumps(result_content(result), indent=1), "verdict.json")
    tracking.log_text(run, f"{result_text(result)}\n\n{table(result)}", "table.txt")
    tracking.log_metrics(run, _metrics(evaluation, result), state.step)
    with phase("drawing events"):
        log_displays(tracking, run, evaluation, result)
    tracking.describe(run, described(result))
    return result


def described(result: EvaluationResult, sentences: Sequence[str] | None = None) -> str:
    """Return the verdict and the summary for a description: its first line is plain text.

    Args:
        result: of a network.
        sentences: to begin with, in place of the verdict on the network.
    """
    first = verdict(result) if sentences is None else sentences
    return "\n\n".join([*first, f"```\n{summary_text(result)}\n```"])


def _metrics(evaluation: Evaluation, result: EvaluationResult) -> dict[str, float]:
    """Return the metrics of the test split: the score that sums up the network, then each class."""
    task, metric = evaluation.task, result_metric(result)
    means = {name: means[metric] for name, means in result.best.items() if metric in means}
    metrics = {f"test/{name}": means[name] for name in task.scored_classes if name in means}
    first = next(iter(result.means))
    for name, point in result.thresholds.items():
        metrics |= {f"thresholds/{name}/{axis}": value for axis, value in point.items()}
    score = headline(result, first)
    error = result.errors.get(first, {}).get(task.headline, {}).get(metric)
    known = {"test": score, "test_error": error}
    return {name: value for name, value in known.items() if value is not None} | metrics


def access_hint(tracking: Tracking, run: str, study: str = "") -> str:
    """Return the commands that show a run, and the address of its study in MLflow.

    Args:
        tracking: store of the run.
        run: of the network.
        study: name of a study whose trials are listed; a single run by default.
    """
    show = f"python -m lartpc_ray.report --run {run}{store_arguments(tracking)}"
    page = study_page(tracking, study) if study else run_page(tracking, run)
    lines = [f"every metric:    {show} --all", f"as a page:       {show} --html report.html"]
    if server := server_command(tracking):
        lines += [f"in the browser:  {server}", f"                 {page}"]
    else:
        lines.append(f"in the browser:  {page}")
    if hint := password_hint(tracking):
        lines.append(f"the password:    {hint}")
    return "\n".join(["", *lines])


def write_page(path: Path, subject: Subject) -> None:
    """Write the page about a study or a run."""
    from lartpc_ray.report.page import write

    with phase("writing the report page"):
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
