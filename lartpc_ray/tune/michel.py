"""Michel electrons from the classes that another run predicts."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lartpc_ray.metrics.michel import Match
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import LazyRay, Placement
from lartpc_ray.predict.registry import resolve_run
from lartpc_ray.report.record import access_hint, record_result
from lartpc_ray.report.subject import load_evaluation
from lartpc_ray.report.verdict import result_content, result_text
from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.terminal.text import bold
from lartpc_ray.tracking.describe import describe_trial
from lartpc_ray.tracking.provenance import sources
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.inputs import text_digest
from lartpc_ray.trials.paths import flatten_settings, key_settings, make_trial
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.trial import Trial


def draw_michels(path: Path, matches: Sequence[Match]) -> None:
    """Draw the energies and the sizes of matched Michel electrons, found and true.

    The spectrum ends at 52.8 MeV, less what photons carry away (Dominé & Terao 2020, VII).
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, sizes = figure.subplots(1, 2)
    bins = np.linspace(0, 60, 31).tolist()
    spectrum.hist([match.true_energy for match in matches], bins, histtype="step", label="true")
    spectrum.hist([match.found_energy for match in matches], bins, histtype="step", label="found")
    spectrum.set(xlabel="energy of the cluster [MeV]", ylabel="Michel electrons")
    spectrum.legend()
    sizes.plot(
        [match.true for match in matches], [match.found for match in matches], ".", alpha=0.6
    )
    largest = max((max(match.true, match.found) for match in matches), default=1)
    sizes.plot([0, largest], [0, largest], color="0.6", linewidth=1)
    sizes.set(xlabel="true voxels", ylabel="found voxels", title=f"{len(matches)} matched")
    figure.savefig(path, dpi=110)


def with_splits_of(space: Space, trial: Trial) -> Trial:
    """Return a run's trial on the events that a space names, prepared as the run's own events.

    A network that was trained on smeared images reads other files smeared, too, unless the command
    line says otherwise.
    """
    given = {**space.first, **space.fixed}
    splits = {key: value for key, value in given.items() if key.startswith("data.splits.")}
    return make_trial({**flatten_settings(trial), **splits})


def run_michel(options: argparse.Namespace, space: Space) -> int:
    """Tune and evaluate a reconstruction that reads the network of another run."""
    tracking = Tracking(options.runs, None, options.tracking_uri)
    trial = space.first_trial()
    source = resolve_run(tracking, options.run)
    state = load_evaluation(tracking, source).state
    task = trial.task.with_trained(state.trial.task)
    own = with_splits_of(space, state.trial)
    state = replace(state, trial=own.model_copy(update={"task": task}))
    if options.dry_run:
        read_splits(state.trial)
        print(state.trial.model_dump_json(indent=2))
        return 0
    tracking.open_experiment(space.name)
    files = sources(own.data.splits, options.runs)
    digests = [file.digest for file in files.values()]
    inputs = text_digest(" ".join([state.trial.model_dump_json(), *digests]).encode())
    # With other settings or data it is another run: parameters of a run do not change.
    run = tracking.start(space.name, {"kind": space.name, "of": source, "inputs": inputs})
    given = {key: value for key, value in space.overrides.items() if key.startswith("task.")}
    shown = key_settings(state.trial, space.search) | given
    describe_trial(tracking, run, state.trial, files, shown)
    with LazyRay(Placement(workers=options.workers)) as ray:
        evaluation = Evaluation(state, ray=ray)
        result = record_result(tracking, run, evaluation)
        matches = [
            match
            for event, outputs in evaluation.predictions("test")
            for match in task.matches(event, outputs, result.thresholds)
        ]
    with tempfile.TemporaryDirectory() as scratch:
        draw_michels(Path(scratch) / "michels.png", matches)
        tracking.log_artifact(run, Path(scratch) / "michels.png")
    tracking.finish(run)
    if options.json:
        print(json.dumps({"run": run, **result_content(result)}, indent=1))
    else:
        print(f"{result_text(result, bold())}\n{access_hint(tracking, run)}")
    return 0
