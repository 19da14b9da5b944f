"""`python -m lartpc_ray.thresholds`: tune the thresholds of a trained run, with errors.

Ray tasks compute the scores (scan.py); reconstruct/grid.py chooses the point and its error. The
result is logged to the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from lartpc_ray.reconstruct.names import METHODS, Rule
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser
from lartpc_ray.thresholds.export import RULES


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.thresholds.retune import run_thresholds  # `--help` does without it

    return run_thresholds(options)


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
    made.add_argument("--export", choices=RULES, help="print them in another program's form")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
