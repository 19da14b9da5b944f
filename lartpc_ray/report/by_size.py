"""Efficiency and purity of clusters against their energy, length or voxels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.atomic import replace_file
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.dead_regions import PITCH
from lartpc_ray.metrics.binned import Binned, binned_means, binned_shares, equal_bins
from lartpc_ray.predict.cluster_columns import Columns, event_tables, join
from lartpc_ray.predict.placement import LazyRay
from lartpc_ray.predict.tables import has_tables, read_clusters
from lartpc_ray.report.charts import COLOURS, Chart, chart
from lartpc_ray.report.document import Grid, Page, Plot, Row, Table
from lartpc_ray.report.sides import Side, load_side, network_options, refuse_for_prediction
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import align_columns
from lartpc_ray.tracking.runs import Tracking

SIZES = {
    "energy": ("energy", "energy [MeV]"),
    "length": ("extent_cm", "length [cm]"),
    "voxels": ("voxels", "voxels"),
}
"""Name of a size to its column and its axis."""
FOUND = 0.5
"""A true cluster is found if its partner has more than this share of it, and of its own voxels in
it."""
QUANTITIES = {
    "efficiency": "efficiency, mean over true clusters",
    "purity": "purity, mean over predicted clusters",
    "found": f"share of true clusters found (efficiency and purity > {FOUND})",
}


@dataclass(frozen=True, eq=False)
class BySize:
    """Efficiency, purity and share of clusters found, in bins of a size.

    Attributes:
        name: of the prediction or the network.
        size: a key of `SIZES`.
        events: number of events with a cluster.
        curves: key of `QUANTITIES` to class to the quantity in bins.
    """

    name: str
    size: str
    events: int
    curves: Mapping[str, Mapping[str, Binned]]

    @staticmethod
    def of(name: str, size: str, clusters: Columns) -> BySize:
        """Bin the clusters of a prediction by a size, class by class.

        Efficiency and share found are of true clusters by their own size, purity is of predicted
        clusters by theirs.
        """
        curves: dict[str, dict[str, Binned]] = {quantity: {} for quantity in QUANTITIES}
        for index, label in enumerate(CLASS_NAMES):
            of_class = clusters["class"] == index
            for quantity, of_classes in curves.items():
                side = clusters["predicted"] == (quantity == "purity")
                kept = {key: column[of_class & side] for key, column in clusters.items()}
                if len(kept["event"]):
                    of_classes[label] = _binned(quantity, kept[SIZES[size][0]].astype(float), kept)
        return BySize(name, size, len(np.unique(clusters["event"])), curves)

    def text(self) -> str:
        """Return the bins of each class as text."""
        unit = SIZES[self.size][1]
        lines = [f"{self.name}: {self.events} events, by {unit}; 68 % intervals"]
        for quantity, of_classes in self.curves.items():
            rows = [
                [label if not number else "", *cells]
                for label, bins in of_classes.items()
                for number, cells in enumerate(_cells(bins))
            ]
            lines += ["", QUANTITIES[quantity]]
            lines += align_columns([["", unit, "value", "interval", "clusters"], *rows], "<>")
        return "\n".join(lines)

    def content(self) -> dict[str, Any]:
        """Return the bins for JSON."""
        return {
            "name": self.name,
            "by": self.size,
            "events": self.events,
            "curves": {
                quantity: {
                    label: {key: column.tolist() for key, column in vars(bins).items()}
                    for label, bins in of_classes.items()
                }
                for quantity, of_classes in self.curves.items()
            },
        }

    def write(self, path: Path) -> None:
        """Write a picture for a path that ends with .png, else a page; whole or not at all."""
        if path.suffix == ".png":
            self._draw(path)
            return
        page, unit = Page(), SIZES[self.size][1]
        for quantity, of_classes in self.curves.items():
            title = QUANTITIES[quantity]
            plots = [
                Plot(size_chart({label: bins}, unit, quantity), f"{title}, {label}", label)
                for label, bins in of_classes.items()
            ]
            tables = [
                Table(
                    label,
                    [unit, "value", "interval", "clusters"],
                    [Row("", "", cells) for cells in _cells(bins)],
                )
                for label, bins in of_classes.items()
            ]
            error = "Wilson's interval" if quantity == "found" else "a bootstrap over events"
            text = f"Bins of about equal numbers of clusters; the bars are the 68 % of {error}."
            page.add(title[0].upper() + title[1:], text, Grid(plots), *tables)
        page.write(path, f"{self.name}, by {self.size}", {"events": str(self.events)})

    def _draw(self, path: Path) -> None:
        figure = Figure(figsize=(14, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (quantity, of_classes) in zip(
            figure.subplots(1, len(QUANTITIES)), self.curves.items(), strict=True
        ):
            for label, bins in of_classes.items():
                bars = np.abs([bins.value - bins.down, bins.up - bins.value])
                look: dict[str, Any] = {"fmt": "o-", "ms": 4, "capsize": 2, "lw": 1}
                axes.errorbar(
                    bins.middle, bins.value, yerr=bars, color=COLOURS[label], label=label, **look
                )
            axes.set(xlabel=SIZES[self.size][1], ylim=(0, 1.02), title=quantity)
            axes.set_xscale("symlog", linthresh=1)
            axes.legend(fontsize=8)
        figure.suptitle(f"{self.name}, {self.events} events", fontsize=10)
        with replace_file(path) as part:
            figure.savefig(part, dpi=110, format="png")


def _binned(quantity: str, sizes: np.ndarray, clusters: Columns) -> Binned:
    bins = equal_bins(sizes)
    if quantity == "found":
        with np.errstate(invalid="ignore"):
            found = (clusters["efficiency"] > FOUND) & (clusters["purity"] > FOUND)
        return binned_shares(sizes, found, bins)
    return binned_means(sizes, clusters[quantity].astype(float), clusters["event"], bins)


def _cells(bins: Binned) -> list[list[str]]:
    rows = zip(
        *(getattr(bins, key) for key in ("low", "high", "value", "down", "up", "count")),
        strict=True,
    )
    return [
        [f"{low:.4g} - {high:.4g}", f"{value:.3f}", f"{down:.3f} - {up:.3f}", str(count)]
        for low, high, value, down, up, count in rows
    ]


def size_chart(curves: Mapping[str, Binned], across: str, up: str) -> Chart:
    """Draw a quantity against a size, class by class."""
    traces = []
    for label, bins in curves.items():
        error = {
            "type": "data",
            "symmetric": False,
            "array": np.abs(bins.up - bins.value),
            "arrayminus": np.abs(bins.value - bins.down),
            "thickness": 1,
            "width": 3,
        }
        hover = f"{label}: %{{y:.3f}} at %{{x:.4g}}, %{{customdata}} clusters<extra></extra>"
        trace: Chart = {"type": "scatter", "mode": "lines+markers", "x": bins.middle}
        trace |= {"y": bins.value, "error_y": error, "name": label, "customdata": bins.count}
        traces.append(trace | {"line": {"color": COLOURS[label]}, "hovertemplate": hover})
    axis = {"type": "log"} if all((bins.middle > 0).all() for bins in curves.values()) else {}
    return chart(traces, across, up, xaxis=axis, yaxis={"range": [0, 1.05]}, showlegend=False)


def run_by_size(options: argparse.Namespace, ray: LazyRay) -> int:
    """Print or write efficiency and purity against a size, for the command line."""
    source = options.study or options.run
    if has_tables(Path(source)):
        refuse_for_prediction(source, network_options(options, ray))
        shown = BySize.of(Path(source).name, options.by, read_clusters(Path(source)))
    else:
        tracking = Tracking(options.runs, None, options.tracking_uri)
        with phase("measuring the clusters"):
            side = load_side(tracking, source, options.method, options.data, ray=ray)
            shown = BySize.of(side.label, options.by, network_clusters(side, source))
    if options.html:
        shown.write(options.html)
        log.info(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
    else:
        print(json.dumps(shown.content(), indent=1) if options.json else shown.text())
    return 0


def network_clusters(side: Side, source: str) -> Columns:
    """Return the clusters of the test split, true and predicted.

    Raises:
        ValueError: for a network that makes no clusters.
    """
    task = side.evaluation.task
    if task.output_column != "cluster":
        raise ValueError(f"{source}: --by: the task {task.name} makes no clusters")
    predictions = side.evaluation.predictions("test")
    return join(
        [
            event_tables(task, side.thresholds, PITCH, number, *predictions[number])[0]
            for number in range(len(predictions))
        ]
    )
