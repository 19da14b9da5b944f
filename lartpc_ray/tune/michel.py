"""Michel electrons from the classes that another run predicts."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.metrics.michel import Match
from lartpc_ray.predict.evaluate import evaluate_on_test
from lartpc_ray.predict.inference import predict
from lartpc_ray.report.record import access_hint, log_result
from lartpc_ray.report.tables import table
from lartpc_ray.tasks import MichelTask, SegmentationTask
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.space import Space


def draw_michels(path: Path, matches: Sequence[Match]) -> None:
    """Draw the energies and the sizes of matched Michel electrons, found beside true.

    The spectrum ends at 52.8 MeV, less what photons carry away (Dominé & Terao 2020, VII).
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, sizes = figure.subplots(1, 2)
    bins = np.linspace(0, 60, 31).tolist()
    spectrum.hist([one.true_energy for one in matches], bins, histtype="step", label="true")
    spectrum.hist([one.found_energy for one in matches], bins, histtype="step", label="found")
    spectrum.set(xlabel="energy of the cluster [MeV]", ylabel="Michel electrons")
    spectrum.legend()
    sizes.plot([one.true for one in matches], [one.found for one in matches], ".", alpha=0.6)
    largest = max((max(one.true, one.found) for one in matches), default=1)
    sizes.plot([0, largest], [0, largest], color="0.6", linewidth=1)
    sizes.set(xlabel="true voxels", ylabel="found voxels", title=f"{len(matches)} matched")
    figure.savefig(path, dpi=110)


def run_michel(options: argparse.Namespace, space: Space) -> int:
    """Tune and judge a reconstruction whose network another run has trained."""
    tracking = Tracking(options.runs, space.name, options.tracking_uri)
    trial = space.first_trial()
    if not isinstance(trial.task, MichelTask):
        raise ValueError(f"--run: the task {trial.task.name} trains its own network; leave it out")
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(options.run, checkpoints.FILE, Path(scratch)))
        if not isinstance(state.trial.task, SegmentationTask):
            raise ValueError(
                f"--run {options.run}: its task is {state.trial.task.name}, not segmentation"
            )
        task = trial.task.model_copy(update={"segmentation": state.trial.task})
        data = trial.data if options.data else state.trial.data
        state = replace(state, trial=state.trial.model_copy(update={"task": task, "data": data}))
        result = evaluate_on_test(state)
        run = tracking.start(space.name, {"kind": space.name, "of": options.run})
        log_result(tracking, run, state, result)
        found = predict(state.restored(), task, data.splits.events("test"))
        picture = Path(scratch) / "michels.png"
        draw_michels(
            picture,
            [match for pair in found for match in task.matches(*pair, result.thresholds)],
        )
        tracking.log_artifact(run, picture)
        tracking.finish(run)
    if options.json:
        print(json.dumps({"run": run, **asdict(result)}, indent=1))
    else:
        print(f"{table(result)}\n{access_hint(tracking, options.runs, run)}")
    return 0
