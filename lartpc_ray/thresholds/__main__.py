"""`python -m lartpc_ray.thresholds`: tune the thresholds of a trained run, with errors.

Ray tasks compute the scores (scan.py); reconstruct/grid.py chooses the point and its error. The
result is logged to the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.reconstruct.grid import ChoiceSettings, Rule
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.tasks.clustering import METHODS
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, log
from lartpc_ray.thresholds.export import FORMS, exported
from lartpc_ray.thresholds.record import table
from lartpc_ray.thresholds.tuning import class_objectives, tune_run
from lartpc_ray.tracking.runs import Tracking, as_folder
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE


def main(options: argparse.Namespace) -> int:
    study = None if as_folder(options.run) else options.study
    tracking = Tracking(options.runs, study, options.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(options.run, FILE, Path(scratch)))
    if options.data:
        state = replace(state, trial=state.trial.with_events(options.data))
    evaluation = Evaluation(state)
    task = evaluation.task
    method = task.with_method(options.method or task.active_method.name).active_method
    if options.export and method.name != "seeds":
        raise ValueError(
            f"--export {options.export}: it knows seeds only, not --method {method.name}"
        )
    objectives = class_objectives(options.objective, method.metrics, task.scored_classes)
    with ray_session(options.workers, dashboard=False):
        content, choices = tune_run(
            tracking,
            options.run,
            evaluation,
            objectives,
            method=method.name,
            split=options.split,
            rule=options.rule,
            refine=options.refine,
            data=options.data,
        )
    for name, choice in choices.items():
        if choice.enough:
            log.info(
                f"{name}: {choice.events} events know the score to ±{choice.error:.3f} only; "
                f"{choice.enough} would give ±{ChoiceSettings().precision}"
            )
    if options.export:
        print(exported(content, options.export), end="")
    else:
        print(json.dumps(content, indent=1) if options.json else table(content))
    return 0


def parser() -> Parser:
    """Return the parser of the command."""
    made = Parser(
        "thresholds", "Tune the thresholds of a trained run.", "clustering --run 0123abcd"
    )
    made.add_argument("study", metavar="NAME", help="the study that the run belongs to")
    made.add_argument(
        "--run", required=True, help="an MLflow run with a checkpoint, or a folder of one"
    )
    made.add_argument(
        "--method", "--cut", choices=METHODS, help="how voxels become clusters; default the task's"
    )
    made.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="[CLASS=]OBJECTIVE",
        help="a metric or A*B",
    )
    made.add_argument(
        "--refine", type=int, default=0, metavar="N", help="N more p0 beside each class's best"
    )
    made.add_argument("--rule", choices=get_args(Rule), default="robust", help="which point")
    made.add_argument("--split", default="tune", choices=("train", "tune", "test"))
    made.add_argument("--data", help="other events: a folder with train, tune, test, or one file")
    made.add_argument("--workers", type=int, help="cores; default all")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument("--export", choices=FORMS, help="print them in another program's form")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
