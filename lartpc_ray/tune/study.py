"""A search in its folder: the work of Ray Tune, and the files to continue it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from lartpc_ray.atomic import write_text
from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.registry import register
from lartpc_ray.report.record import described
from lartpc_ray.report.tables import table
from lartpc_ray.report.verdict import result_text, short_answer, verdict
from lartpc_ray.runtime.run_folder import (
    locked,
    new_folder,
    resumable,
    resume_command,
    resume_folder,
    study_name,
    write_plan,
)
from lartpc_ray.tasks.task import Thresholds
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.screen import follow_file
from lartpc_ray.terminal.text import short_names
from lartpc_ray.tracking.describe import describe_trial, settings_text
from lartpc_ray.tracking.pages import run_link, show_study, study_link
from lartpc_ray.tracking.provenance import Source, data_hash, sources
from lartpc_ray.tracking.runs import NAMES, Tracking
from lartpc_ray.tracking.store import kept_store
from lartpc_ray.train.inputs import data_digests, refuse_changed, text_digest
from lartpc_ray.train.owner import only_writer, owned
from lartpc_ray.train.workers import forget_failures
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.checkpoint import Checkpoint
from lartpc_ray.trials.paths import key_settings
from lartpc_ray.trials.size import with_minutes
from lartpc_ray.trials.space import Space, is_number
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune.decisions import Decisions
from lartpc_ray.tune.history import History
from lartpc_ray.tune.journal import Journal
from lartpc_ray.tune.progress import Progress
from lartpc_ray.tune.ray_search import (
    NewTrials,
    PausesAtRungs,
    WorkQueue,
)
from lartpc_ray.tune.run_trial import NOTES, TrialContext, run_trial
from lartpc_ray.tune.sampled import SampledSettings, sampled_settings, trial_folder
from lartpc_ray.tune.search_verdict import SearchVerdict
from lartpc_ray.tune.study_plan import PLAN, StudyPlan

RETRIES = 2
"""Times that a trial restarts from its checkpoint after the loss of its process."""


class Study:
    """A search in its folder: started, interrupted, resumed, finished.

    Args:
        folder: of the study; its name is the study's.
        space: that is searched.
        tracking: the store of its runs.
        plan: of the search.

    Attributes:
        history: results of the trials at the rungs, once the search has run.
    """

    def __init__(self, folder: Path, space: Space, tracking: Tracking, plan: StudyPlan) -> None:
        self.folder = folder
        self.space = space
        self.tracking = tracking
        self._plan = plan
        self.history = History()
        self._run = ""

    @staticmethod
    def create(
        runs: Path, space: Space, uri: str | None, options: Mapping[str, Any] | None = None
    ) -> Study:
        """Create a study in a new folder, after its store has answered."""
        for remark in space.remarks:
            log.info(remark)
        tracking = Tracking(runs, space.name, uri)
        folder = new_folder(runs, space.name)
        folder.mkdir(parents=True)
        write_text(folder / f"{space.name}.yaml", space.text)
        plan = StudyPlan.of(folder, space, uri, options or {})
        write_plan(folder / PLAN, plan)
        return Study(folder, space, tracking, plan)

    @staticmethod
    def reopen(options: argparse.Namespace) -> Study:
        """Return the study of the folder that `--resume` names, or with `--accept-data` a new one.

        Raises:
            ValueError: if there is no study, or if its search space or its data has changed.
        """
        folder = resume_folder(options, PLAN)
        plan = StudyPlan.restored(folder, options)
        path = folder / f"{plan.space}.yaml"
        if study_name(options.study) != plan.space:
            raise ValueError(f"{folder}: a study of {plan.space}, not of {options.study}")
        planned = {} if options.accept_data else plan.inputs
        refuse_changed(folder, planned, {path.name: text_digest(path.read_bytes())})
        space = read_space(path, plan.budget, plan.overrides, kept=not options.accept_data)
        if plan.size:
            minutes = plan.options.get("minutes")
            minutes = minutes if is_number(minutes) else None
            space = with_minutes(plan.size.applied(space), minutes)
        if plan.starts is not None:
            starts = plan.present_starts(space.fixed["task.name"])
            space = replace(space, starts=starts, earlier=plan.earlier)
        refuse_changed(folder, planned, data_digests(space.first_trial(), folder.parent))
        if options.accept_data and not options.dry_run:
            store = kept_store(plan.uri, folder.parent)
            return Study.create(folder.parent, space, store, plan.options)
        store = kept_store(plan.uri, folder.parent)
        if plan.sampler is None:
            log.info(
                f"{folder.name}: begun by an earlier version; its recorded trials are kept, "
                f"further decisions are those of {space.sampler} and {space.scheduler}"
            )
        sampler, scheduler = plan.sampler or space.sampler, plan.scheduler or space.scheduler
        update = {"sampler": sampler, "scheduler": scheduler}
        space = replace(space, budget=space.budget.model_copy(update=update))
        return Study(folder, space, Tracking(folder.parent, space.name, store), plan)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Lock the folder, and be the only writer of the study's runs in MLflow.

        Raises:
            ValueError: if another process holds the folder, or writes the same runs.
            RuntimeError: if MLflow fails.
        """
        again = resume_command("tune", self.space.name, self.folder)
        with ExitStack() as locks:
            locks.enter_context(locked(self.folder))
            locks.enter_context(only_writer(self.tracking.uri, self.folder))
            if not self.tracking.local:
                with resumable(again):
                    run = owned(self.tracking, self._start, self.folder, self._tags)
                    self._run = locks.enter_context(run)
            yield
            self._run = ""

    def _start(self) -> str:
        """Return the run of the search; make it if there is none."""
        return self._run or self.tracking.start(self._title, self._tags)

    @property
    def _tags(self) -> dict[str, str]:
        """Return the tags of the run of the search."""
        return {"study": self.folder.name, "kind": "search"}

    def retry_failed(self) -> None:
        """Let the trials that have failed for good start again from their checkpoints."""
        for number in forget_failures(self.folder / "trials"):
            log.info(f"trial {number} is tried again")

    def search(self, concurrent: int | None = None) -> tuple[tune.ResultGrid, Progress]:
        """Run the rest of the search, by default with as many trials at a time as fit now."""
        name = self.folder.name
        parent = self._start()
        show_study(self.tracking, name, list(self.space.search))
        self.tracking.log_text(parent, self.space.text, f"{self.space.name}.yaml")
        first = self.space.first_trial()
        plan = {"budget": self.space.budget_name, "trials": self.space.trials, "seed": first.seed}
        plan |= {"minutes": self.space.budget.minutes} if self.space.budget.minutes else {}
        describe_trial(self.tracking, parent, first, self.sources, plan)
        names = short_names(key_settings(first, self.space.search))
        self.tracking.set_tags(parent, {NAMES: json.dumps(names)})
        progress = Progress(self.folder, self.space, self.tracking, parent)
        shutil.rmtree(self.folder / "ray", ignore_errors=True)
        with (self.folder / "ray.log").open("a") as ray_log, redirect_stdout(ray_log):
            for logger in ("ray", "ray.tune", "ray.train"):
                logging.getLogger(logger).handlers = [logging.StreamHandler(ray_log)]
                logging.getLogger(logger).propagate = False
            with follow_file(self.folder / NOTES):
                results = self._tuner(progress, concurrent).fit()
        return results, progress

    @property
    def _title(self) -> str:
        """Return the time of the start and the budget: the name of the search's run.

        A folder that the user has named has no time in its name: the run has the whole name.
        """
        clock = re.search(r"-\d{8}-(\d\d)(\d\d)\d\d-", self.folder.name)
        start = f"{clock[1]}:{clock[2]}" if clock else self.folder.name
        return f"{start} {self.space.budget_name}"

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

    def note(
        self,
        count: int,
        number: int,
        state: Checkpoint,
        result: EvaluationResult,
        found: SearchVerdict,
    ) -> str:
        """Return the description of the search: its best trial, its verdict, its effects.

        MLflow shows its first line above the runs, on a small screen 100 characters: the best
        trial, and the comparison with DBSCAN where there is one.

        Args:
            count: of the trials.
            number: of the best trial.
            state: of the best trial.
            result: of the best trial.
            found: the verdict on the search.
        """
        link = f"({study_link(self.tracking, self.folder.name)})"
        rank = f"the best of [{count} trials]{link}" if count > 1 else f"[the only trial]{link}"
        report = run_link(self.tracking, self._start(), "report.html")
        objective = state.history[-1]["objective"]
        about = (
            f"Objective of trial {number}: {objective:.4f} on the tune split after {state.step} "
            f"steps ({settings_text(self.space.key_settings(state.trial))}). {self.folder.name}, "
            f"budget {self.space.budget_name}."
        )
        answer = f"Trial {number} is {rank}. {short_answer(result)}{found.remark()}"
        sentences = [answer, *verdict(result), *found.sentences()]
        text = described(result, [*sentences, f"[Report page]({report})"])
        table = "\n".join(found.effect_table())
        return "\n\n".join([text, *([f"```\n{table}\n```"] if table else []), about])

    def finish(self, result: EvaluationResult, numbers: dict[str, float], note: str) -> str:
        """Finish the search run with the table of its best trial; return the id of the run."""
        parent = self._start()
        self.tracking.log_metrics(parent, numbers, 0)
        self.tracking.log_text(parent, f"{result_text(result)}\n\n{table(result)}", "table.txt")
        self.tracking.describe(parent, note)
        self.tracking.describe_study(note)
        self.tracking.rename(parent, f"{self._title} {numbers['objective']:.3f}")
        self.tracking.finish(parent)
        return parent

    def _tuner(self, progress: Progress, concurrent: int | None) -> tune.Tuner:
        at_once = concurrent or self.concurrent()
        queue = self._queue(at_once)
        context = TrialContext(
            folder=self.folder,
            fixed=self.space.unsampled,
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
                num_samples=self.space.trials + 1,  # the searcher says when no work is left
                search_alg=NewTrials(queue),
                scheduler=PausesAtRungs(queue),
                reuse_actors=self.space.first_trial().resources.workers == 1,
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

    def _queue(self, at_once: int) -> WorkQueue:
        """Return the work of the search; write the plan that a resumed search follows.

        Args:
            at_once: trials that train at a time.
        """
        slots, rounds = at_once, self.space.budget.deterministic
        if rounds:  # keep the rounds on another machine
            slots = self._plan.concurrent or at_once
            self._plan = self._plan.model_copy(update={"concurrent": slots})
            write_plan(self.folder / PLAN, self._plan)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
        kept = SampledSettings(self.folder, self.space.fixed["task.name"])
        decisions = Decisions.of(self.space, kept)
        self.history = decisions.history
        return WorkQueue(
            decisions,
            Journal(self.folder, self.space),
            self.folder,
            slots=slots,
            at_once=at_once,
            rounds=rounds,
        )


def fitting(needs: Resources, workers: int, cluster: Mapping[str, float]) -> int:
    """Return the number of trials with so many workers that fit; GPUs may be shared.

    Example:
        >>> fitting(Resources(gpus=0.1), 1, {"CPU": 64, "GPU": 1})
        10
    """
    wants = {"CPU": workers * needs.cpus, "GPU": workers * needs.gpus}
    return min(int(cluster.get(kind, 0) / want + 1e-9) for kind, want in wants.items() if want)
