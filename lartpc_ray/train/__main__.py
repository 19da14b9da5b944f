"""`python -m lartpc_ray.train`: one Trial, data-parallel through Ray Train; killed and resumed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lartpc_ray.predict.evaluate import Verdict, judge
from lartpc_ray.report.displays import keep_pictures
from lartpc_ray.report.record import keep, where
from lartpc_ray.report.tables import markdown, table
from lartpc_ray.runtime.arguments import chosen_space, read_splits, study_parser
from lartpc_ray.runtime.ray_session import ray_runs
from lartpc_ray.runtime.run_folder import claimed, new_folder, reopened, write_json
from lartpc_ray.runtime.signals import Stopping, interruptible
from lartpc_ray.terminal import command
from lartpc_ray.terminal.command import Parser, say
from lartpc_ray.terminal.screen import said
from lartpc_ray.tracking.provenance import sources, tags
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.workers import Lines, refuse_failed, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.paths import headline
from lartpc_ray.trials.trial import Trial

PLAN = "job.json"
CHECKPOINTS = "checkpoints"


def main(options: argparse.Namespace) -> int:
    if options.resume:
        folder, plan = reopened(options, PLAN)
    else:
        space = chosen_space(options)
        plan = {
            "study": space.name,
            "uri": options.tracking_uri,
            "trial": space.first_trial().model_dump_json(),
        }
        folder = new_folder(options.runs, space.name)
    trial = Trial.model_validate_json(plan["trial"])
    read_splits(trial)
    if options.dry_run:
        print(trial.model_dump_json(indent=2))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        write_json(folder / PLAN, plan)
        say(
            f"training {plan['study']}: {trial.optimizer.steps} steps, "
            f"{trial.resources.workers} workers"
        )
        try:
            cpus = trial.resources.workers * trial.resources.cpus
            with ray_runs(cpus, dashboard=options.dashboard):
                _train(trial, folder)
                run, steps, verdict, tracking = _kept(trial, folder, plan)
        except KeyboardInterrupt:
            again = f"python -m lartpc_ray.train {options.study} --resume {folder}"
            say(f"interrupted; go on with:\n  {again}")
            return 1
    if options.json:
        print(json.dumps({"run": run, "steps": steps, **asdict(verdict)}, indent=1))
    else:
        print(f"{table(verdict)}\n{where(tracking, options.runs, run)}")
    return 0


def _kept(trial: Trial, folder: Path, plan: dict[str, Any]) -> tuple[str, int, Verdict, Tracking]:
    """The trained network judged and kept: its run, its steps, the verdict, where the run is."""
    state = checkpoints.newest(folder / CHECKPOINTS, trial)
    if state is None:
        raise RuntimeError(f"{folder}: the training ended without a checkpoint")
    tracking = Tracking(folder.parent, plan["study"], plan["uri"])
    run = tracking.start(folder.name, {"study": folder.name, "trial": "0"})
    tracking.parameters(run, headline(trial, ()))
    found = sources(trial.data.splits, folder.parent)
    tracking.tags(run, tags(trial, found))
    tracking.inputs(run, found)
    for numbers in state.history:
        tracking.numbers(run, numbers, int(numbers["step"]))
    verdict = judge(state)
    keep(tracking, run, state, verdict)
    keep_pictures(tracking, run, state, verdict)
    tracking.describe(run, markdown(verdict))
    tracking.end(run)
    return run, state.step, verdict, tracking


def _train(trial: Trial, folder: Path) -> None:
    """Raises:
    KeyboardInterrupt: when it was told to stop.
    """
    refuse_failed(folder / CHECKPOINTS)
    progress = folder / "progress.txt"
    Stopping(lambda: [folder / CHECKPOINTS], signal.default_int_handler).install()
    with said(progress):
        labels = {"study": folder.name, "trial": "0"}
        lines = [Lines(progress)]
        job = trainer(trial, folder / CHECKPOINTS, folder / "ray", progress, lines, labels)
        try:
            job.fit()
        except Exception as error:
            raise RuntimeError(str(error)) from error
    interruptible()
    refuse_failed(folder / CHECKPOINTS)


def parser() -> Parser:
    """The arguments of the command."""
    return study_parser("train", "Train one network: trial 0 of a study.", "clustering --workers 2")


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
