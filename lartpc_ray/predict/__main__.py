"""A network and events -> outputs event by event: the one path to every metric.

`python -m lartpc_ray.predict` writes what a trained run finds in new events.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from lartpc_ray.data.dead_regions import DeadMap
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.predict.inference import reconstruct_events
from lartpc_ray.predict.thresholds_file import read_thresholds
from lartpc_ray.tasks import InfillTask
from lartpc_ray.tasks.clustering import METHODS
from lartpc_ray.tasks.task import Thresholds, ThresholdTask
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, log
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE, Checkpoint


def main(options: argparse.Namespace) -> int:
    if options.output.exists() and not options.force:
        raise ValueError(f"{options.output}: is there already; --force writes over it")
    if (options.semantics == "predicted") != bool(options.segmentation_run):
        raise ValueError("--semantics predicted and --segmentation-run ID go together")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        state = checkpoints.load(tracking.fetch(options.run, FILE, folder))
        at: Thresholds = {}
        if isinstance(state.trial.task, ThresholdTask):
            task = state.trial.task.with_method(
                options.method or state.trial.task.active_method.name
            )
            state = replace(state, trial=state.trial.model_copy(update={"task": task}))
            name = f"thresholds-{task.active_method.name}.yaml"
            path = options.thresholds or tracking.fetch(options.run, name, folder)
            at = read_thresholds(path, list(task.active_method.axes()))
        events = read_events(options.events, layout=state.trial.data.splits.layout)
        if options.segmentation_run:
            file = tracking.fetch(options.segmentation_run, FILE, folder / "segmentation")
            events = reconstruct_events(checkpoints.load(file), events, {})
    untuned = [name for name in state.trial.task.scored_classes if at and name not in at]
    if untuned:
        log.info(f"no thresholds for {', '.join(untuned)}: their voxels stay in no cluster")
    if options.dead or isinstance(state.trial.task, InfillTask):
        state = with_dead_map(state, options.dead)
    count = write_events(options.output, reconstruct_events(state, events, at), predicted=True)
    log.info(f"{count} events in {options.output}")
    return 0


def with_dead_map(state: Checkpoint, path: Path | None) -> Checkpoint:
    """An infill's run that fills the regions of a map, instead of random ones.

    Raises:
        ValueError: for a run of another task, or without any map.
    """
    task = state.trial.task
    if not isinstance(task, InfillTask):
        raise ValueError(f"--dead {path}: the task {task.name} fills no dead regions")
    if path is None and task.dead is None:
        raise ValueError("--dead MAP.yaml is missing: an infill must know the dead regions")
    dead = read_dead_map(path) if path else task.dead
    task = task.model_copy(update={"dead": dead})
    return replace(state, trial=state.trial.model_copy(update={"task": task}))


def read_dead_map(path: Path) -> DeadMap:
    """A detector's dead regions: `slabs` with axis, position and width, `boxes` with low and high.

    Raises:
        ValueError: for what is no such map, with file, key and reason.
    """
    try:
        return DeadMap.model_validate_json(json.dumps(yaml.safe_load(path.read_text())))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such dead-region map") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "map"
        raise ValueError(f"{path}: {key}: {first['msg']}; it was {first['input']!r}") from None
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{path}: not YAML: {error_text(error)}") from None


def parser() -> Parser:
    """The arguments of the command."""
    made = Parser(
        "predict",
        "Write what a trained run finds in events, in the PILArNet-M layout.",
        "--run 0123abcd events.h5 -o clusters.h5",
    )
    made.add_argument("events", type=Path, metavar="EVENTS.h5", help="PILArNet-M or LArCV file")
    made.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    made.add_argument("--run", required=True, help="an MLflow run, or a folder of one")
    made.add_argument(
        "--method", "--cut", choices=METHODS, help="how voxels become clusters; default the task's"
    )
    made.add_argument("--thresholds", type=Path, help="a thresholds.yaml; default the run's own")
    made.add_argument(
        "--semantics", choices=("truth", "predicted"), default="truth", help="classes to cluster in"
    )
    made.add_argument("--segmentation-run", metavar="ID", help="run that predicts the classes")
    made.add_argument(
        "--dead", type=Path, metavar="MAP.yaml", help="dead regions that an infill fills, in cm"
    )
    made.add_argument("--force", action="store_true", help="write over OUTPUT")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
