"""Tune the thresholds of a trained run, for the command line."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.reconstruct.grid import ChoiceSettings
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.runtime.ray_session import ray_session
from lartpc_ray.terminal.command import log
from lartpc_ray.thresholds.export import RULES, exported, with_rule_of
from lartpc_ray.thresholds.record import table
from lartpc_ray.thresholds.tuning import class_objectives, tune, tune_run
from lartpc_ray.tracking.runs import Tracking, as_folder
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import FILE


def run_thresholds(options: argparse.Namespace) -> int:
    study = None if as_folder(options.run) else options.study
    tracking = Tracking(options.runs, study, options.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(options.run, FILE, Path(scratch)))
    evaluation = Evaluation(state, options.data)
    task = evaluation.task.with_method(options.method or evaluation.task.active_method.name)
    method = task.active_method
    if options.export and not isinstance(method, SeedClustering):
        raise ValueError(
            f"--export {options.export}: it knows seeds only, not --method {method.name}"
        )
    objectives = class_objectives(options.objective, method.metrics, task.scored_classes)
    more = {"split": options.split, "rule": options.rule, "refine": options.refine}
    with ray_session(options.workers, dashboard=False):
        if options.export and (adapted := with_rule_of(task, options.export)) != task:
            log.info(
                f"tuning for the rule of {options.export}, {RULES[options.export]}; the run keeps "
                "its own thresholds"
            )
            content, tuned = tune(evaluation, adapted, objectives, **more)
            choices = tuned.choices
        else:
            content, choices = tune_run(tracking, options.run, evaluation, task, objectives, **more)
    for name, choice in choices.items():
        if choice.enough:
            log.info(
                f"{name}: {choice.events} events know the score to ±{choice.error:.3f} only; "
                f"{choice.enough} would give ±{ChoiceSettings().precision}"
            )
    if options.export:
        print(exported(content, options.export), end="")
    else:
        print(json.dumps(content, indent=1) if options.json else table(content))
    return 0
