"""`python -m lartpc_ray.report`: print the trials of a study, and the table of a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from lartpc_ray.predict.arguments import RUN_HELP, add_placement
from lartpc_ray.reconstruct.names import METHODS
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, results_folder


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("loading the libraries"):  # that `--help` does without
        from lartpc_ray.report.print_report import run_report

    return run_report(options)


def parser() -> Parser:
    """Return the parser of the command."""
    made = Parser("report", "Print the trials of a study, and the table of the best.", "clustering")
    made.add_argument("study", nargs="?", metavar="NAME", help="its newest search")
    made.add_argument("--run", help=f"{RUN_HELP}: its table")
    made.add_argument(
        "--against",
        metavar="B",
        help="compare with another study, run, folder of a run or registered model",
    )
    made.add_argument(
        "--method", choices=METHODS, help="reconstruction that --against or --by takes"
    )
    made.add_argument("--against-method", choices=METHODS, help="reconstruction of the other one")
    made.add_argument(
        "--by",
        choices=("energy", "length", "voxels"),
        help="efficiency and purity of the clusters against their size",
    )
    made.add_argument("--data", help="measure again, on the splits in this folder or file")
    add_placement(made)
    made.add_argument("--runs", type=results_folder, default="runs", help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument(
        "--html",
        type=Path,
        metavar="OUT.html",
        help="write a page to show instead (--against: or OUT.png)",
    )
    made.add_argument("--all", action="store_true", help="print every metric and the thresholds")
    made.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return made


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
