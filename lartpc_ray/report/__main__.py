"""The table of a trained network: every class on the test split, beside the published rows.

`python -m lartpc_ray.report --run ID` prints it again for a run that is in MLflow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test
from lartpc_ray.report.record import write_page
from lartpc_ray.report.tables import TrialRow, study_text, table, trial_rows
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, log
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints


def best_run(tracking: Tracking, rows: Sequence[TrialRow]) -> str | None:
    """The trial that the search has picked; before its end the one of highest objective, if any."""
    parent = tracking.run_info(rows[0].run)["mlflow.parentRunId"]
    picked = tracking.children(parent, best="true")
    ended = (row.run for row in rows if row.objective is not None)
    return next(iter([*picked, *ended]), None)


def main(options: argparse.Namespace) -> int:
    if bool(options.study) == bool(options.run):
        raise ValueError("give the name of a study, or --run ID")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    content: dict[str, Any] = {}
    rows: list[TrialRow] = []
    if options.study:
        rows = trial_rows(tracking.trials(options.study))
        if not rows:
            raise ValueError(f"study {options.study!r}: its newest search has no trial yet")
    best = options.run or best_run(tracking, rows)
    with tempfile.TemporaryDirectory() as folder:
        try:
            content |= _test_result(tracking, best or "none", options.data, Path(folder))
        except ValueError:
            if options.run:  # a search that has not ended has no verdict yet
                raise
    if options.html:
        result = EvaluationResult(**content) if content else None
        name = options.study or tracking.run_info(options.run)["name"]
        write_page(options.html, name, tracking, best, rows, result, options.data)
        log.info(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
        return 0
    if options.json:
        trials = {"trials": [asdict(row) for row in rows]} if rows else {}
        print(json.dumps(trials | content, indent=1))
        return 0
    if options.study:
        print(study_text(options.study, rows))
    if content:
        print(
            f"\n{table(EvaluationResult(**content))}"
            if options.study
            else table(EvaluationResult(**content))
        )
    return 0


def _test_result(tracking: Tracking, run: str, data: str | None, folder: Path) -> dict[str, Any]:
    """What is kept of a run's network; measured again where there are events to do it on."""
    if data is None:
        file = tracking.fetch(run, "verdict.json", folder)
        return asdict(EvaluationResult.read(json.loads(file.read_text())))
    state = checkpoints.load(tracking.fetch(run, checkpoints.FILE, folder))
    return asdict(evaluate_on_test(replace(state, trial=state.trial.with_events(data))))


def parser() -> Parser:
    """The arguments of the command."""
    made = Parser("report", "Print the trials of a study, and the table of the best.", "clustering")
    made.add_argument("study", nargs="?", metavar="NAME", help="its newest search")
    made.add_argument("--run", help="an MLflow run, or a folder of one: the table of one network")
    made.add_argument("--data", help="measure again, on the splits in this folder or file")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument("--html", type=Path, metavar="OUT.html", help="write a page to show instead")
    made.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
