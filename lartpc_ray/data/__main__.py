"""`python -m lartpc_ray.data COMMAND`: inspect, convert, draw and simulate files of events."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lartpc_ray.data.formats.layout import Products
from lartpc_ray.data.limits import MAX_SIDE, MOST_EVENTS
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import OneLineParser, Parser, whole_number


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from lartpc_ray.terminal.phases import phase

    with phase("loading the libraries"):  # that `--help` does without
        from lartpc_ray.data.actions import ACTIONS

    return ACTIONS[options.what](options)


SIDE, COUNT = whole_number(1, MAX_SIDE), whole_number(1, MOST_EVENTS)
INDEX, SEED = whole_number(0, MOST_EVENTS), whole_number(0, 2**32 - 1)
LAYOUT = "version of PILArNet-M (default v3), with the sidecar file OUT_points.npy of its readers"


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        help="file of events of any format (docs/data-formats.md), or sample/train, sample/tune, "
        "sample/test",
    )
    parser.add_argument(
        "--side", type=SIDE,
        help="voxels along each axis; default 512, or more if the file's voxels need it",
    )  # fmt: skip
    parser.add_argument(
        "--duplicates", choices=["error", "merge"], default="error", help="voxels listed twice"
    )
    parser.add_argument(
        "--low-energy",
        choices=["drop", "SHOWER", "unlabelled"],
        help="low-energy deposits (default drop; convert keeps them, unlabelled)",
    )
    parser.add_argument(
        "--further", metavar="CLASS,...",
        help="classes of the semantic codes 5, 6, ...: HIP to MICHEL, drop or unlabelled",
    )  # fmt: skip
    parser.add_argument(
        "--larcv", metavar="NAME=VALUE", action="append", default=[],
        help=f"product of a LArCV file: {', '.join(Products.model_fields)}",
    )  # fmt: skip
    parser.add_argument(
        "--plane",
        type=whole_number(0, 1000),
        metavar="N",
        help="wire plane of hits, or of a table of wires and ticks",
    )
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT.h5", help="PILArNet-M file to write")
    parser.add_argument("--layout", choices=["v1", "v2", "v3"], help=LAYOUT)
    parser.add_argument("--force", action="store_true", help="replace OUT.h5 if it exists")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    _add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_reading(parser)
    _add_writing(parser)
    parser.add_argument("--events", metavar="A:B", help="only the events A to B - 1")
    parser.add_argument("--check", action="store_true", help="read the result back and compare")


def _add_draw(parser: argparse.ArgumentParser) -> None:
    _add_reading(parser)
    parser.add_argument(
        "--event",
        type=INDEX,
        required=True,
        metavar="N",
        help="counted from 0",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT.html",
        help="also writes OUT.png; default FILE-event-N.html in this folder",
    )  # fmt: skip
    parser.add_argument(
        "--predicted", metavar="PREDICTED.h5",
        help="the file that lartpc_ray.predict wrote for FILE: draw its clusters or classes, too",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=COUNT, default=1, metavar="N",
        help="draw N events from this one, a page each, with links to the next and the previous",
    )  # fmt: skip
    parser.add_argument(
        "--cm", type=float, metavar="SIDE", help="side of a voxel [cm]: draw axes in cm"
    )


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    _add_writing(parser)
    parser.add_argument("--side", type=SIDE, default=512, help="voxels along each axis")
    parser.add_argument(
        "--events",
        type=COUNT,
        default=100,
        metavar="N",
        help="number of events",
    )
    parser.add_argument(
        "--seed",
        type=SEED,
        default=0,
        help="the same seed gives the same events",
    )
    parser.add_argument("--density", type=float, default=1.0, help="factor on the particle count")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)


Arguments = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[str, str, Arguments]] = {
    "inspect": ("print the content of a file", "events.h5", _add_inspect),
    "convert": (
        "write the events of a file as PILArNet-M",
        "larcv.root events.h5 --check",
        _add_convert,
    ),
    "draw": (
        "draw an event as an interactive page and a picture",
        "events.h5 --event 3",
        _add_draw,
    ),
    "simulate": (
        "write events of the particle bomb, without Geant4",
        "events.h5 --events 1000 --seed 1 --side 768",
        _add_simulate,
    ),
}
"""Help, example and arguments of each command."""


def parser() -> Parser:
    """Make the parser of the commands."""
    made = Parser(
        "data",
        "Inspect, convert, draw and simulate files of events.",
        f"inspect {COMMANDS['inspect'][1]}",
    )
    commands = made.add_subparsers(
        dest="what", required=True, metavar="COMMAND", parser_class=OneLineParser
    )
    for name, (about, example, add_arguments) in COMMANDS.items():
        epilog = f"example: python -m lartpc_ray.data {name} {example}"
        add_arguments(
            commands.add_parser(
                name, help=about, description=about, epilog=epilog, allow_abbrev=False
            )
        )
    return made


if __name__ == "__main__":
    command.run_and_exit(parser(), main)
