"""Inspect, convert, draw and simulate files of events, for the command line."""

from __future__ import annotations

import argparse
import json
import re
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
from lartpc_ray.terminal.command import log
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


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": run_inspect,
    "convert": run_convert,
    "draw": run_draw,
    "simulate": run_simulate,
}
"""The action of each command of `python -m lartpc_ray.data`."""
