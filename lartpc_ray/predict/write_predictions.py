"""Write the reconstruction of new events by a trained run, for the command line."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lartpc_ray.data.dead_regions import DeadMap
from lartpc_ray.data.formats.pilarnet_writer import refuse_other_format, write_tables
from lartpc_ray.data.formats.prediction_table import (
    ENDING,
    write_voxel_table,
)
from lartpc_ray.data.formats.source import Tables
from lartpc_ray.data.formats.tables import Version
from lartpc_ray.predict.cluster_columns import with_tables
from lartpc_ray.predict.input_tables import InputTables
from lartpc_ray.predict.job import Work
from lartpc_ray.predict.placement import LazyRay, Placement
from lartpc_ray.predict.reconstruction import reconstruct, reconstruct_voxels
from lartpc_ray.predict.registry import SCHEME, fetch_registered, load_checkpoint
from lartpc_ray.predict.service import InferenceService
from lartpc_ray.predict.shards import ShardFolder, digests
from lartpc_ray.predict.sources import FileEvents, event_files
from lartpc_ray.predict.tables import (
    check_tables,
    table_files,
    write_with_tables,
    write_without_tables,
)
from lartpc_ray.predict.thresholds_file import fetch_thresholds, read_thresholds
from lartpc_ray.runtime.run_folder import locked
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.command import log, refuse_file_as_folder
from lartpc_ray.terminal.phases import phase
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE, Checkpoint
from lartpc_ray.trials.yaml_file import read_yaml

Write = Callable[[Path, Iterator[Any]], int]
"""Writes the results of events to a file, whole or not at all, and returns their number."""


def run_predict(options: argparse.Namespace) -> int:
    output: Path = options.output
    in_shards = output.is_dir() or not output.suffix
    files = event_files(options.events)
    refuse_input(output, files)
    check_options(options, in_shards)
    ray = LazyRay(Placement.of(options))
    states, thresholds = load_networks(options)
    check_tables(options, states[-1].trial.task)
    states = with_image_side(states, options.side)
    layout = states[-1].trial.data.splits.layout
    source = FileEvents(files=files, layout=layout)
    events = parse_events(options.range, len(source.open()))
    with ray:
        ray.start(len(events))
        service = InferenceService(states, source, ray.placement)
        new = not in_shards and not options.force
        work, write = output_form(options, states, thresholds, source, new=new)
        if not in_shards:
            with closing(service.run(work, [events])) as predicted:
                count = write(output, predicted)
            log.info(f"{count} events in {output}")
            return 0
        folder = ShardFolder(output, events, options.shard_events, bool(options.layout))
        output.mkdir(parents=True, exist_ok=True)
        with locked(output):
            known = digests(service.job(), states, thresholds, options.runs)
            known["layout"] = options.layout or "v3"
            known["tables"] = options.pitch if options.tables else None
            folder.claim(known, force=options.force)
            write_shards(folder, service, work, write)
    return 0


def check_options(options: argparse.Namespace, in_shards: bool) -> None:
    """Check the arguments that need no file to be read.

    Raises:
        ValueError: for an output that exists, or arguments that belong together.
    """
    if in_shards:
        refuse_file_as_folder(options.output)
    if not in_shards and options.output.suffix != ENDING:
        refuse_other_format(options.output, f"NAME.h5 or NAME{ENDING}")
    if not in_shards and not options.force:
        tables = table_files(options.output) if options.output.suffix != ENDING else ()
        for file in (options.output, *tables):
            if file.exists():
                raise ValueError(f"{file}: is there already; --force writes over it")
    if options.output.suffix == ENDING and (options.layout or options.tables):
        raise ValueError(f"{options.output}: a table in Parquet has no --layout and no --tables")
    if (options.semantics == "predicted") != bool(options.segmentation_run):
        raise ValueError("--semantics predicted and --segmentation-run ID go together")


def refuse_input(output: Path, files: Sequence[Path]) -> None:
    """Refuse an output that is one of the inputs, or the folder of one.

    Raises:
        ValueError: with the name of the output.
    """
    if not output.exists():
        return
    for file in files:
        if file.exists() and file.samefile(output):
            raise ValueError(f"{output}: is the input; give the output another name")
        if file.parent.exists() and file.parent.samefile(output):
            raise ValueError(f"{output}: holds the input {file.name}; give another folder")


def with_image_side(states: Sequence[Checkpoint], side: int | None) -> list[Checkpoint]:
    """Return the networks for images of another side, by default that of their training.

    The positions of an embedding keep the unit of the training.

    Raises:
        ValueError: for a side below 1.
    """
    if side is not None and side < 1:
        raise ValueError(f"--side {side}: give the voxels along each axis, at least 1")
    return [state if side is None else _with_side(state, side) for state in states]


def _with_side(state: Checkpoint, side: int) -> Checkpoint:
    trained = state.trial.data.splits.layout.side
    if side == trained:
        return state
    log.info(f"image size: {side} voxels per side; the network was trained with {trained}")
    content = state.trial.model_dump()
    content["data"]["splits"]["layout"]["side"] = side
    trial = type(state.trial).model_validate(content)
    task = state.trial.task.with_span(trained)
    return replace(state, trial=trial.model_copy(update={"task": task}))


def output_form(
    options: argparse.Namespace,
    states: Sequence[Checkpoint],
    thresholds: Thresholds,
    source: FileEvents,
    *,
    new: bool,
) -> tuple[Work[Any], Write]:
    """Return the work on each prediction, and the writer of its results.

    Args:
        options: of the command.
        states, thresholds, source: the networks, the thresholds of the last one, and the events.
        new: whether the writer refuses a file that another process has written meanwhile.
    """
    task = states[-1].trial.task
    version: Version = options.layout or "v3"
    inputs = input_tables(states, source)
    arguments = (task.model_dump_json(), json.dumps(thresholds), inputs)
    if options.output.suffix == ENDING:
        return Work(reconstruct_voxels, arguments), partial(write_voxel_table, new=new)
    work: Work[Any] = Work(reconstruct, (*arguments, version))
    write: Write = partial(write_file, version=version, sidecar=bool(options.layout), new=new)
    if not options.tables:
        return work, partial(write_without_tables, write, new=new)
    work = with_tables(work, task.model_dump_json(), json.dumps(thresholds), options.pitch)
    return work, partial(write_with_tables, write, task.name, new=new)


def write_shards(
    folder: ShardFolder,
    service: InferenceService,
    work: Work[Any],
    write: Write,
) -> None:
    """Predict and write the shards that are missing in a folder."""
    missing = folder.missing()
    with closing(service.run(work, missing)) as predicted:
        folder.write(predicted, write)
    written = f"{len(missing)} shard{'' if len(missing) == 1 else 's'} written"
    log.info(f"{written}, {len(folder.events)} events in {folder.path}")


def input_tables(states: Sequence[Checkpoint], source: FileEvents) -> InputTables | None:
    """Return the tables of the input, or None for networks that read voxels other than its own."""
    for state in states:
        splits = state.trial.data.splits
        for name in ("smear", "plane", "box"):
            if getattr(splits, name):
                log.info(
                    f"data.splits.{name} changes the voxels: the output has those that the network "
                    "read, without the other columns of the input"
                )
                return None
    return InputTables(source)


def write_file(
    path: Path,
    events: Iterator[Tables],
    *,
    version: Version,
    sidecar: bool = False,
    new: bool = False,
) -> int:
    """Write predicted events to a file, whole or not at all; return their number."""
    more = {"sidecar": sidecar, "new": new}
    return write_tables(path, events, version=version, predicted=True, **more)


def load_networks(options: argparse.Namespace) -> tuple[list[Checkpoint], Thresholds]:
    """Return the networks to apply one after the other, and the thresholds of the last one."""
    tracking = Tracking(options.runs, None, options.tracking_uri)
    with phase("reading the network"), tempfile.TemporaryDirectory() as scratch:
        state, thresholds = _network(options, tracking, Path(scratch))
    other = options.segmentation_run
    states = [load_checkpoint(tracking, other)] if other else []
    task = state.trial.task
    untuned = [name for name in task.scored_classes if thresholds and name not in thresholds]
    if untuned:
        log.info(f"no thresholds for {', '.join(untuned)}: their voxels stay in no cluster")
    task = task.with_dead_regions(read_dead_map(options.dead) if options.dead else None)
    trial = state.trial.model_copy(update={"task": task})
    return [*states, replace(state, trial=trial).to_predict()], thresholds


def _network(
    options: argparse.Namespace, tracking: Tracking, folder: Path
) -> tuple[Checkpoint, Thresholds]:
    """Return the network of the run with the reconstruction to use, and its thresholds."""
    run: str = options.run
    registered = run.startswith(SCHEME)
    if registered and options.method:
        raise ValueError(f"{run}: a registered model has one method; leave out --method")
    use: dict[str, Any] = {}
    if registered:
        files, use = fetch_registered(tracking, run, folder)
        state = checkpoints.load(files)
    else:
        state = checkpoints.load(tracking.fetch(run, FILE, folder))
    task = state.trial.task
    if not task.methods:
        return state, {}
    task = task.with_method(options.method or task.active_method.name)
    state = replace(state, trial=state.trial.model_copy(update={"task": task}))
    if use and not options.thresholds:
        return state, use["thresholds"]
    path = options.thresholds or fetch_thresholds(tracking, run, task.active_method.name, folder)
    return state, read_thresholds(path, task.active_method)


def parse_events(text: str | None, count: int) -> range:
    """Return the numbers of the events that `A:B` names, both ends optional; all by default.

    Raises:
        ValueError: for another form, or numbers that are not in the input.

    Example:
        >>> parse_events("5:", 20), parse_events(None, 20)
        (range(5, 20), range(0, 20))
    """
    low, colon, high = (text or ":").partition(":")
    try:
        start, stop = int(low or 0), int(high or count)
    except ValueError:
        start, stop = 0, -1
    if not colon or not 0 <= start < stop <= count:
        if text is None:
            return range(0)
        raise ValueError(f"--events {text}: give A:B with 0 <= A < B <= {count}, the event count")
    return range(start, stop)


def read_dead_map(path: Path) -> DeadMap:
    """Read dead regions: `slabs` with axis, position and width, `boxes` with low and high.

    Raises:
        ValueError: for another content, with file, key and reason.
    """
    try:
        return DeadMap.model_validate_json(json.dumps(read_yaml(path).content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "map"
        raise ValueError(f"{path}: {key}: {first['msg']}; it was {first['input']!r}") from None
