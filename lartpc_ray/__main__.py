"""`python -m lartpc_ray`: the commands there are, and what the package tells of itself."""

import argparse
import sys
from collections.abc import Callable

from lartpc_ray import command
from lartpc_ray.command import Parser

COMMANDS = {
    "tune": "search a study's space; the main job",
    "train": "train one network, data-parallel",
    "thresholds": "tune the thresholds of a trained run, with errors",
    "predict": "write the clusters that a trained run finds in new events",
    "report": "print the table of a run again",
    "data": "look into event files",
}


def run_settings(options: argparse.Namespace) -> int:
    from lartpc_ray.reference import page  # torch takes its time

    print(page(), end="")
    return 0


Action = Callable[[argparse.Namespace], int]
ACTIONS: dict[str, tuple[str, Action]] = {
    "settings": ("print all settings, as in docs/settings.md", run_settings),
}
"""What each does, and its action."""


def listed() -> int:
    """Print the commands."""
    print("lartpc_ray: find the best sparse network and thresholds for LArTPC images\n")
    for name, about in COMMANDS.items():
        print(f"  python -m lartpc_ray.{name:<11} {about}")
    for name, (about, _) in ACTIONS.items():
        print(f"  python -m lartpc_ray {name:<11} {about}")
    print("\neach has --help with an example; start with: python -m lartpc_ray.tune clustering")
    return 0


def main(options: argparse.Namespace) -> int:
    return ACTIONS[options.what][1](options) if options.what else listed()


def parser() -> Parser:
    """The arguments of the commands."""
    made = Parser(
        "", "What the package tells of itself; without a command, which there are.", "settings"
    )
    commands = made.add_subparsers(
        dest="what", metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for name, (about, _) in ACTIONS.items():
        epilog = f"example: python -m lartpc_ray {name}"
        commands.add_parser(name, help=about, description=about, epilog=epilog, allow_abbrev=False)
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
