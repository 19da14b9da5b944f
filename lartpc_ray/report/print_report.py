"""Print the trials of a study and the table of a network, for the command line."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.report.record import write_page
from lartpc_ray.report.subject import Subject, load_evaluation
from lartpc_ray.report.tables import TrialRow, study_text, table, trial_rows
from lartpc_ray.terminal.command import log
from lartpc_ray.tracking.runs import Tracking


def best_run(tracking: Tracking, rows: Sequence[TrialRow]) -> str | None:
    """Return the run of the best trial; before the end of the search that of highest objective."""
    parent = tracking.run_info(rows[0].run)["mlflow.parentRunId"]
    picked = tracking.children(parent, best="true")
    ended = (row.run for row in rows if row.objective is not None)
    return next(iter([*picked, *ended]), None)


def run_report(options: argparse.Namespace) -> int:
    if bool(options.study) == bool(options.run):
        raise ValueError("give the name of a study, or --run ID")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    rows: list[TrialRow] = []
    if options.study:
        rows = trial_rows(tracking.trials(options.study))
        if not rows:
            raise ValueError(f"study {options.study!r}: its newest search has no trial yet")
    run = options.run or best_run(tracking, rows)
    evaluation: Evaluation | None = None
    result: EvaluationResult | None = None
    try:
        if options.data:
            evaluation = load_evaluation(tracking, run or "none", options.data)
        result = evaluate_on_test(evaluation) if evaluation else _logged_result(tracking, run)
    except ValueError:
        if options.run:  # a search without a result is one that has not ended
            raise
    if options.html:
        name = options.study or tracking.run_info(options.run)["name"]
        subject = Subject(name, tracking, run, rows, result, options.data, evaluation)
        write_page(options.html, subject)
        log.info(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
    elif options.json:
        content = {"trials": [asdict(row) for row in rows]} if rows else {}
        print(json.dumps(content | (asdict(result) if result else {}), indent=1))
    else:
        parts = [study_text(options.study, rows)] if rows else []
        print("\n\n".join([*parts, *([table(result)] if result else [])]))
    return 0


def _logged_result(tracking: Tracking, run: str | None) -> EvaluationResult:
    """Read the result that is logged with a run."""
    with tempfile.TemporaryDirectory() as scratch:
        file = tracking.fetch(run or "none", "verdict.json", Path(scratch))
        return EvaluationResult.read(json.loads(file.read_text()))
