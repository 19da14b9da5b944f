"""Inspect, convert, draw and simulate files of events, for the command line."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lartpc_ray.data.classes import CLASS_NAMES, ParticleClass
from lartpc_ray.data.convert import convert
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Code, Hits, Layout, Products
from lartpc_ray.data.formats.pilarnet import NO_PID
from lartpc_ray.data.formats.pilarnet_writer import refuse_other_format
from lartpc_ray.data.formats.source import EventSource, list_names
from lartpc_ray.data.formats.tables import Version
from lartpc_ray.data.simulation.generator import Bomb, BombSettings
from lartpc_ray.data.splits import SAMPLE_SIZES, sample
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.screen import track
from lartpc_ray.terminal.text import escape_controls


def inspect(events: EventSource) -> dict[str, Any]:
    """Count events, voxels, energies, classes and clusters of a file.

    Raises:
        ValueError: for the first invalid event, with the file, the event and the value.
    """
    voxels, energies, unlabelled = [], [], 0
    classes = {name: {"voxels": 0, "clusters": 0, "events": 0} for name in CLASS_NAMES}
    low, high, shapes = [], [], set()
    for event in track(events, len(events), "inspect: event"):
        voxels.append(len(event))
        energies.append(float(event.energy.sum()))
        unlabelled += int((event.semantic < 0).sum())
        shapes.add(event.shape)
        if len(event):
            low.append(event.coords.min(axis=0))
            high.append(event.coords.max(axis=0))
        _count(event, classes)
    if len(shapes) > 1:
        raise ValueError(f"{events.path}: images of several sizes: {sorted(shapes)}")
    return {
        "file": str(events.path),
        "layout": events.kind,
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


def as_text(content: dict[str, Any]) -> str:
    """Write the result of `inspect` as a table."""
    unit = "ADC counts" if len(content["image"] or ()) == 2 else "MeV"
    lines = [
        "{file}: {layout}".format(**content),
        "{events} events ({empty_events} empty), {voxels} voxels, "
        "median {median_voxels:.0f} voxels, {median_energy_mev:.0f} {unit} each".format(
            **content, unit=unit
        ),
        "positions {lowest} to {highest} in an image of {image}".format(**content),
        "",
        f"{'class':<10}{'voxels':>10}{'clusters':>10}{'events':>10}",
    ]
    lines += [
        f"{name:<10}{counts['voxels']:>10}{counts['clusters']:>10}{counts['events']:>10}"
        for name, counts in content["classes"].items()
    ]
    if content["unlabelled_voxels"]:
        lines.append(f"{'none':<10}{content['unlabelled_voxels']:>10}")
    return "\n".join(lines)


def run_inspect(options: argparse.Namespace) -> int:
    log.info(f"reading {_path(options.file)}")
    with _open(options, options.file, "drop") as events:
        content = inspect(events)
    print(json.dumps(content) if options.json else escape_controls(as_text(content)))
    return 0


def run_convert(options: argparse.Namespace) -> int:
    target, source = options.output, _path(options.file)
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target}: is the input; give OUT.h5 another name")
    _check_output(options)
    with _open(options, options.file, "unlabelled") as events:
        chosen = _range(events, options.events)
        log.info(f"{events.path}: {events.kind}, {len(chosen)} of {len(events)} events")
        count = convert(
            events,
            target,
            chosen,
            version=options.layout or "v3",
            sidecar=bool(options.layout),
            check=options.check,
        )
    log.info(f"{count} events in {target}")
    return 0


def run_draw(options: argparse.Namespace) -> int:
    with phase("loading plotly and matplotlib"):
        from lartpc_ray.data.draw import check_voxel

    path, first = _path(options.file), options.event
    if options.output and options.output.suffix != ".html":
        raise ValueError(f"{options.output}: the page ends in .html; the picture is beside it")
    if options.count < 1:
        raise ValueError(f"--count {options.count}: at least 1")
    with _open(options, options.file, "drop") as events, ExitStack() as opened:
        event, others = _event(events, first), None
        check_voxel(event, options.cm)
        if options.predicted:
            options.side = event.shape[0]
            others = opened.enter_context(_open(options, options.predicted, "drop"))
        numbers = range(first, min(first + options.count, len(events)))
        pages = {number: _page(options, path, number) for number in numbers}
        for number in numbers:
            _draw_page(options, number, pages, (events, others))
    return 0


def _page(options: argparse.Namespace, path: Path, number: int) -> Path:
    """Return the page of an event; several events have their number in its name."""
    page = options.output or Path(f"{path.name.split('.')[0]}-event.html")
    if options.output and options.count == 1:
        return page
    return page.with_name(f"{page.stem}-{number}.html")


def _draw_page(
    options: argparse.Namespace,
    number: int,
    pages: Mapping[int, Path],
    sources: tuple[EventSource, EventSource | None],
) -> None:
    """Draw an event, with links to the event before and the event after it."""
    from lartpc_ray.data.draw import brightest, compared_views, describe, write_drawing
    from lartpc_ray.data.views import views

    events, others = sources
    page = pages[number]
    with phase(f"drawing event {number}"):
        event = _event(events, number)
        drawn = brightest(event)
        shown = views(drawn, predicted=events.predicted)
        if others is not None:
            shown = compared_views(drawn, _event(others, number))
        title = f"{_path(options.file).name}, event {number}: {describe(event)}"
        beside = {"previous event": number - 1, "next event": number + 1}
        links = {text: pages[other].name for text, other in beside.items() if other in pages}
        picture = write_drawing(page, drawn, title, shown, links=links, voxel_cm=options.cm)
    print(escape_controls(f"{page} and {picture}"))


def run_simulate(options: argparse.Namespace) -> int:
    settings = BombSettings(side=options.side, density=options.density)
    _check_output(options)
    simulate(options.output, options.events, options.seed, settings, options.layout)
    log.info(f"{options.events} events in {options.output}")
    if options.layout == "v1":
        log.info(NO_PID)
    return 0


def simulate(
    path: Path, events: int, seed: int, settings: BombSettings, layout: Version | None = None
) -> None:
    """Write simulated events, whole or not at all; with a layout also the sidecar file.

    Raises:
        ValueError: for less than one event, a negative seed, or a folder that does not exist.
    """
    if events < 1:
        raise ValueError(f"{events} events: give at least 1")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    bomb = track(Bomb(events, seed, settings), events, "simulate: event")
    write_events(path, bomb, version=layout or "v3", sidecar=bool(layout))


def _check_output(options: argparse.Namespace) -> None:
    refuse_other_format(options.output)
    if options.output.exists() and not options.force:
        raise ValueError(f"{options.output}: the file exists; --force replaces it")


def _event(events: EventSource, number: int) -> Event:
    if not 0 <= number < len(events):
        raise ValueError(f"{events.path}: event {number} of {len(events)}; count from 0")
    event: Event = events[number]
    return event


def _path(name: str) -> Path:
    samples = {f"sample/{split}": split for split in SAMPLE_SIZES}
    return sample(samples[name]) if name in samples else Path(name)


def _open(options: argparse.Namespace, name: str, low_energy: str) -> EventSource:
    """Open a file as the arguments that the commands share describe it."""
    products: dict[str, Any] = {}
    for item in options.larcv:
        product, equals, value = item.partition("=")
        if not equals or product not in Products.model_fields:
            known = ", ".join(Products.model_fields)
            raise ValueError(f"--larcv {item}: write NAME=VALUE; the names are {known}")
        products[product] = value.split(",") if product == "codes" else value
    layout = Layout(
        **({} if options.side is None else {"side": options.side}),
        classes=_classes(options, low_energy),
        duplicates=options.duplicates,
        larcv=Products.model_validate_strings(products),
        hits=Hits(plane=options.plane),
    )
    return open_events(_path(name), layout, from_voxels=options.side is None)


def _classes(options: argparse.Namespace, low_energy: str) -> ClassMap:
    further = tuple(options.further.split(",")) if options.further else ()
    known = get_args(Code)
    for name in further:
        if name not in known:
            raise ValueError(
                f"--further {options.further}: {name} is not one of {list_names(known)}"
            )
    meaning = {"low_energy": options.low_energy or low_energy, "further": further}
    return ClassMap.model_validate(meaning)


def _range(events: EventSource, text: str | None) -> range:
    """Return the numbers of the events `A:B`, from A to B - 1."""
    bounds = re.fullmatch(r"(\d*):(\d*)", text or ":")
    if not bounds:
        raise ValueError(f"--events {text}: write A:B for the events A to B - 1")
    first, last = int(bounds[1] or 0), int(bounds[2] or len(events))
    if text and not first < last <= len(events):
        raise ValueError(f"{events.path}: --events {text}: it has the events 0:{len(events)}")
    return range(first, last)


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": run_inspect,
    "convert": run_convert,
    "draw": run_draw,
    "simulate": run_simulate,
}
"""The action of each command of `python -m lartpc_ray.data`."""
