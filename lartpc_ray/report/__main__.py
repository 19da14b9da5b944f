"""`python -m lartpc_ray.report`: print the trials of a study, and the table of a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.report.print_report import run_report  # `--help` does without it

    return run_report(options)


def parser() -> Parser:
    """Return the parser of the command."""
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
