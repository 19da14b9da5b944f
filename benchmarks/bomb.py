"""Compare the particle bomb with Geant4, and measure its speed.

Usage: python benchmarks/bomb.py [--data PATH]

1. Voxels per class and event (of the events that have the class), cluster sizes, energies of the
   voxels, occupied neighbours of the 26, energies of Michel electrons: both medians and their
   ratio, which must lie within 25 %; `--picture PATH` draws the quantiles.
2. Events per second and core, by CPU time, and the mean number of voxels: three densities of
   particles give 500 to 200,000 voxels.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from lartpc_ray.data.classes import ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.pilarnet import EventFile
from lartpc_ray.data.simulation.generator import Bomb, BombSettings
from lartpc_ray.data.splits import sample

TOUCHING = 1.75
"""Two voxels that share a corner are sqrt(3) apart."""

MEASURES = {
    "voxels": "voxels per event",
    "size": "voxels per cluster",
    "energy": "MeV per voxel",
    "neighbours": "occupied neighbours",
    "spectrum": "MeV per Michel electron",
}
BAND = 0.25
LINEAR = ("neighbours", "spectrum")
Samples = dict[tuple[str, str], np.ndarray]


def measured(events: Iterable[Event]) -> Samples:
    """Collect the values of each measure and class."""
    samples: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for whole in events:
        event = whole.select(whole.semantic >= 0)
        if not len(event):
            continue
        near = cKDTree(event.coords).query_ball_point(event.coords, TOUCHING, return_length=True)
        samples["voxels", "all"].append(np.array([len(event)]))
        for particle in ParticleClass:
            mask = event.semantic == particle
            if not mask.any():
                continue
            cluster = np.unique(event.cluster[mask], return_inverse=True)[1]
            name = particle.name
            samples["voxels", name].append(np.array([mask.sum()]))
            samples["size", name].append(np.bincount(cluster))
            samples["energy", name].append(event.energy[mask])
            samples["neighbours", name].append(near[mask] - 1)
            if particle == ParticleClass.MICHEL:
                samples["spectrum", name].append(np.bincount(cluster, event.energy[mask]))
    return {key: np.concatenate(values) for key, values in sorted(samples.items())}


def table(geant: Samples, bomb: Samples) -> bool:
    """Print both medians of each measure; return whether all ratios are within the band."""
    good = True
    print(f"{'':<24}{'class':<8}{'Geant4':>9}{'bomb':>9}{'ratio':>7}")
    for measure, title in MEASURES.items():
        for key in (key for key in geant if key[0] == measure):
            wanted, median = float(np.median(geant[key])), float(np.median(bomb[key]))
            near = abs(median / wanted - 1) <= BAND
            good &= near
            mark = "" if near else "  not within 25 %"
            print(
                f"{title:<24}{key[1]:<8}{wanted:>9.3g}{median:>9.3g}{median / wanted:>7.2f}{mark}"
            )
    return good


def draw(path: Path, geant: Samples, bomb: Samples) -> None:
    """Draw quantiles from 5 to 95 %, Geant4 as lines and the bomb as dots."""
    share = np.linspace(0.05, 0.95, 19)
    figure = Figure(figsize=(15, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (measure, title) in zip(figure.subplots(1, 5), MEASURES.items(), strict=True):
        for number, particle in enumerate(ParticleClass):
            key = (measure, particle.name)
            if key in geant:
                color = f"C{number}"
                axes.plot(share, np.quantile(geant[key], share), color=color, label=key[1])
                axes.plot(share, np.quantile(bomb[key], share), ".", color=color)
        axes.set(title=title, xlabel="quantile", yscale="linear" if measure in LINEAR else "log")
    figure.axes[0].legend(fontsize=8)
    figure.suptitle("lines: Geant4, dots: the particle bomb", fontsize=10)
    figure.savefig(path, dpi=80)


def speed(settings: BombSettings, events: int, seed: int, repeats: int) -> None:
    """Print the events per second of one core: the median over repeats, and the best."""
    bomb = Bomb(events, seed, settings)
    rates, voxels = [], 0.0
    for _ in range(repeats):
        began = time.process_time()
        voxels = float(np.mean([len(event) for event in bomb]))
        rates.append(events / (time.process_time() - began))
    rate = f"{np.median(rates):>6.1f} events/s, at best {max(rates):.1f}"
    print(f"density {settings.density:<5g} {voxels:>8.0f} voxels per event, {rate}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=sample("train"), help="the Geant4 events")
    parser.add_argument("--events", type=int, default=1000, help="of the bomb")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    settings = BombSettings(side=512)
    events: Sequence[Event] = EventFile(options.data)
    print(f"{options.data.name}: {len(events)} events; bomb: {options.events}, seed {options.seed}")
    geant, bomb = measured(events), measured(Bomb(options.events, options.seed, settings))
    good = table(geant, bomb)
    if options.picture:
        draw(options.picture, geant, bomb)
    for density, count in ((0.2, 200), (1.0, 200), (70.0, 3)):
        faster = settings.model_copy(update={"density": density})
        speed(faster, count, options.seed, options.repeats)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
