"""Search a space from the command line: create or resume a study, search it, report it."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import planned_options, resumable, resume_command
from lartpc_ray.runtime.signals import restore_interrupts
from lartpc_ray.terminal.command import INTERRUPTED, log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import counted, format_value
from lartpc_ray.train.resources import refuse_absent
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.dry_run import dry_run
from lartpc_ray.tune.michel import run_michel
from lartpc_ray.tune.result import finish
from lartpc_ray.tune.search import check_concurrent, run_trials, sized
from lartpc_ray.tune.study import Study


def run_search(options: argparse.Namespace, space: Space | None) -> int:
    """Search `space`, or resume the study of the options; return the exit status."""
    check_concurrent(options.concurrent, "--concurrent")
    if options.run and space:
        return _michel(options, space)
    study = None
    if space is None:
        with phase("reading the study"):
            study = Study.reopen(options)
        space = study.space
    read_splits(space.first_trial())
    speed = None
    if study is None:
        space, speed = sized(space, options.concurrent, getattr(options, "from"), options.runs)
    if options.dry_run:
        wanted = {"as_json": options.json, "concurrent": options.concurrent}
        print(dry_run(space, speed=speed, **wanted))
        return 0
    if study is None:
        refuse_absent(space.first_trial().resources, "GPU", "CPU")
        given = planned_options(options)
        with phase("making the study"):
            study = Study.create(options.runs, space, options.tracking_uri, given)
    with study.owned():
        log.info(f"study {study.folder.name}: {_size(space)}")
        if options.retry:
            study.retry_failed()
        again = resume_command("tune", options.study, study.folder)
        try:
            with resumable(again):
                text, content = _search(study, options)
        except KeyboardInterrupt:
            log.info(f"interrupted; all trials are saved. To continue, run:\n  {again}")
            return INTERRUPTED
        print(json.dumps(content, indent=1) if options.json else text)
        if content["unregistered"]:
            reason = content["unregistered"]
            raise RuntimeError(f"the model is not registered: {reason}. To register it: {again}")
    return 0


def _size(space: Space) -> str:
    steps = space.first_trial().optimizer.steps
    return f"{counted(space.trials, 'trial')} of at most {steps} steps"


def _michel(options: argparse.Namespace, space: Space) -> int:
    for flag in ("minutes", "from", "concurrent"):
        if (value := getattr(options, flag)) is not None:
            raise ValueError(f"--{flag} {format_value(value)}: --run trains nothing; leave it out")
    return run_michel(options, space)


def _search(study: Study, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run the trials of a study and record the best; return the text to print, and JSON."""
    began = time.monotonic()
    dashboard = options.dashboard or study.space.first_trial().resources.workers > 1
    with phase("searching"), ray_session(dashboard=dashboard):
        results, progress = run_trials(study, options.concurrent)
        restore_interrupts()
        log.info(f"searched for {time.monotonic() - began:.0f} s")
        with phase("recording the best trial"):
            return finish(study, results, progress)
