"""A network and events -> outputs event by event: the one path to every metric.

`python -m lartpc_ray.predict` writes what a trained run finds in new events.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.checkpoint import FILE, Checkpoint
from lartpc_ray.command import Parser, say
from lartpc_ray.data.batch import VoxelBatch
from lartpc_ray.data.dead import DeadMap
from lartpc_ray.data.event import Event
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.networks.uresnet import UResNet
from lartpc_ray.tasks import InfillTask
from lartpc_ray.tasks.task import CutTask, Outputs, Task, Thresholds
from lartpc_ray.tracking import Tracking

CUTS = ("seeds", "linked", "dbscan")
"""Ways to make clusters that a run can be read by."""
BATCH_VOXELS = 20_000
"""Voxels at a time: enough to keep the cores busy, little enough to stay in memory."""


def predict(
    network: UResNet, task: Task, events: Iterable[Event], *, device: str = "cpu"
) -> Iterator[tuple[Event, Outputs]]:
    """Stream the prepared events and what the network says of them.

    Args:
        network: in any mode; it is evaluated with its running averages and left as it was.
        task: prepares the events and reads the outputs.
        events: as they come from a file; an empty one gives empty outputs.
        device: where the network is.
    """
    for group in _groups(task.prepare(event) for event in events):
        batch = VoxelBatch.of(group).to(device)
        outputs = {name: batch.split(rows) for name, rows in _run(network, task, batch).items()}
        for place, event in enumerate(group):
            yield event, {name: parts[place] for name, parts in outputs.items()}


@torch.inference_mode()
def _run(network: UResNet, task: Task, batch: VoxelBatch) -> dict[str, torch.Tensor]:
    training = network.training
    network.eval()
    try:
        raw = network(batch.coords, task.features(batch), batch.shape, batch.event)
        return task.outputs(raw, batch)
    finally:
        network.train(training)


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    group: list[Event] = []
    voxels = 0
    for event in events:
        if group and voxels + len(event) > BATCH_VOXELS:
            yield group
            group, voxels = [], 0
        group.append(event)
        voxels += len(event)
    if group:
        yield group


def reconstructed(state: Checkpoint, events: Iterable[Event], at: Thresholds) -> Iterator[Event]:
    """The prepared events with what a trained run finds in the place of the truth.

    Args:
        state: of a trained run.
        events: as they come from a file; clustering needs their classes.
        at: class to thresholds; voxels of a class that is not there stay in no cluster.
    """
    task = state.trial.task
    seen = (state.trial.data.splits.seen(event) for event in events)
    for event, outputs in predict(state.restored(), task, seen):
        yield task.found(event, outputs, at)


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
        if isinstance(state.trial.task, CutTask):
            task = state.trial.task.tuned_by(options.cut or state.trial.task.tuned.name)
            state = replace(state, trial=state.trial.model_copy(update={"task": task}))
            name = f"thresholds-{task.tuned.name}.yaml"
            path = options.thresholds or tracking.fetch(options.run, name, folder)
            at = read_thresholds(path, list(task.tuned.axes()))
        events = read_events(options.events, layout=state.trial.data.splits.layout)
        if options.segmentation_run:
            file = tracking.fetch(options.segmentation_run, FILE, folder / "segmentation")
            events = reconstructed(checkpoints.load(file), events, {})
    untuned = [name for name in state.trial.task.names if at and name not in at]
    if untuned:
        say(f"no thresholds for {', '.join(untuned)}: their voxels stay in no cluster")
    if options.dead or isinstance(state.trial.task, InfillTask):
        state = with_dead_map(state, options.dead)
    count = write_events(options.output, reconstructed(state, events, at), predicted=True)
    say(f"{count} events in {options.output}")
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
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def read_thresholds(path: Path, axes: Sequence[str]) -> Thresholds:
    """The thresholds of each class in a file that `lartpc_ray.thresholds` wrote.

    Raises:
        ValueError: where it is another file.
    """
    try:
        classes = yaml.safe_load(path.read_text())["classes"]
        return {
            str(name): {axis: float(row[axis]) for axis in axes} for name, row in classes.items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        named = " and ".join(axes)
        raise ValueError(f"{path}: no thresholds {named} in it; see thresholds --help") from None


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
    made.add_argument("--cut", choices=CUTS, help="how voxels become clusters; default the task's")
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
