"""`python -m lartpc_ray.data inspect FILE`: what is in a file of events."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray import command
from lartpc_ray.command import Parser, say
from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.files import EventFile, sample
from lartpc_ray.data.layout import ClassMap, Layout


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


def main(options: argparse.Namespace) -> int:
    path = Path(options.file)
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
    made = Parser("data", "Look into files of events.", "inspect events.h5 --side 768")
    made.add_argument("what", choices=["inspect"], help="inspect: print what is in a file")
    made.add_argument("file", help="a PILArNet-M file, or sample/train, sample/tune, sample/test")
    made.add_argument("--side", type=int, default=512, help="voxels along each axis of the image")
    made.add_argument("--duplicates", choices=["error", "merge"], default="error")
    made.add_argument(
        "--low-energy", choices=["drop", "SHOWER", "unlabelled"], default="drop", help="LED voxels"
    )
    made.add_argument("--json", action="store_true", help="print as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
