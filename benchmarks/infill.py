"""F1 of infilled voxels against the width of the gap, beside the straight line; three events.

The thresholds are tuned anew at each width, on the tune split; both methods see the same regions.

    python benchmarks/infill.py --checkpoint checkpoint.pt --data DIR --out docs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lartpc_ray.data.event import Event
from lartpc_ray.metrics.table import Metrics, Row
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.predict.evaluate import baseline, measure, validate
from lartpc_ray.predict.evaluation import Predictions
from lartpc_ray.predict.inference import predict
from lartpc_ray.tasks import InfillTask
from lartpc_ray.tasks.infill import TRACK
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.trials import checkpoint as checkpoints

WINDOW = 28
"""Voxels that a picture shows on both sides of the middle of the gap."""


@dataclass(frozen=True)
class Point:
    """The scores at one width: means over events, the standard error of network - line."""

    width: float
    network: float
    line: float
    drawn: float
    error: float
    ceiling: float
    events: int


def point(
    network: UResNet, task: InfillTask, tune: Sequence[Event], test: Sequence[Event], width: float
) -> Point:
    """Both methods with gaps of one width, cm."""
    regions = task.regions.model_copy(update={"width": (width, width)})
    task = task.model_copy(update={"regions": regions, "max_candidates": 10**6})
    at = validate(network, task, tune).thresholds
    predictions = Predictions(predict(network, task, test), len(test))
    found = measure(task, predictions, at)
    line = baseline(task, (event for event, _ in predictions))
    scores, rival = found.values(TRACK, "f1"), line.values(TRACK, "f1")
    error = float((scores - rival).std(ddof=1) / len(scores) ** 0.5)
    ceiling = found.values(TRACK, "ceiling").mean()
    return Point(width, scores.mean(), rival.mean(), drawn(task, test), error, ceiling, len(scores))


def drawn(task: InfillTask, events: Sequence[Event]) -> float:
    """F1 of the lines alone that `task.start_value: line` draws by what is seen."""
    task = task.model_copy(update={"start_value": "line"})
    rows: list[Row] = []
    for number, event in enumerate(map(task.prepare, events)):
        outputs = {"score": (event.energy > 0).astype(np.float32), "energy": event.energy}
        rows += task.evaluate(number, event, outputs, task.untuned()).rows
    return float(Metrics(rows).values(TRACK, "f1").mean())


def draw_widths(path: Path, points: Sequence[Point]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = [one.width for one in points]
    error = [one.error for one in points]
    axes.errorbar(width, [one.network for one in points], error, fmt="o-", label="network")
    axes.plot(width, [one.line for one in points], "s--", label="straight line of the true track")
    axes.plot(width, [one.drawn for one in points], "^-.", label="lines by what is seen")
    axes.plot(width, [one.ceiling for one in points], ":", color="0.5", label="ceiling (recall)")
    axes.set(xlabel="width of the dead slab [cm]", ylabel="F1 of active voxels", ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=80)


def draw_events(
    path: Path, network: UResNet, task: InfillTask, test: Sequence[Event], at: Thresholds
) -> None:
    """Draw the best, the middle and the worst event along an axis: target, input, prediction."""
    scored = []
    for number, (event, outputs) in enumerate(predict(network, task, test)):
        score = task.evaluate(number, event, outputs, at).mean(TRACK, "f1")
        if score is not None:
            scored.append((score, number))
    scored.sort(reverse=True)
    chosen = [scored[0], scored[len(scored) // 2], scored[-1]]
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 3)
    for row, (score, number), name in zip(panels, chosen, ("best", "middle", "worst"), strict=True):
        ((event, outputs),) = predict(network, task, [test[number]])
        assert event.regions is not None
        low, high = event.regions.corners[0]
        across = int((high - low).argmin())
        hidden = event.regions.truth
        middle = np.median(hidden.coords, axis=0)
        shown = [axis for axis in range(3) if axis != np.ptp(hidden.coords, axis=0).argmin()]
        shown = shown if across in shown else [across, shown[0]]
        seen, filled = event.select(~event.dead), task.reconstruct(event, outputs, at)
        columns = {
            "target": (
                np.concatenate([seen.coords, hidden.coords]),
                np.concatenate([seen.energy, hidden.energy]),
            ),
            "input": (seen.coords, seen.energy),
            "prediction": (filled.coords, filled.energy),
        }
        for axes, (title, (coords, energy)) in zip(row, columns.items(), strict=True):
            order = np.argsort(energy)
            axes.scatter(
                *coords[order][:, shown].T, c=np.maximum(energy[order], 0.05), s=6, marker="s",
                norm=LogNorm(0.05, 5), cmap="viridis",
            )  # fmt: skip
            for place, axis in enumerate(shown):
                limits = (axes.set_xlim, axes.set_ylim)[place]
                limits(middle[axis] - WINDOW, middle[axis] + WINDOW)
            span = (axes.axvspan, axes.axhspan)[shown.index(across)]
            span(low[across] - 0.5, high[across] - 0.5, color="red", alpha=0.12, linewidth=0)
            axes.set_title(
                f"{name}: {title}" + f", F1 {score:.2f}" * (title == "prediction"), fontsize=9
            )
            axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=70)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--checkpoint", type=Path, required=True)
    made.add_argument("--data", help="folder with tune and test files; default the run's own")
    made.add_argument("--widths", type=float, nargs="+", default=[1, 2, 3, 5, 7, 10])
    made.add_argument("--events", type=int, default=60, help="of each split")
    made.add_argument("--out", type=Path, default=Path("docs"))
    options = made.parse_args()
    torch.set_num_threads(1)
    state = checkpoints.load(options.checkpoint)
    splits = state.trial.data.splits
    if options.data:
        splits = splits.model_copy(update={"path": options.data})
    task, network = state.trial.task, state.restored()
    assert isinstance(task, InfillTask)
    tune, test = (list(islice(splits.events(name), options.events)) for name in ("tune", "test"))
    print(
        f"{'width [cm]':>10}{'network':>10}{'line':>10}{'± diff':>10}{'drawn':>10}"
        f"{'ceiling':>10}{'events':>10}"
    )
    points = []
    for width in options.widths:
        points.append(one := point(network, task, tune, test, width))
        values = (one.network, one.line, one.error, one.drawn, one.ceiling)
        columns = "".join(f"{value:>10.3f}" for value in values)
        print(f"{width:>10g}{columns}{one.events:>10}", flush=True)
    if len(points) > 1:
        draw_widths(options.out / "infill-widths.png", points)
    at = validate(network, task, tune).thresholds
    draw_events(options.out / "infill-events.png", network, task, test, at)


if __name__ == "__main__":
    main()
