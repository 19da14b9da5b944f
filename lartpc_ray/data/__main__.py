"""`python -m lartpc_ray.data COMMAND`: look into files of events, convert, draw, simulate them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.convert import convert
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Layout, Products
from lartpc_ray.data.formats.source import EventSource
from lartpc_ray.data.simulation.generator import Bomb, BombSettings
from lartpc_ray.data.splits import SAMPLE_SIZES, sample
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, log
from lartpc_ray.terminal.screen import track


def inspect(path: Path, layout: Layout) -> dict[str, Any]:
    """Count events, voxels, energies, classes and clusters of a file.

    Raises:
        ValueError: naming file, event and value of the first thing that is wrong.
    """
    voxels, energies, unlabelled = [], [], 0
    classes = {
        particle.name: {"voxels": 0, "clusters": 0, "events": 0} for particle in ParticleClass
    }
    low, high, shapes = [], [], set()
    with open_events(path, layout) as events:
        kind = events.kind
        for event in events:
            voxels.append(len(event))
            energies.append(float(event.energy.sum()))
            unlabelled += int((event.semantic < 0).sum())
            shapes.add(event.shape)
            if len(event):
                low.append(event.coords.min(axis=0))
                high.append(event.coords.max(axis=0))
            _count(event, classes)
    if len(shapes) > 1:
        raise ValueError(f"{path}: images of several sizes: {sorted(shapes)}")
    return {
        "file": str(path),
        "layout": kind,
        "events": len(voxels),
        "empty_events": sum(count == 0 for count in voxels),
        "voxels": sum(voxels),
        "median_voxels": float(np.median(voxels)) if voxels else 0.0,
        "median_energy_mev": float(np.median(energies)) if energies else 0.0,
        "unlabelled_voxels": unlabelled,
        "lowest": np.min(low, axis=0).tolist() if low else None,
        "highest": np.max(high, axis=0).tolist() if high else None,
        "image": list(shapes.pop()) if shapes else None,
        "classes": classes,
    }


def _count(event: Event, classes: dict[str, dict[str, int]]) -> None:
    for particle in ParticleClass:
        mask = event.semantic == particle
        clusters = np.unique(event.cluster[mask])
        counts = classes[particle.name]
        counts["voxels"] += int(mask.sum())
        counts["clusters"] += int((clusters >= 0).sum())
        counts["events"] += bool(mask.any())


def text(found: dict[str, Any]) -> str:
    """What was found, for people."""
    lines = [
        f"{found['file']}: {found['layout']}",
        f"{found['events']} events ({found['empty_events']} empty), {found['voxels']} voxels, "
        f"median {found['median_voxels']:.0f} voxels, {found['median_energy_mev']:.0f} MeV each",
        f"positions {found['lowest']} to {found['highest']} in an image of {found['image']}",
        "",
        f"{'class':<10}{'voxels':>10}{'clusters':>10}{'events':>10}",
    ]
    lines += [
        f"{name:<10}{counts['voxels']:>10}{counts['clusters']:>10}{counts['events']:>10}"
        for name, counts in found["classes"].items()
    ]
    if found["unlabelled_voxels"]:
        lines.append(f"{'none':<10}{found['unlabelled_voxels']:>10}")
    return "\n".join(lines)


def run_inspect(options: argparse.Namespace) -> int:
    path = _path(options.file)
    layout = _layout(options, options.low_energy or "drop")
    log.info(f"reading {path}")
    found = inspect(path, layout)
    print(json.dumps(found) if options.json else text(found))
    return 0


def run_convert(options: argparse.Namespace) -> int:
    path, target = _path(options.file), options.output
    _new(options)
    with open_events(path, _layout(options, options.low_energy or "unlabelled")) as events:
        chosen = _range(events, options.events)
        log.info(f"{path}: {events.kind}, {len(chosen)} of {len(events)} events")
        count = convert(events, target, chosen, check=options.check)
    log.info(f"{count} events in {target}")
    return 0


def run_draw(options: argparse.Namespace) -> int:
    from lartpc_ray.data.draw import brightest, describe, match_voxels, views, write_drawing

    path, number = _path(options.file), options.event
    page = options.output or Path(f"{path.name.split('.')[0]}-event-{number}.html")
    if page.suffix != ".html":
        raise ValueError(f"{page}: the page ends in .html; the picture is written beside it")
    layout = _layout(options, options.low_energy or "drop")
    with open_events(path, layout) as events:
        event, predicted = _event(events, number), events.predicted
    drawn, clusters = brightest(event), None
    if options.predicted:
        with open_events(options.predicted, layout) as others:
            clusters = match_voxels(drawn, _event(others, number))
    title = f"{path.name}, event {number}: {describe(event)}"
    shown = views(drawn, predicted=predicted, clusters=clusters)
    print(f"{page} and {write_drawing(page, drawn, title, shown)}")
    return 0


def run_simulate(options: argparse.Namespace) -> int:
    settings = BombSettings(side=options.side, density=options.density)
    _new(options)
    simulate(options.output, options.events, options.seed, settings)
    log.info(f"{options.events} events in {options.output}")
    return 0


def simulate(path: Path, events: int, seed: int, settings: BombSettings) -> None:
    """Write simulated events; an interrupted command leaves no file.

    Raises:
        ValueError: for no event at all, a negative seed, or a folder that is not there.
    """
    if events < 1:
        raise ValueError(f"{events} events: give at least 1")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    bomb = Bomb(events, seed, settings)
    write_events(path, track(bomb, events, "simulate: event"))


def _new(options: argparse.Namespace) -> None:
    """Refuse to write over a file that is there, unless told to."""
    if options.output.exists() and not options.force:
        raise ValueError(f"{options.output}: is there already; --force writes over it")


def _event(events: EventSource, number: int) -> Event:
    if not 0 <= number < len(events):
        raise ValueError(f"{events.path}: event {number} of {len(events)}; count from 0")
    event: Event = events[number]
    return event


def _path(given: str) -> Path:
    samples = {f"sample/{split}": split for split in SAMPLE_SIZES}
    return sample(samples[given]) if given in samples else Path(given)


def _layout(options: argparse.Namespace, low_energy: str) -> Layout:
    """How the file is to be read, by the arguments that the commands share."""
    products: dict[str, Any] = {}
    for item in options.larcv:
        name, equals, value = item.partition("=")
        if not equals or name not in Products.model_fields:
            known = ", ".join(Products.model_fields)
            raise ValueError(f"--larcv {item}: write NAME=VALUE; the names are {known}")
        products[name] = value.split(",") if name == "codes" else value
    return Layout(
        side=options.side,
        classes=ClassMap.model_validate({"low_energy": low_energy}),
        duplicates=options.duplicates,
        larcv=Products.model_validate_strings(products),
    )


def _range(events: EventSource, given: str | None) -> range:
    """The events `A:B`, from A to B - 1."""
    bounds = re.fullmatch(r"(\d*):(\d*)", given or ":")
    if not bounds:
        raise ValueError(f"--events {given}: write A:B, the first and the one behind the last")
    first, last = int(bounds[1] or 0), int(bounds[2] or len(events))
    if given and not first < last <= len(events):
        raise ValueError(f"{events.path}: --events {given}: it has the events 0:{len(events)}")
    return range(first, last)


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


Action = Callable[[argparse.Namespace], int]
Arguments = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[str, str, Arguments, Action]] = {
    "inspect": (
        "print what is in a file",
        "events.h5 --side 768",
        _inspect_arguments,
        run_inspect,
    ),
    "convert": (
        "write the events of a file as PILArNet-M v3",
        "larcv.root events.h5 --check",
        _convert_arguments,
        run_convert,
    ),
    "draw": (
        "draw an event as an interactive page and a picture",
        "events.h5 --event 3",
        _draw_arguments,
        run_draw,
    ),
    "simulate": (
        "write events of the particle bomb, without Geant4",
        "events.h5 --events 1000 --seed 1 --side 768",
        _simulate_arguments,
        run_simulate,
    ),
}
"""What each command does, an example, its arguments, its action."""


def main(options: argparse.Namespace) -> int:
    return COMMANDS[options.what][3](options)


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
    for name, (about, example, arguments, _) in COMMANDS.items():
        epilog = f"example: python -m lartpc_ray.data {name} {example}"
        arguments(
            commands.add_parser(
                name, help=about, description=about, epilog=epilog, allow_abbrev=False
            )
        )
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
