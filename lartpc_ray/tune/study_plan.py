"""The plan of a search, a file in its folder: what `--resume` needs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from lartpc_ray.runtime.arguments import chosen_space
from lartpc_ray.runtime.run_folder import (
    DamagedPlanError,
    load_plan,
    planned_options,
    study_name,
    write_plan,
)
from lartpc_ray.settings import Settings
from lartpc_ray.terminal.command import log
from lartpc_ray.tracking.store import plan_store
from lartpc_ray.train.inputs import Digests, data_digests, text_digest
from lartpc_ray.trials import checkpoint as checkpoints
from lartpc_ray.trials.budget import SamplerName, SchedulerName
from lartpc_ray.trials.earlier import EarlierResults
from lartpc_ray.trials.paths import present_path
from lartpc_ray.trials.size import StudySize
from lartpc_ray.trials.space import Space
from lartpc_ray.tune.sampled import sampled_settings

PLAN = "plan.json"
"""The file in a study's folder that holds its `StudyPlan`."""


class StudyPlan(Settings):
    """The plan of a search: what `--resume` needs.

    Attributes:
        space: name of the search space, whose file is kept beside the plan.
        budget: name of its budget.
        overrides: path to value, of the settings that the command line fixed.
        uri: of the MLflow store; None for the store in the runs folder.
        inputs: digests of the search space and of the data; none in plans of earlier versions.
        options: of the command line that began the search, by name.
        concurrent: trials that a deterministic search samples together, once it has started.
        starts: settings of the trials after trial 0; none in plans of earlier versions.
        sampler, scheduler: their names; none in plans of earlier versions.
        earlier: results of the study that `--from` named, from which the model begins.
        size: of a search whose budget is a time.
    """

    space: str
    budget: str
    overrides: dict[str, Any]
    uri: str | None
    inputs: Digests = Field(default={})
    options: dict[str, Any] = Field(default={})
    concurrent: PositiveInt | None = None
    starts: list[dict[str, Any]] | None = None
    sampler: SamplerName | None = None
    scheduler: SchedulerName | None = None
    earlier: EarlierResults | None = None
    size: StudySize | None = None

    @staticmethod
    def of(folder: Path, space: Space, uri: str | None, options: Mapping[str, Any]) -> StudyPlan:
        """Return the plan of a study in a folder that holds its search space.

        Args:
            folder: of the study.
            space: that is searched.
            uri: of the MLflow store; None for the store in the runs folder.
            options: of the command line.
        """
        file = folder / f"{space.name}.yaml"
        data = data_digests(space.first_trial(), folder.parent)
        return StudyPlan(
            space=space.name,
            budget=space.budget_name,
            overrides=space.overrides,
            uri=plan_store(uri, folder.parent),
            inputs={file.name: text_digest(file.read_bytes()), **data},
            options=dict(options),
            starts=list(space.starts),
            earlier=space.earlier,
            sampler=space.sampler,
            scheduler=space.scheduler,
            size=StudySize.of(space) if space.budget.minutes else None,
        )

    def present_starts(self, task: str) -> tuple[dict[str, Any], ...]:
        """Return the settings of the trials after trial 0 by their present paths."""
        starts = self.starts or []
        return tuple({present_path(key, task): start[key] for key in start} for start in starts)

    @staticmethod
    def restored(folder: Path, options: argparse.Namespace) -> StudyPlan:
        """Return the plan of a study; restore a damaged one.

        It is restored from its copy. Without a sound copy it is restored from the search space in
        the folder and the options on the command line, and compared with the trials.

        Raises:
            ValueError: in one line with the way to go on, if the plan cannot be restored.
        """
        try:
            return load_plan(folder / PLAN, StudyPlan)
        except DamagedPlanError as error:
            file = folder / f"{study_name(options.study)}.yaml"
            if options.budget is None or not file.is_file():
                raise ValueError(
                    f"{error}; to write it again, repeat this command with the NAME and the "
                    "options that began the study: --budget, and --data, --set, --workers, "
                    "--seed, --tracking-uri where they were given"
                ) from None
            given = {"study": str(file), "retry": False, "accept_data": False}
            space = chosen_space(argparse.Namespace(**vars(options) | given), kept=True)
            if space.budget.minutes:
                raise ValueError(
                    f"{error}; it alone has the trials and steps that fit into "
                    f"{space.budget.minutes:g} minutes: begin a new search"
                ) from None
            if source := getattr(options, "from", None):
                raise ValueError(
                    f"{error}; it alone has the settings that --from {source} has chosen: begin a "
                    "new search"
                ) from None
            _refuse_other_trials(folder, space)
            plan = StudyPlan.of(folder, space, options.tracking_uri, planned_options(options))
            if not options.dry_run:
                write_plan(folder / PLAN, plan)
            log.warning(f"{error}; restored from {file.name} and the options of this command")
            return plan


def _refuse_other_trials(folder: Path, space: Space) -> None:
    """Refuse a space whose trials are not those in a study's folder.

    Raises:
        ValueError: for a checkpoint of a trial with other settings.
    """
    for trial in (folder / "trials").glob("*"):
        try:
            settings = sampled_settings(trial, space.fixed["task.name"])
        except (OSError, ValueError):  # restored later, from the checkpoint
            continue
        checkpoints.newest(trial, space.trial(settings))
