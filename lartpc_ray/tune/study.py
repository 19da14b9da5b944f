"""A search in its folder: the work of Ray Tune, and the files to continue it."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.samplers import TPESampler
from pydantic import PositiveInt
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search import ConcurrencyLimiter

from lartpc_ray.atomic import write_json
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.registry import register
from lartpc_ray.report.tables import table
from lartpc_ray.runtime.run_folder import load_plan, new_folder, resume_folder
from lartpc_ray.settings import Settings
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.screen import follow_file
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.describe import describe_trial, settings_text
from lartpc_ray.tracking.provenance import Source, data_hash, sources
from lartpc_ray.tracking.runs import NAMES, Tracking
from lartpc_ray.train.loop import Worker
from lartpc_ray.train.workers import FAILED, device, refuse_failed, run_training_worker, trainer
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import key_settings, make_trial
from lartpc_ray.trials.space import Space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune.halving import FAILURE, SuccessiveHalving
from lartpc_ray.tune.progress import Progress, split_trial_index
from lartpc_ray.tune.sampler import ReplayingOptunaSearch, sampled_settings, trial_folder

PLAN = "plan.json"
"""The file in a study's folder that holds its `StudyPlan`."""
NOTES = "notes.txt"
"""The file in a study's folder for messages of trials to the user."""
RETRIES = 2
"""Times that a trial restarts from its checkpoint after the loss of its process."""


class StudyPlan(Settings):
    """The plan of a search: what `--resume` needs.

    Attributes:
        space: name of the search space, whose file is kept beside the plan.
        budget: name of its budget.
        overrides: path to value, of the settings that the command line fixed.
        uri: of the MLflow store; None for the store in the runs folder.
        concurrent: trials that a deterministic search samples together, once it has started.
    """

    space: str
    budget: str
    overrides: dict[str, Any]
    uri: str | None
    concurrent: PositiveInt | None = None


class TrialContext(Settings):
    """What all trials of a study share; it goes to their processes as JSON.

    Attributes:
        folder: of the study.
        fixed: path to value, for every trial.
        objectives: names of the numbers that Optuna expects of each trial.
    """

    folder: Path
    fixed: dict[str, Any]
    objectives: list[str]


def run_trial(config: dict[str, Any], context: str) -> None:
    """Train one trial: in this process for one worker, as a Ray Train job for several.

    Args:
        config: sampled settings and the trial's index, from Tune.
        context: the study's `TrialContext` as JSON.
    """
    number, settings = split_trial_index(config)
    shared = TrialContext.model_validate_json(context)
    study = shared.folder
    trial = make_trial({**shared.fixed, **settings})
    folder, note = trial_folder(study, number), study / NOTES
    labels = {"study": study.name, "trial": str(number)}
    try:
        refuse_failed(folder)
        if trial.resources.workers > 1:
            callback = TuneReportCallback()
            trainer(trial, folder, study / "ray", note, [callback], labels).fit()
            refuse_failed(folder)
        else:
            run_training_worker(
                trial, folder, tune.report, Worker(device=device(trial)), note, labels
            )
    except Exception as error:
        if (folder / FAILED).is_file():
            nothing = dict.fromkeys(shared.objectives, float("nan"))
            tune.report({FAILURE: str(error), "step": 0, **nothing})
        raise


class Study:
    """A search in its folder: started, interrupted, resumed, finished.

    Args:
        folder: of the study; its name is the study's.
        space: that is searched.
        tracking: the store of its runs.
        plan: of the search.
    """

    def __init__(self, folder: Path, space: Space, tracking: Tracking, plan: StudyPlan) -> None:
        self.folder = folder
        self.space = space
        self.tracking = tracking
        self._plan = plan

    @staticmethod
    def create(runs: Path, space: Space, uri: str | None) -> Study:
        """Create a study in a new folder."""
        folder = new_folder(runs, space.name)
        folder.mkdir(parents=True)
        (folder / f"{space.name}.yaml").write_text(space.text)
        plan = StudyPlan(
            space=space.name, budget=space.budget_name, overrides=space.overrides, uri=uri
        )
        write_json(folder / PLAN, plan.model_dump())
        return Study(folder, space, Tracking(runs, space.name, uri), plan)

    @staticmethod
    def reopen(options: argparse.Namespace) -> Study:
        """Return the study of the folder that `--resume` names.

        Raises:
            ValueError: if there is no study.
        """
        folder = resume_folder(options, PLAN)
        plan = load_plan(folder / PLAN, StudyPlan)
        space = read_space(folder / f"{plan.space}.yaml", plan.budget, plan.overrides)
        return Study(folder, space, Tracking(folder.parent, space.name, plan.uri), plan)

    def search(self, concurrent: int | None = None) -> tuple[tune.ResultGrid, Progress]:
        """Run the rest of the search, by default with as many trials at a time as fit now."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        self.tracking.log_text(parent, self.space.text, f"{self.space.name}.yaml")
        first = self.space.first_trial()
        plan = {"budget": self.space.budget_name, "trials": self.space.trials, "seed": first.seed}
        describe_trial(self.tracking, parent, first, self.sources, plan)
        names = short_names(key_settings(first, self.space.search))
        self.tracking.set_tags(parent, {NAMES: json.dumps(names)})
        progress = Progress(self.folder, self.space, self.tracking, parent)
        shutil.rmtree(self.folder / "ray", ignore_errors=True)
        with (self.folder / "ray.log").open("a") as log, redirect_stdout(log):
            for logger in ("ray", "ray.tune", "ray.train"):
                logging.getLogger(logger).handlers = [logging.StreamHandler(log)]
                logging.getLogger(logger).propagate = False
            with follow_file(self.folder / NOTES):
                results = self._tuner(progress, concurrent).fit()
        return results, progress

    @property
    def sources(self) -> dict[str, Source]:
        """Return the files of the splits."""
        return sources(self.space.first_trial().data.splits, self.folder.parent)

    def best(self, number: int) -> Checkpoint:
        """Return the last checkpoint of a trial.

        Raises:
            ValueError: if there is none.
        """
        folder = trial_folder(self.folder, number)
        settings = sampled_settings(folder, self.space.fixed["task.name"])
        found = checkpoints.newest(folder, self.space.trial(settings))
        if found is None:
            raise ValueError(f"{folder}: no undamaged checkpoint")
        return found

    def register_trial(
        self, number: int, runs: Mapping[int, str], state: Checkpoint, at: Thresholds, note: str
    ) -> str:
        """Register a trial's model under the study's name; return its version."""
        about = {
            "study": self.folder.name,
            "trial": str(number),
            "objective": f"{state.history[-1]['objective']:.6f}",
            "metric": state.trial.task.metric,
            "data": data_hash(self.sources),
        }
        return register(self.tracking, self.space.name, runs[number], state, at, about, note)

    def note(self, count: int, number: int, run: str, state: Checkpoint, best: str) -> str:
        """Return the search in markdown: its best trial, settings and table."""
        chosen = key_settings(state.trial, self.space.search)
        place = f"#/experiments/{self.tracking.experiment}/runs/{run}"
        objective = state.history[-1]["objective"]
        return "\n".join(
            [
                f"**{self.folder.name}**, budget {self.space.budget_name}: {count} trials; best: "
                f"[trial {number}]({place}), objective {objective:.4f} on the tune split "
                f"after {state.step} steps.",
                "",
                settings_text(chosen),
                "",
                best,
            ]
        )

    def finish(self, result: EvaluationResult, numbers: dict[str, float], note: str) -> str:
        """Finish the search run with the table of its best trial; return the id of the run."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        self.tracking.log_metrics(parent, numbers, 0)
        self.tracking.log_text(parent, table(result), "table.txt")
        self.tracking.describe(parent, note)
        self.tracking.describe_study(note)
        self.tracking.finish(parent)
        return parent

    def _tuner(self, progress: Progress, concurrent: int | None) -> tune.Tuner:
        budget, concurrent = self.space.budget, concurrent or self.concurrent()
        if budget.deterministic:  # keep the batches on another machine
            concurrent = self._plan.concurrent or concurrent
            self._plan = self._plan.model_copy(update={"concurrent": concurrent})
            write_json(self.folder / PLAN, self._plan.model_dump())
        context = TrialContext(
            folder=self.folder,
            fixed=self.space.fixed,
            objectives=["objective", *self.space.costs],
        ).model_dump_json()
        trainable = tune.with_resources(
            tune.with_parameters(run_trial, context=context), self._resources()
        )
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="objective",
                mode="max",
                num_samples=self.space.trials,
                search_alg=ConcurrencyLimiter(
                    self._searcher(), max_concurrent=concurrent, batch=budget.deterministic
                ),
                scheduler=SuccessiveHalving(
                    budget.min_steps,
                    budget.reduction,
                    concurrent if budget.deterministic else None,
                    self.folder / "rungs.json",
                ),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(self.folder),
                callbacks=[progress],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        )

    def concurrent(self) -> int:
        """Return the number of trials at a time: the budget's, or as many as fit."""
        needs = self.space.first_trial().resources
        cluster = ray.cluster_resources()
        fewest = needs.min_workers or needs.workers
        fits = min(fitting(needs, needs.workers, cluster), self.space.budget.concurrent)
        if not fits and not fitting(needs, fewest, cluster):
            raise ValueError(
                f"a trial needs {fewest * needs.cpus} cores and {fewest * needs.gpus:g} GPUs, the "
                f"cluster has {cluster.get('CPU', 0):g} and {cluster.get('GPU', 0):g}; if it "
                "grows as trials wait, set their number with --concurrent"
            )
        return max(fits, 1)

    def _resources(self) -> dict[str, float]:
        """Return the resources of the Tune function: the trial's, or almost none beside workers."""
        needs = self.space.first_trial().resources
        if needs.workers > 1:
            return {"CPU": 0, "node:__internal_head__": 0.001}
        return {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})

    def _searcher(self) -> ReplayingOptunaSearch:
        seed, costs = self.space.first_trial().seed, self.space.costs
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return ReplayingOptunaSearch(
            self.folder,
            task=self.space.fixed["task.name"],
            space=self.space.search,
            metric=["objective", *costs] if costs else "objective",
            mode=["max", *["min"] * len(costs)] if costs else "max",
            points_to_evaluate=list(self.space.points) or [self.space.first],
            sampler=TPESampler(seed=seed),
        )


def fitting(needs: Resources, workers: int, cluster: Mapping[str, float]) -> int:
    """Return the number of trials with so many workers that fit; GPUs may be shared.

    Example:
        >>> fitting(Resources(gpus=0.1), 1, {"CPU": 64, "GPU": 1})
        10
    """
    wants = {"CPU": workers * needs.cpus, "GPU": workers * needs.gpus}
    return min(int(cluster.get(kind, 0) / want + 1e-9) for kind, want in wants.items() if want)
