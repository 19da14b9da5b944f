"""`python -m lartpc_ray.train`: one Trial, data-parallel through Ray Train; killed and resumed."""

from __future__ import annotations

import argparse
import sys

from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    space = None if options.resume else chosen_space(options)
    from lartpc_ray.train.training import run_training  # libraries that a mistake does without

    return run_training(options, space)


def parser() -> Parser:
    """Return the parser of the command."""
    return study_parser("train", "Train one network: trial 0 of a study.", "clustering --workers 2")


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
