"""`python -m lartpc_ray.tune`: search a space with Ray Tune and Optuna; every run in MLflow.

A trial's goal is what its network can reach: the mean over the classes of the score at the class's
own best thresholds, on the tune split.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search import ConcurrencyLimiter

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.checkpoint import Checkpoint
from lartpc_ray.command import Parser, say
from lartpc_ray.loop import Rank
from lartpc_ray.metrics.resources import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.paths import make_trial
from lartpc_ray.progress import Progress, numbered
from lartpc_ray.report import Verdict, flat, judge, judge_on_top, keep, table, where
from lartpc_ray.schedule import FAILURE, NUMBER, SAMPLED, Halving, Sampler, trial_folder
from lartpc_ray.screen import cell, said
from lartpc_ray.space import Space, read_space
from lartpc_ray.tracking import Tracking
from lartpc_ray.train import (
    FAILED,
    attempt,
    chosen_space,
    claimed,
    device,
    new_folder,
    read_splits,
    refuse_failed,
    reopened,
    start_ray,
    study_parser,
    trainer,
    write_json,
)
from lartpc_ray.trial import Resources

PICK = f"picked: of those within {TOLERANCE} of the best goal the one of least first cost"
PLAN = "plan.json"
"""What a study needs to be resumed, in its folder."""
NOTES = "notes.txt"
"""What trials have to say to the user."""
RETRIES = 2
"""How often a trial whose process is lost is tried again, from its checkpoint."""


def run_trial(config: dict[str, Any], plan: dict[str, Any]) -> None:
    """What Tune runs for a trial: the loop itself for one worker, a Ray Train job for several."""
    number, settings = numbered(config)
    study = Path(plan["folder"])
    trial = make_trial({**json.loads(plan["fixed"]), **settings})
    folder, note = trial_folder(study, number), study / NOTES
    try:
        refuse_failed(folder)
        if trial.resources.workers > 1:
            callback = TuneReportCallback()  # type: ignore[no-untyped-call]
            trainer(trial, folder, study / "ray", note, [callback]).fit()
            refuse_failed(folder)
        else:
            attempt(trial, folder, tune.report, Rank(device=device(trial)), note)
    except Exception as error:
        if (folder / FAILED).is_file():
            nothing = dict.fromkeys(plan["goals"], float("nan"))
            tune.report({FAILURE: str(error), "step": 0, **nothing})
        raise


class Study:
    """A search in its folder: started, interrupted, resumed, finished.

    Args:
        folder: of the study; its name is the study's.
        space: what is searched.
        tracking: where the runs are kept.
        plan: what is needed to resume it.
    """

    def __init__(
        self, folder: Path, space: Space, tracking: Tracking, plan: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.space = space
        self.tracking = tracking
        self._plan = plan

    @staticmethod
    def create(runs: Path, space: Space, uri: str | None) -> Study:
        """A new study in a folder of its own."""
        folder = new_folder(runs, space.name)
        folder.mkdir(parents=True)
        (folder / f"{space.name}.yaml").write_text(space.text)
        plan = {"space": space.name, "budget": space.budget_name, "overrides": space.overrides}
        write_json(folder / PLAN, plan | {"uri": uri})
        return Study(folder, space, Tracking(runs, space.name, uri), plan | {"uri": uri})

    @staticmethod
    def reopen(options: argparse.Namespace) -> Study:
        """The study of a folder, as it was planned.

        Raises:
            ValueError: where there is no study.
        """
        folder, plan = reopened(options, PLAN)
        path = folder / f"{plan['space']}.yaml"
        space = read_space(path, plan["budget"], plan["overrides"])
        return Study(folder, space, Tracking(folder.parent, space.name, plan["uri"]), plan)

    def search(self) -> tuple[tune.ResultGrid, Progress]:
        """Run what is left of the search."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        self.tracking.text(parent, self.space.text, f"{self.space.name}.yaml")
        seed = self.space.first_trial().seed
        plan = {"budget": self.space.budget_name, "trials": self.space.trials, "seed": seed}
        self.tracking.parameters(parent, plan)
        progress = Progress(self.folder, self.space, self.tracking, parent)
        shutil.rmtree(self.folder / "ray", ignore_errors=True)
        with (self.folder / "ray.log").open("a") as log, redirect_stdout(log):
            for logger in ("ray", "ray.tune", "ray.train"):
                logging.getLogger(logger).handlers = [logging.StreamHandler(log)]
                logging.getLogger(logger).propagate = False
            with said(self.folder / NOTES):
                results = self._tuner(progress).fit()
        return results, progress

    def best(self, number: int) -> Checkpoint:
        """The last checkpoint of a trial.

        Raises:
            ValueError: where there is none.
        """
        folder = trial_folder(self.folder, number)
        _, settings = numbered({**json.loads((folder / SAMPLED).read_text()), NUMBER: number})
        found = checkpoints.newest(folder, self.space.trial(settings))
        if found is None:
            raise ValueError(f"{folder}: no checkpoint that is sound")
        return found

    def close(self, verdict: Verdict, numbers: dict[str, float]) -> None:
        """End the search run with the table of its best trial."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        self.tracking.numbers(parent, numbers, 0)
        self.tracking.text(parent, table(verdict), "table.txt")
        self.tracking.end(parent)

    def _tuner(self, progress: Progress) -> tune.Tuner:
        budget, concurrent = self.space.budget, self.concurrent()
        if budget.in_order:  # what is sampled together stays so on another machine
            concurrent = self._plan.setdefault("concurrent", concurrent)
            write_json(self.folder / PLAN, self._plan)
        plan = {
            "fixed": json.dumps(self.space.fixed),
            "folder": str(self.folder),
            "goals": ["goal", *self.space.costs],
        }
        trainable = tune.with_resources(
            tune.with_parameters(run_trial, plan=plan), self._resources()
        )
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="goal",
                mode="max",
                num_samples=self.space.trials,
                search_alg=ConcurrencyLimiter(
                    self._searcher(), max_concurrent=concurrent, batch=budget.in_order
                ),
                scheduler=Halving(
                    budget.first_rung,
                    budget.reduction,
                    concurrent if budget.in_order else None,
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
        """Trials at a time: what the budget wants and the machine holds."""
        needs = self.space.first_trial().resources
        cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
        fewest = needs.min_workers or needs.workers
        fits = min(fitting(needs, needs.workers, cluster), self.space.budget.concurrent)
        if not fits and not fitting(needs, fewest, cluster):
            raise ValueError(
                f"a trial needs {fewest * needs.cpus} cores and {fewest * needs.gpus:g} GPUs, the "
                f"cluster has {cluster.get('CPU', 0):g} and {cluster.get('GPU', 0):g}"
            )
        return max(fits, 1)

    def _resources(self) -> dict[str, float]:
        """Of the Tune function: the trial's own, or almost none where its workers take them."""
        needs = self.space.first_trial().resources
        if needs.workers > 1:
            return {"CPU": 0, "node:__internal_head__": 0.001}
        return {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})

    def _searcher(self) -> Sampler:
        seed, costs = self.space.first_trial().seed, self.space.costs
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return Sampler(
            self.folder,
            space=self.space.search,
            metric=["goal", *costs] if costs else "goal",
            mode=["max", *["min"] * len(costs)] if costs else "max",
            points_to_evaluate=list(self.space.points) or [self.space.first],
            sampler=TPESampler(seed=seed),
        )


def fitting(needs: Resources, workers: int, cluster: Mapping[str, float]) -> int:
    """How many times so many workers fit into a cluster; a GPU may be shared by fractions.

    Example:
        >>> fitting(Resources(gpus=0.1), 1, {"CPU": 64, "GPU": 1})
        10
    """
    wants = {"CPU": workers * needs.cpus, "GPU": workers * needs.gpus}
    return min(int(cluster.get(kind, 0) / want + 1e-9) for kind, want in wants.items() if want)


def side_by_side(space: Space, ended: list[Any]) -> list[str]:
    """Trials with their settings, their goal and what it cost, or why they failed."""
    heads = [*(key.rsplit(".", 1)[-1] for key in space.search), "goal", *COSTS.values()]
    lines = ["".join(f"{head:>16}" for head in heads)]
    for result in ended:
        metrics = result.metrics or {}
        settings = [cell(result.config[key]) for key in space.search]
        found = [cell(metrics.get(key)) for key in ("goal", *COSTS)]
        if result.error:
            found = [" ", str(result.error).strip().splitlines()[-1]]
        lines.append("".join(f"{text:>16}" for text in (*settings, *found)))
    return lines


def finish(study: Study, results: tune.ResultGrid, progress: Progress, runs: Path) -> str:
    """Judge the best trial on the test split and keep it; the text to print."""
    found = (results[place] for place in range(len(results)))
    ended = sorted(found, key=lambda one: numbered(one.config or {})[0])
    good = [one for one in ended if not one.error and one.metrics and "goal" in one.metrics]
    if not good:
        first = str(ended[0].error).strip().splitlines()
        raise RuntimeError(f"all {len(ended)} trials failed; the first: {first[-1]}")
    metrics = [one.metrics or {} for one in good]
    goal = np.array([float(one["goal"]) for one in metrics])
    costs = np.array([[float(one[name]) for name in study.space.costs] for one in metrics])
    best = good[pick(goal, costs) if study.space.costs else goal.argmax()]
    number, _ = numbered(best.config or {})
    run, state = progress.run(number), study.best(number)
    verdict = judge(state)
    keep(study.tracking, run, state, verdict)
    study.tracking.tags(run, {"best": "true"})
    study.tracking.end(run)
    reached = state.history[-1]["goal"]
    study.close(verdict, {"goal": reached, "trials": float(len(ended))})
    steps = f"{state.step} steps, goal {reached:.4f} on the tune split"
    chosen = flat(state.trial)
    head = [f"best of {len(ended)} trials: trial {number}, {steps}"]
    head += [f"  {key} = {cell(chosen[key])}" for key in study.space.search]
    failed = [one for one in ended if one.error]
    if study.space.points:
        head += ["", *side_by_side(study.space, ended)]
    elif study.space.costs:
        front = [good[place] for place in np.flatnonzero(pareto(goal, costs))]
        head += ["", f"trials that no other beats ({PICK}):"]
        head += side_by_side(study.space, front)
    if failed and not study.space.points:
        head += ["", f"{len(failed)} of {len(ended)} trials failed:"]
        head += side_by_side(study.space, failed)
    return "\n".join([*head, "", table(verdict), where(study.tracking, runs, run)])


def main(options: argparse.Namespace) -> int:
    if options.run:
        return judge_on_top(options, chosen_space(options))
    study = Study.reopen(options) if options.resume else None
    space = study.space if study else chosen_space(options)
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
    with claimed(study.folder):
        say(f"study {study.folder.name}: {size}")
        began = time.monotonic()
        again = f"python -m lartpc_ray.tune {options.study} --resume {study.folder}"
        try:
            start_ray(dashboard=trial.resources.workers > 1)
            results, progress = study.search()
        except (ValueError, KeyError):
            raise
        except Exception as error:  # the tracking server is gone, the disk is full
            last = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"{last}; nothing is lost, go on with: {again}") from error
        finally:
            ray.shutdown()
        if progress.running or len(results) < space.trials:
            progress.interrupted()
            say(f"interrupted; nothing is lost. Go on with:\n  {again}")
            return 1
        say(f"searched for {time.monotonic() - began:.0f} s")
        print(finish(study, results, progress, options.runs))
    return 0


def parser() -> Parser:
    """The arguments of the command."""
    made = study_parser("tune", "Search a study's space.", "clustering --budget laptop")
    made.add_argument("--run", metavar="ID", help="run of the segmentation that michel works on")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
