"""`python -m lartpc_ray.data COMMAND`: look into files of events, convert, draw, simulate them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lartpc_ray.data.formats.layout import Products
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.data.actions import ACTIONS  # libraries that `--help` does without

    return ACTIONS[options.what](options)


def _reading(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "file",
        help="PILArNet-M, larcv3, LArCV2 ROOT or npz; sample/train, sample/tune, sample/test",
    )
    _side(made, ", where the file does not say")
    made.add_argument("--duplicates", choices=["error", "merge"], default="error")
    made.add_argument(
        "--low-energy",
        choices=["drop", "SHOWER", "unlabelled"],
        help="LED voxels (default drop; convert keeps them, unlabelled)",
    )
    made.add_argument(
        "--larcv", metavar="NAME=VALUE", action="append", default=[],
        help=f"of a LArCV file: {', '.join(Products.model_fields)}",
    )  # fmt: skip
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)


def _side(made: argparse.ArgumentParser, when: str = "") -> None:
    made.add_argument("--side", type=int, default=512, help=f"voxels along each axis{when}")


def _writing(made: argparse.ArgumentParser) -> None:
    made.add_argument("output", type=Path, metavar="OUT.h5", help="PILArNet-M v3 file to write")
    made.add_argument("--force", action="store_true", help="write over OUT.h5")


def _inspect_arguments(made: argparse.ArgumentParser) -> None:
    _reading(made)
    made.add_argument("--json", action="store_true", help="print as JSON")


def _convert_arguments(made: argparse.ArgumentParser) -> None:
    _reading(made)
    _writing(made)
    made.add_argument("--events", metavar="A:B", help="only these, from A to B - 1")
    made.add_argument("--check", action="store_true", help="read the result back and compare")


def _draw_arguments(made: argparse.ArgumentParser) -> None:
    _reading(made)
    made.add_argument("--event", type=int, required=True, metavar="N", help="counted from 0")
    made.add_argument(
        "-o", "--output", type=Path, metavar="OUT.html",
        help="also writes OUT.png; default FILE-event-N.html in this folder",
    )  # fmt: skip
    made.add_argument(
        "--predicted",
        type=Path,
        metavar="FILE",
        help="the file that lartpc_ray.predict wrote of FILE: also draw its clusters",
    )


def _simulate_arguments(made: argparse.ArgumentParser) -> None:
    _writing(made)
    _side(made)
    made.add_argument("--events", type=int, default=100, metavar="N", help="how many")
    made.add_argument("--seed", type=int, default=0, help="same seed, same events")
    made.add_argument("--density", type=float, default=1.0, help="scales the number of particles")
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)


Arguments = Callable[[argparse.ArgumentParser], None]


COMMANDS: dict[str, tuple[str, str, Arguments]] = {
    "inspect": (
        "print what is in a file",
        "events.h5 --side 768",
        _inspect_arguments,
    ),
    "convert": (
        "write the events of a file as PILArNet-M v3",
        "larcv.root events.h5 --check",
        _convert_arguments,
    ),
    "draw": (
        "draw an event as an interactive page and a picture",
        "events.h5 --event 3",
        _draw_arguments,
    ),
    "simulate": (
        "write events of the particle bomb, without Geant4",
        "events.h5 --events 1000 --seed 1 --side 768",
        _simulate_arguments,
    ),
}
"""A line about each command, an example, its arguments."""


def parser() -> Parser:
    """The arguments of the commands."""
    made = Parser(
        "data",
        "Look into files of events, convert, draw, simulate them.",
        f"inspect {COMMANDS['inspect'][1]}",
    )
    commands = made.add_subparsers(
        dest="what", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for name, (about, example, arguments) in COMMANDS.items():
        epilog = f"example: python -m lartpc_ray.data {name} {example}"
        arguments(
            commands.add_parser(
                name, help=about, description=about, epilog=epilog, allow_abbrev=False
            )
        )
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
