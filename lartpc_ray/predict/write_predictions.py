"""Write the reconstruction of new events by a trained run, for the command line."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from lartpc_ray.data.dead_regions import DeadMap
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.predict.inference import reconstruct_events
from lartpc_ray.predict.thresholds_file import read_thresholds
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE


def run_predict(options: argparse.Namespace) -> int:
    if options.output.exists() and not options.force:
        raise ValueError(f"{options.output}: is there already; --force writes over it")
    if (options.semantics == "predicted") != bool(options.segmentation_run):
        raise ValueError("--semantics predicted and --segmentation-run ID go together")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        state = checkpoints.load(tracking.fetch(options.run, FILE, folder))
        task = state.trial.task
        thresholds: Thresholds = {}
        if task.methods:
            task = task.with_method(options.method or task.active_method.name)
            name = f"thresholds-{task.active_method.name}.yaml"
            path = options.thresholds or tracking.fetch(options.run, name, folder)
            thresholds = read_thresholds(path, list(task.active_method.axes()))
        events = read_events(options.events, layout=state.trial.data.splits.layout)
        if options.segmentation_run:
            file = tracking.fetch(options.segmentation_run, FILE, folder / "segmentation")
            events = reconstruct_events(checkpoints.load(file), events, {})
    untuned = [name for name in task.scored_classes if thresholds and name not in thresholds]
    if untuned:
        log.info(f"no thresholds for {', '.join(untuned)}: their voxels stay in no cluster")
    task = task.with_dead_regions(read_dead_map(options.dead) if options.dead else None)
    state = replace(state, trial=state.trial.model_copy(update={"task": task}))
    events = reconstruct_events(state, events, thresholds)
    count = write_events(options.output, events, predicted=True)
    log.info(f"{count} events in {options.output}")
    return 0


def read_dead_map(path: Path) -> DeadMap:
    """Read dead regions: `slabs` with axis, position and width, `boxes` with low and high.

    Raises:
        ValueError: for another content, with file, key and reason.
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
