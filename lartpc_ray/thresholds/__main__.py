"""`python -m lartpc_ray.thresholds`: tune the thresholds of a trained run, with errors.

Ray tasks compute the scores (scan.py); reconstruct/grid.py chooses the point and its error. The
result is logged to the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from lartpc_ray.predict.arguments import MOST_WORKERS, RUN_HELP, add_device
from lartpc_ray.reconstruct.names import METHODS, ClusterRule, Rule
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, results_folder, whole_number
from lartpc_ray.thresholds.export import RULES


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("loading the libraries"):  # that `--help` does without
        from lartpc_ray.thresholds.retune import run_thresholds

    return run_thresholds(options)


def parser() -> Parser:
    """Return the parser of the command."""
    made = Parser(
        "thresholds",
        "Tune the thresholds of a trained run, or of the outputs of any network.",
        "clustering --run 0123abcd",
    )
    made.add_argument("study", metavar="NAME", help="the study that the run belongs to")
    made.add_argument("--run", help=RUN_HELP)
    made.add_argument(
        "--outputs", type=Path, metavar="FILE.h5", help="outputs of any network, also SPINE's HDF5"
    )
    made.add_argument("--keep", action="store_true", help="predict uses the result from now on")
    made.add_argument(
        "--method", "--cut", choices=METHODS, help="how voxels become clusters; default the task's"
    )
    made.add_argument(
        "--cluster-rule",
        choices=get_args(ClusterRule),
        help="how seeds share the voxels; default the task's, of SPINE's files first_come",
    )
    made.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="[CLASS=]OBJECTIVE",
        help="a metric or A*B",
    )
    made.add_argument(
        "--refine",
        type=whole_number(0, 1000),
        default=0,
        metavar="N",
        help="N more p0 beside each class's best",
    )
    made.add_argument("--rule", choices=get_args(Rule), default="robust", help="which point")
    _add_input_and_output(made)
    return made


def _add_input_and_output(made: Parser) -> None:
    made.add_argument("--split", default="tune", choices=("train", "tune", "test"))
    made.add_argument("--data", help="other events: a folder with train, tune, test, or one file")
    made.add_argument(
        "--min-voxels",
        type=whole_number(0, 10**9),
        default=10,
        help="of --outputs: smaller true clusters are no part",
    )
    made.add_argument(
        "--workers",
        type=whole_number(1, MOST_WORKERS),
        help="cores; default one for few events, else all",
    )
    add_device(made)
    made.add_argument("--runs", type=results_folder, default="runs", help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument(
        "--export",
        choices=RULES,
        help="print those of the run in another program's form; tune them if it has none",
    )
    made.add_argument("--json", action="store_true", help="print the result as JSON")


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
