"""Search a space from the command line: create or resume a study, search it, report it."""

from __future__ import annotations

import argparse
import json
import time

from lartpc_ray.runtime.arguments import read_splits
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.runtime.run_folder import locked
from lartpc_ray.runtime.signals import restore_interrupts
from lartpc_ray.terminal.command import INTERRUPTED, log
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.michel import run_michel
from lartpc_ray.tune.result import finish
from lartpc_ray.tune.search import run_trials
from lartpc_ray.tune.study import Study


def run_search(options: argparse.Namespace, space: Space | None) -> int:
    """Search `space`, or resume the study of the options; return the exit status."""
    if options.concurrent is not None and options.concurrent < 1:
        raise ValueError(f"--concurrent {options.concurrent}: at least 1")
    if options.run and space:
        return run_michel(options, space)
    study = None
    if space is None:
        study = Study.reopen(options)
        space = study.space
    trial = space.first_trial()
    size = f"{space.trials} trials of at most {trial.optimizer.steps} steps"
    read_splits(trial)
    if options.dry_run:
        print(f"{size}; trial 0:")
        print(trial.model_dump_json(indent=2))
        for key, distribution in space.search.items():
            print(f"{key}: {distribution}")
        return 0
    study = study or Study.create(options.runs, space, options.tracking_uri)
    with locked(study.folder):
        log.info(f"study {study.folder.name}: {size}")
        began = time.monotonic()
        again = f"python -m lartpc_ray.tune {options.study} --resume {study.folder}"
        try:
            with ray_session(dashboard=options.dashboard or trial.resources.workers > 1):
                results, progress = run_trials(study, options.concurrent, again)
                restore_interrupts()
                log.info(f"searched for {time.monotonic() - began:.0f} s")
                text, content = finish(study, results, progress, options.runs)
        except KeyboardInterrupt:
            log.info(f"interrupted; all trials are saved. To continue, run:\n  {again}")
            return INTERRUPTED
        print(json.dumps(content, indent=1) if options.json else text)
    return 0
