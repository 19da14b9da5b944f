"""Tune the thresholds of a trained run, or of a file of network outputs, for the command line."""

from __future__ import annotations

import argparse
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from lartpc_ray.data.outputs import open_outputs
from lartpc_ray.metrics.paired import events_needed
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import LazyRay, Placement
from lartpc_ray.predict.registry import SCHEME, load_checkpoint, resolve_run
from lartpc_ray.reconstruct.grid import Choice
from lartpc_ray.reconstruct.names import ClusterRule
from lartpc_ray.reconstruct.reconstructions import SeedClustering
from lartpc_ray.reconstruct.resampling import ChoiceSettings
from lartpc_ray.tasks import ClusteringTask
from lartpc_ray.tasks.task import Task
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.thresholds.export import RULES, exported
from lartpc_ray.thresholds.in_use import method_words, used_thresholds
from lartpc_ray.thresholds.record import (
    ThresholdsRecord,
    difference_table,
    holder,
    log_thresholds,
    start_run,
    table,
)
from lartpc_ray.thresholds.source import FileVoxels
from lartpc_ray.thresholds.tuning import class_objectives, cluster_rule, is_usable, tune, tune_run
from lartpc_ray.tracking.pages import password_hint, store_arguments
from lartpc_ray.tracking.runs import Tracking, as_folder


def run_thresholds(options: argparse.Namespace) -> int:
    if bool(options.run) == bool(options.outputs):
        raise ValueError("give --run ID, or --outputs FILE")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    with LazyRay(Placement.of(options)) as ray:
        kind = _OfFile if options.outputs else _OfRun
        return _run(kind(options, tracking, ray), options)


def _run(tuning: _Tuning, options: argparse.Namespace) -> int:
    """Export thresholds of the run, or tune, log and print new ones."""
    if options.export and not isinstance(tuning.task.active_method, SeedClustering):
        raise ValueError(
            f"--export {options.export}: it knows seeds only, not --method "
            f"{tuning.task.active_method.name}"
        )
    if options.export and (content := tuning.logged()):
        log.info(tuning.origin(content))
        print(exported(content, options.export), end="")
        return 0
    if options.export:
        log.info(f"tuning for the rule of {options.export}, {RULES[options.export]}")
    tuning.tracking.open_experiment(tuning.study)
    record = tuning.tune()
    _warn_of_few(record.choices)
    _print(record, tuning)
    return 0


class _Tuning(ABC):
    """A tuning that the options of the command describe."""

    def __init__(self, options: argparse.Namespace, tracking: Tracking, ray: LazyRay) -> None:
        self.options = options
        self.tracking = tracking
        self.ray = ray
        self.task: Task = ClusteringTask()
        self.about: dict[str, Any] = {}

    def _set_task(self, task: Task) -> None:
        """Set the task with the reconstruction and its rule that the options ask for."""
        options = self.options
        default = "seeds" if options.export else task.active_method.name
        task = task.with_method(options.method or default)
        rule = options.cluster_rule or (RULES[options.export] if options.export else None)
        if rule and isinstance(seeds := task.active_method, SeedClustering):
            task = task.model_copy(update={"seeds": seeds.model_copy(update={"rule": rule})})
        self.task = task
        self.objectives = class_objectives(
            options.objective or [task.metric], task.active_method.metrics, task.scored_classes
        )

    def logged(self) -> dict[str, Any] | None:
        """Return thresholds of the run that the same options gave earlier, those in use first."""
        method = self.task.active_method.name
        used = used_thresholds(self.tracking, self.run, method)
        if used and self._matches(used):
            return used
        self.tracking.open_experiment(self.study)
        parent = holder(self.tracking, self.run)
        for child in self.tracking.children(parent, kind="thresholds"):
            content = used_thresholds(self.tracking, child, method)
            if content and self._matches(content) and content.get("data") == self.about.get("data"):
                return content
        return None

    def _matches(self, content: Mapping[str, Any]) -> bool:
        """Return whether thresholds are of this reconstruction, objectives, rule and events."""
        wanted = {"rule": self.options.rule, **cluster_rule(self.task), **self.about}
        known = {"cluster_rule": "argmax", **content}
        rows = content["classes"].items()
        return all(known.get(key) == value for key, value in wanted.items()) and all(
            row["objective"] == self.objectives.get(name) for name, row in rows
        )

    @property
    def study(self) -> str:
        """Return the experiment of the thresholds: the one that the command names."""
        return str(self.options.study)

    @property
    @abstractmethod
    def run(self) -> str:
        """Return the run that the thresholds are logged to."""

    @abstractmethod
    def tune(self) -> ThresholdsRecord:
        """Tune the thresholds, and log them."""

    @property
    def usable(self) -> bool:
        """Return whether `predict` clusters the run by the rule of the thresholds."""
        return True

    def origin(self, content: Mapping[str, Any]) -> str:
        """Name the run of thresholds and, for seeds, the rule by which they share the voxels."""
        rule = content.get("cluster_rule")
        kind = "folder" if as_folder(self.run) else "MLflow run"
        return f"thresholds of {kind} {self.run}" + (f", clustering rule {rule}" if rule else "")


class _OfRun(_Tuning):
    """Tuning of a trained network."""

    def __init__(self, options: argparse.Namespace, tracking: Tracking, ray: LazyRay) -> None:
        super().__init__(options, tracking, ray)
        if options.keep and options.run.startswith(SCHEME):
            raise ValueError(
                f"--keep: {options.run} keeps the thresholds that it is registered with; leave "
                "out --keep, or give the run of the model"
            )
        self._run = resolve_run(tracking, options.run)
        state = load_checkpoint(tracking, self._run)
        self._evaluation = Evaluation(state, options.data, ray)
        self._set_task(self._evaluation.task)
        if options.keep and not self.usable:
            raise ValueError("--keep: predict clusters this run by another rule; leave out --keep")
        self.about = {"split": options.split}
        if options.data:
            self.about["data"] = str(Path(options.data).resolve())

    @property
    def run(self) -> str:
        return self._run

    @property
    def study(self) -> str:
        """Return the experiment of the run: elsewhere no command finds its thresholds."""
        return super().study if as_folder(self._run) else self.tracking.study_of(self._run)

    @property
    def usable(self) -> bool:
        return is_usable(self._evaluation, self.task)

    def tune(self) -> ThresholdsRecord:
        options = self.options
        more = {"split": options.split, "rule": options.rule, "refine": options.refine}
        arguments = (self.tracking, self.run, self._evaluation, self.task, self.objectives)
        return tune_run(*arguments, keep=options.keep, **more)


class _OfFile(_Tuning):
    """Tuning of the outputs of any network in a file."""

    def __init__(self, options: argparse.Namespace, tracking: Tracking, ray: LazyRay) -> None:
        outputs = open_outputs(options.outputs)
        super().__init__(options, tracking, ray)
        rule: ClusterRule = "first_come" if outputs.kind == "SPINE" else "argmax"
        seeds = SeedClustering(rule=rule)
        self._set_task(ClusteringTask(seeds=seeds, min_voxels=options.min_voxels))
        self._source = FileVoxels(outputs, self.task)
        self.about = self._source.about

    @cached_property
    def run(self) -> str:
        self.tracking.open_experiment(self.options.study)
        return start_run(self.tracking, self.options.outputs.resolve(), "outputs")

    def tune(self) -> ThresholdsRecord:
        options = self.options
        more = {"rule": options.rule, "refine": options.refine}
        self.ray.start(self._source.events)
        with phase("tuning the thresholds"):
            content, tuned = tune(self._source, self.task, self.objectives, **more)
        with phase("logging the thresholds"):
            return log_thresholds(self.tracking, self.run, content, tuned, keep=options.keep)


def _warn_of_few(choices: Mapping[str, Choice]) -> None:
    """Print the classes whose score has a large error, and how many events would lower it."""
    for name, choice in choices.items():
        wanted = ChoiceSettings().precision
        enough = choice.enough and events_needed(choice.events, (choice.error / wanted) ** 2)
        if enough:
            log.info(
                f"{name}: the score of {choice.events} events has an error of ±{choice.error:.3f}; "
                f"about {enough:,} events would give ±{wanted}"
            )


def _print(record: ThresholdsRecord, tuning: _Tuning) -> None:
    """Print the thresholds, their difference from those in use, and which of both are used.

    Those of a file have a run that no earlier command has printed: print it, too.
    """
    options, content = tuning.options, record.content
    if options.export:
        log.info(tuning.origin(content))
        print(exported(content, options.export), end="")
    elif options.json:
        compared = {name: asdict(row) for name, row in record.differences.items()}
        more = {"run": tuning.run, "kept": record.kept, "compared": compared}
        print(json.dumps(content | more, indent=1))
    else:
        print(table(content))
        if record.differences:
            print(f"\n{difference_table(record.differences)}")
        if options.outputs:
            print(f"\n{tuning.origin(content)}\n{_page_hint(tuning)}")
    log.info(_state(record, tuning))


def _state(record: ThresholdsRecord, tuning: _Tuning) -> str:
    """Say whether the thresholds are in use, and how they could be."""
    if record.kept:
        return f"now in use{method_words(record.content)}"
    if not tuning.usable:
        return "logged; not in use: predict clusters this run by another rule"
    if tuning.options.keep:
        return "logged; not in use: another command has replaced them meanwhile"
    return "logged; not in use, see --keep"


def _page_hint(tuning: _Tuning) -> str:
    """Return the command that makes the page of a run."""
    arguments = f"--run {tuning.run}{store_arguments(tuning.tracking)}"
    line = f"as a page: python -m lartpc_ray.report {arguments} --html thresholds.html"
    hint = password_hint(tuning.tracking)
    return f"{line}\nthe password: {hint}" if hint else line
