"""`python -m lartpc_ray.tune`: search a space with Ray Tune and Optuna; every run in MLflow.

A trial's objective is the mean over the classes of the score at each class's best
thresholds, on the tune split.
"""

from __future__ import annotations

import argparse

from lartpc_ray.runtime.arguments import WORKERS, chosen_space, study_parser
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("reading the settings"):
        space = None if options.resume else chosen_space(options)
    with phase("loading the libraries"):  # that a mistake does without
        from lartpc_ray.tune.search_command import run_search

    return run_search(options, space)


def parser() -> Parser:
    """Return the parser of the command."""
    made = study_parser("tune", "Search a study's space.", "clustering --budget laptop")
    made.add_argument("--run", metavar="ID", help="run of the segmentation that michel works on")
    made.add_argument(
        "--concurrent",
        type=WORKERS,
        metavar="N",
        help="trials at a time, also if fewer fit now: a growing cluster adds nodes for them",
    )
    made.add_argument(
        "--from",
        metavar="STUDY",
        help="folder of an earlier search of this space, whose best settings are tried first",
    )
    return made


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
