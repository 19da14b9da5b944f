"""Print the trials of a study and the table of a network, for the command line."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lartpc_ray.atomic import refuse_missing_folder
from lartpc_ray.predict.evaluate import EvaluationResult, evaluate_on_test
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import DEFAULT_PLACEMENT, LazyRay, Placement
from lartpc_ray.predict.registry import resolve_run
from lartpc_ray.report.by_size import run_by_size
from lartpc_ray.report.compare import run_comparison
from lartpc_ray.report.record import write_page
from lartpc_ray.report.sides import DamagedResultError, best_run, changed_since, logged_result
from lartpc_ray.report.subject import Subject, load_evaluation
from lartpc_ray.report.tables import TrialRow, study_text, table, trial_rows
from lartpc_ray.report.verdict import result_content, result_text, wrapped
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import bold
from lartpc_ray.tracking.runs import Tracking


def run_report(options: argparse.Namespace) -> int:
    if bool(options.study) == bool(options.run):
        raise ValueError("give the name of a study, or --run ID")
    if options.html:
        refuse_other_page(
            options.html, picture=bool(options.against or options.against_method or options.by)
        )
        refuse_missing_folder(options.html)
    with LazyRay(Placement.of(options)) as ray:
        if options.against or options.against_method:
            if options.by:
                raise ValueError("--by: give it without --against and --against-method")
            return run_comparison(options, ray)
        if options.by:
            return run_by_size(options, ray)
        return _report(options, ray)


def refuse_other_page(path: Path, *, picture: bool) -> None:
    """Refuse the name of another file, which a page would replace: of events, or a checkpoint.

    Args:
        path: of the page.
        picture: whether the command draws a picture for NAME.png.

    Raises:
        ValueError: with the names that are right.
    """
    endings = [".html", ".htm", *[".png"] * picture]
    if path.suffix not in endings:
        also = " or NAME.png" * picture
        raise ValueError(f"--html {path}: the command writes a page; give NAME.html{also}")


def _report(options: argparse.Namespace, ray: LazyRay) -> int:
    """Print or write the trials of a study and the table of a network."""
    if options.method:
        raise ValueError("--method: give it with --against, --against-method or --by")
    if ray.placement != DEFAULT_PLACEMENT and not (options.data or options.html):
        raise ValueError(
            "--workers, --device, --precision: no network runs for a logged table; give them with "
            "--data, --html, --against, --against-method or --by"
        )
    tracking = Tracking(options.runs, None, options.tracking_uri)
    options.run = options.run and resolve_run(tracking, options.run)
    rows: list[TrialRow] = []
    if options.study:
        rows = trial_rows(tracking.trials(options.study))
        if not rows:
            raise ValueError(f"study {options.study!r}: its newest search has no trial yet")
    run = options.run or best_run(tracking, rows)
    evaluation, result = _result(options, tracking, run, ray)
    if options.html:
        name = options.study or tracking.run_info(options.run)["name"]
        subject = Subject(name, tracking, run, rows, result, options.data, evaluation, ray)
        write_page(options.html, subject)
        log.info(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
        return 0
    changed = changed_since(tracking, run, result) if result and not options.data else ""
    if options.json:
        content = result_content(result) if result else {}
        if changed:
            content["verdict"].insert(1, changed)
        content |= {"trials": [asdict(row) for row in rows]} if rows else {}
        print(json.dumps(content, indent=1))
    else:
        parts = _texts(options, rows, result) or _thresholds(tracking, run)
        parts[1:1] = [wrapped([changed])] * bool(changed)
        print("\n\n".join(parts))
    return 0


def _result(
    options: argparse.Namespace, tracking: Tracking, run: str | None, ray: LazyRay
) -> tuple[Evaluation | None, EvaluationResult | None]:
    """Return the result of a run, and its evaluation if the command has made it.

    Both are None for a search that has not ended. A damaged result is measured again.
    """
    try:
        if not options.data:
            return None, logged_result(tracking, run)
        evaluation = load_evaluation(tracking, run or "none", options.data, ray)
    except DamagedResultError as error:
        log.warning(f"{error}; this report measures it again")
        evaluation = load_evaluation(tracking, str(run), None, ray)
    except ValueError:
        if options.data or (options.run and not _of_outputs(tracking, run)):
            raise
        return None, None
    with phase("evaluating on the test split"):
        return evaluation, evaluate_on_test(evaluation)


def _of_outputs(tracking: Tracking, run: str | None) -> bool:
    """Return whether a run holds the thresholds of a file of network outputs."""
    return bool(run) and tracking.run_info(str(run)).get("kind") == "outputs"


def _thresholds(tracking: Tracking, run: str | None) -> list[str]:
    """Return the tables of the thresholds that are in use for a file of network outputs."""
    if not run or not _of_outputs(tracking, run):
        return []
    with tempfile.TemporaryDirectory() as scratch:
        used = tracking.children(run, kind="thresholds", in_use="true")
        files = (tracking.fetch(child, "table.txt", Path(scratch)) for child in used)
        return [file.read_text() for file in files]


def _texts(
    options: argparse.Namespace, rows: Sequence[TrialRow], result: EvaluationResult | None
) -> list[str]:
    """Return the verdict, the trials of the study, and with `--all` every metric."""
    parts = [result_text(result, bold())] if result else []
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not options.all else 0
    parts += [study_text(options.study, rows, width)] if rows else []
    if result and options.all:
        parts.append(table(result))
    elif result:
        log.info("every metric and the thresholds: --all")
    return parts
