"""`python -m lartpc_ray.data`: inspect what is in a file of events, simulate a new one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray import command
from lartpc_ray.command import Parser, say
from lartpc_ray.data.bomb import Bomb, BombSettings
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import ClassMap, EventFile, Layout, sample, write_events


def inspect(path: Path, layout: Layout) -> dict[str, Any]:
    """Count events, voxels, energies, classes and clusters of a file.

    Raises:
        ValueError: naming file, event and value of the first thing that is wrong.
    """
    voxels, energies = [], []
    classes = {
        particle.name: {"voxels": 0, "clusters": 0, "events": 0} for particle in ParticleClass
    }
    unlabelled = 0
    low, high = np.full(3, np.iinfo(np.int32).max), np.full(3, -1)
    with EventFile(path, layout) as events:
        version = events.version
        for event in events:
            voxels.append(len(event))
            energies.append(float(event.energy.sum()))
            unlabelled += int((event.semantic < 0).sum())
            if len(event):
                low = np.minimum(low, event.coords.min(axis=0))
                high = np.maximum(high, event.coords.max(axis=0))
            for particle in ParticleClass:
                mask = event.semantic == particle
                clusters = np.unique(event.cluster[mask])
                counts = classes[particle.name]
                counts["voxels"] += int(mask.sum())
                counts["clusters"] += int((clusters >= 0).sum())
                counts["events"] += bool(mask.any())
    return {
        "file": str(path),
        "layout": f"PILArNet-M {version}",
        "events": len(voxels),
        "empty_events": sum(count == 0 for count in voxels),
        "voxels": sum(voxels),
        "median_voxels": float(np.median(voxels)) if voxels else 0.0,
        "median_energy_mev": float(np.median(energies)) if energies else 0.0,
        "unlabelled_voxels": unlabelled,
        "lowest": low.tolist() if sum(voxels) else None,
        "highest": high.tolist() if sum(voxels) else None,
        "side": layout.side,
        "classes": classes,
    }


def text(found: dict[str, Any]) -> str:
    """What was found, for people."""
    lines = [
        f"{found['file']}: {found['layout']}",
        f"{found['events']} events ({found['empty_events']} empty), {found['voxels']} voxels, "
        f"median {found['median_voxels']:.0f} voxels, {found['median_energy_mev']:.0f} MeV each",
        f"positions {found['lowest']} to {found['highest']} in an image of {found['side']}³",
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

    def told() -> Iterator[Event]:
        for number, event in enumerate(bomb, 1):
            yield event
            if number * 10 // events > (number - 1) * 10 // events:
                say(f"{number} of {events} events")

    write_events(path, told())


def main(options: argparse.Namespace) -> int:
    path = Path(options.file)
    if options.what == "simulate":
        settings = BombSettings(side=options.side, density=options.density)
        simulate(path, options.events, options.seed, settings)
        return 0
    if options.file in ("sample/train", "sample/tune", "sample/test"):
        path = sample(options.file.split("/")[1])
    classes = ClassMap(low_energy=options.low_energy)
    layout = Layout(side=options.side, classes=classes, duplicates=options.duplicates)
    say(f"reading {path}")
    found = inspect(path, layout)
    print(json.dumps(found) if options.json else text(found))
    return 0


def parser() -> Parser:
    """The arguments of the command."""
    made = Parser("data", "Look into files of events, or make one.", "inspect events.h5 --side 768")
    made.add_argument(
        "what",
        choices=["inspect", "simulate"],
        help="inspect: print what is in a file; simulate: write events of the particle bomb",
    )
    made.add_argument("file", help="a PILArNet-M file, or sample/train, sample/tune, sample/test")
    made.add_argument("--events", type=int, default=100, help="simulate: how many")
    made.add_argument("--seed", type=int, default=0, help="simulate: same seed, same events")
    made.add_argument(
        "--density", type=float, default=1.0, help="simulate: scales the number of particles"
    )
    made.add_argument("--side", type=int, default=512, help="voxels along each axis of the image")
    made.add_argument("--duplicates", choices=["error", "merge"], default="error")
    made.add_argument(
        "--low-energy", choices=["drop", "SHOWER", "unlabelled"], default="drop", help="LED voxels"
    )
    made.add_argument("--json", action="store_true", help="print as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
