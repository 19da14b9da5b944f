"""`python -m lartpc_ray.train`: one Trial, data-parallel through Ray Train; killed and resumed."""

from __future__ import annotations

import argparse

from lartpc_ray.runtime.arguments import chosen_space, study_parser
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("reading the settings"):
        space = None if options.resume else chosen_space(options)
    with phase("loading the libraries"):  # that a mistake does without
        from lartpc_ray.train.training import run_training

    return run_training(options, space)


def parser() -> Parser:
    """Return the parser of the command."""
    return study_parser("train", "Train one network: trial 0 of a study.", "clustering --workers 2")


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
