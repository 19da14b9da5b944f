"""`python -m lartpc_ray.tune`: search a space with Ray Tune and Optuna; every run in MLflow.

A trial's goal is what its network can reach: the mean over the classes of the score at the class's
own best thresholds, on the tune split.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from optuna.samplers import BaseSampler, GridSampler, TPESampler
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.command import Parser, say
from lartpc_ray.metrics.resources import COSTS, TOLERANCE, pareto, pick
from lartpc_ray.report import Verdict, flat, judge, judge_on_top, keep, table, where
from lartpc_ray.screen import Trials, cell
from lartpc_ray.space import Space, make_trial, read_space
from lartpc_ray.tracking import Tracking
from lartpc_ray.train import chosen_space, learn, read_splits, start_ray, study_parser, trainer

PICK = f"picked: of those within {TOLERANCE} of the best goal the one of least first cost"
PLAN = "plan.json"
"""What a study needs to be resumed, in its folder."""


class Halving(FIFOScheduler):
    """Asynchronous successive halving on training steps (Li et al. 2020, ASHA).

    At the rungs `first`, `first` · r, `first` · r², … a trial goes on only if its goal is among the
    best 1/r of those that reached the rung. With `batch` given, a trial is compared only with
    trials of earlier batches, all of which are done: who of a batch is faster then changes nothing,
    and the same seed gives the same study.

    Args:
        first: steps of the first rung.
        reduction: r.
        batch: trials sampled together; None compares with whoever came first (plain ASHA).
    """

    def __init__(self, first: int, reduction: float, batch: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._first = first
        self._reduction = reduction
        self._batch = batch
        self._number: dict[str, int] = {}
        self._rungs: dict[int, dict[int, float]] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._number[trial.trial_id] = len(self._number)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = self._number[trial.trial_id]
        return str(self.decide(number, int(result["step"]), float(result["goal"])))

    def decide(self, number: int, step: int, goal: float) -> str:
        """CONTINUE or STOP for trial `number`, whose goal after `step` steps is `goal`."""
        rung = self._first
        passed = None
        while rung <= step:
            passed = rung
            rung = int(rung * self._reduction)
        if passed is None:
            return str(TrialScheduler.CONTINUE)
        recorded = self._rungs.setdefault(passed, {})
        if number in recorded:
            return str(TrialScheduler.CONTINUE)
        rivals = [value for other, value in recorded.items() if self._before(other, number)]
        recorded[number] = goal
        better = sum(value > goal for value in rivals)
        stays = not rivals or better < (len(rivals) + 1) / self._reduction
        return str(TrialScheduler.CONTINUE if stays else TrialScheduler.STOP)

    def _before(self, other: int, number: int) -> bool:
        return self._batch is None or other // self._batch < number // self._batch


class Progress(tune.Callback):
    """Each trial's run in MLflow, and a table of the trials on the screen.

    Args:
        space: what is searched.
        tracking: where the runs are.
        parent: the search run.
        study: its name; with the trial's number it names the trial's run.

    Attributes:
        running: the trials that were started and did not end.
    """

    def __init__(self, space: Space, tracking: Tracking, parent: str, study: str) -> None:
        self._space = space
        self._tracking = tracking
        self._parent = parent
        self._study = study
        self._runs: dict[str, str] = {}
        self.running: set[int] = set()
        self._screen = Trials(study, list(space.search))

    def setup(self, *_: Any, **__: Any) -> None:
        self._screen.start()

    def run(self, number: int) -> str:
        """The MLflow run of a trial, counted from 0; of an earlier part of the search, too."""
        tags = {"study": self._study, "trial": str(number)}
        return self._tracking.start(f"trial {number}", tags, self._parent)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial_number(trial.experiment_tag)
        run = self.run(number)
        self._tracking.parameters(run, flat(self._space.trial(trial.config)))
        self._runs[trial.trial_id] = run
        self.running.add(number)
        self._screen.show(number, "running", settings=trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        number = trial_number(trial.experiment_tag)
        step = int(result["step"])
        kept = {
            key: float(value)
            for key, value in result.items()
            if isinstance(value, float) and key not in AUTO_RESULT_KEYS
        }
        self._tracking.numbers(self._runs[trial.trial_id], kept, step)
        self._screen.show(number, "running", step=step, goal=result["goal"], loss=result["loss"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "FINISHED", "done")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._tracking.tags(self._runs[trial.trial_id], {"error": reason(trial.error_file)})
        self._end(trial, "FAILED", "failed")

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        self._screen.stop()

    def _end(self, trial: Any, status: str, word: str) -> None:
        self._tracking.end(self._runs[trial.trial_id], status)
        number = trial_number(trial.experiment_tag)
        self.running.discard(number)
        steps = self._space.trial(trial.config).optimizer.steps
        early = status == "FINISHED" and self._screen.step(number) < steps
        self._screen.show(number, "stopped early" if early else word)


def trial_number(tag: str) -> int:
    """A trial's number, from 0, of the tag Tune gives it for good: its place may change."""
    return int(tag.split("_")[0]) - 1


def reason(error_file: str | None) -> str:
    """The last line of a trial's error."""
    if not error_file or not Path(error_file).is_file():
        return "unknown"
    lines = [line for line in Path(error_file).read_text().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "unknown"


def run_trial(config: dict[str, Any], plan: dict[str, str]) -> None:
    """What Tune runs for a trial: the loop itself for one worker, a Ray Train job for several."""
    trial = make_trial({**json.loads(plan["fixed"]), **config})
    if trial.resources.workers > 1:
        name = f"train-{tune.get_context().get_trial_id()}"
        callback = TuneReportCallback()  # type: ignore[no-untyped-call]
        trainer(trial, Path(plan["folder"]), name, [callback]).fit()
        return

    def report(numbers: dict[str, float], folder: Path | None) -> None:
        kept = tune.Checkpoint.from_directory(str(folder)) if folder else None
        tune.report(numbers, checkpoint=kept)

    last = tune.get_checkpoint()
    with last.as_directory() if last else nullcontext() as folder:
        learn(trial, report, resume=Path(folder) if folder else None)


class Study:
    """A search in its folder: started, interrupted, resumed, finished.

    Args:
        folder: of the study; its name is the study's.
        space: what is searched.
        tracking: where the runs are kept.
    """

    def __init__(self, folder: Path, space: Space, tracking: Tracking) -> None:
        self.folder = folder
        self.space = space
        self.tracking = tracking

    @staticmethod
    def create(runs: Path, space: Space, uri: str | None) -> Study:
        """A new study in a folder of its own."""
        folder = runs.resolve() / f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder.mkdir(parents=True)
        (folder / f"{space.name}.yaml").write_text(space.text)
        plan = {"space": space.name, "budget": space.budget_name, "overrides": space.overrides}
        (folder / PLAN).write_text(json.dumps(plan | {"uri": uri}))
        return Study(folder, space, Tracking(runs, space.name, uri))

    @staticmethod
    def reopen(folder: Path) -> Study:
        """The study of a folder, as it was planned.

        Raises:
            ValueError: where there is no study.
        """
        folder = folder.resolve()
        if not (folder / PLAN).is_file():
            raise ValueError(f"{folder}: no study to resume here (no {PLAN})")
        plan = json.loads((folder / PLAN).read_text())
        path = folder / f"{plan['space']}.yaml"
        space = read_space(path, plan["budget"], plan["overrides"])
        return Study(folder, space, Tracking(folder.parent, space.name, plan["uri"]))

    def search(self, *, resume: bool) -> tuple[tune.ResultGrid, Progress]:
        """Run what is left of the search."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        if not resume:
            self.tracking.text(parent, self.space.text, f"{self.space.name}.yaml")
            seed = self.space.first_trial().seed
            plan = {"budget": self.space.budget_name, "trials": self.space.trials, "seed": seed}
            self.tracking.parameters(parent, plan)
        progress = Progress(self.space, self.tracking, parent, name)
        with (self.folder / "ray.log").open("a") as log, redirect_stdout(log):
            for logger in ("ray", "ray.tune", "ray.train"):
                logging.getLogger(logger).handlers = [logging.StreamHandler(log)]
                logging.getLogger(logger).propagate = False
            results = self._tuner(progress, resume).fit()
        return results, progress

    def close(self, verdict: Verdict, numbers: dict[str, float]) -> None:
        """End the search run with the table of its best trial."""
        name = self.folder.name
        parent = self.tracking.start(name, {"study": name, "kind": "search"})
        self.tracking.numbers(parent, numbers, 0)
        self.tracking.text(parent, table(verdict), "table.txt")
        self.tracking.end(parent)

    def _tuner(self, progress: Progress, resume: bool) -> tune.Tuner:
        path = self.folder / "ray"
        plan = {"fixed": json.dumps(self.space.fixed), "folder": str(self.folder)}
        trainable = tune.with_resources(
            tune.with_parameters(run_trial, plan=plan), self._resources()
        )
        if resume and tune.Tuner.can_restore(str(path)):
            tuner = tune.Tuner.restore(
                str(path), trainable, resume_unfinished=True, restart_errored=True
            )
            assert tuner._local_tuner is not None
            tuner._local_tuner._run_config.callbacks = [progress]
            return tuner
        budget = self.space.budget
        concurrent = self.concurrent()
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
                    budget.first_rung, budget.reduction, concurrent if budget.in_order else None
                ),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(self.folder),
                callbacks=[progress],
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )

    def concurrent(self) -> int:
        """Trials at a time: what the budget wants and the machine holds."""
        needs = self.space.first_trial().resources
        cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
        fits = int(cluster.get("CPU", 1) // (needs.workers * needs.cpus))
        if needs.gpus:
            fits = min(fits, int(cluster.get("GPU", 0) // (needs.workers * needs.gpus)))
        if fits < 1:
            wants = f"{needs.workers * needs.cpus} cores, {needs.workers * needs.gpus:g} GPUs"
            raise ValueError(f"a trial needs {wants}, but the cluster has {cluster}")
        return min(fits, self.space.budget.concurrent)

    def _resources(self) -> dict[str, float]:
        """Of the Tune function: the trial's own, or almost none where its workers take them."""
        needs = self.space.first_trial().resources
        if needs.workers > 1:
            return {"CPU": 0, "node:__internal_head__": 0.001}
        return {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})

    def _searcher(self) -> OptunaSearch:
        seed, costs = self.space.first_trial().seed, self.space.costs
        sampler: BaseSampler
        if self.space.grid:
            choices = {key: list(value.choices) for key, value in self.space.search.items()}  # type: ignore[attr-defined]
            sampler = GridSampler(choices, seed=seed)
        else:
            sampler = TPESampler(seed=seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return OptunaSearch(
            self.space.search,
            metric=["goal", *costs] if costs else "goal",
            mode=["max", *["min"] * len(costs)] if costs else "max",
            points_to_evaluate=None if self.space.grid else [self.space.first],
            sampler=sampler,
            study_name=self.folder.name,
        )


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
    ended = [results[place] for place in range(len(results))]
    good = [
        (trial_number(result.metrics["experiment_tag"]), result, result.metrics)
        for result in ended
        if not result.error and result.metrics and "goal" in result.metrics
    ]
    if not good:
        first = str(ended[0].error).strip().splitlines()
        raise RuntimeError(f"all {len(ended)} trials failed; the first: {first[-1]}")
    goal = np.array([float(metrics["goal"]) for *_, metrics in good])
    costs = np.array([[float(one[name]) for name in study.space.costs] for *_, one in good])
    number, best, metrics = good[pick(goal, costs) if study.space.costs else goal.argmax()]
    saved = best.checkpoint or tune.Checkpoint(metrics["checkpoint_path"])
    run = progress.run(number)
    with saved.as_directory() as folder:
        state = checkpoints.load(Path(folder))
        verdict = judge(state)
        keep(study.tracking, run, state, Path(folder), verdict)
    study.tracking.tags(run, {"best": "true"})
    study.tracking.end(run)
    study.close(verdict, {"goal": float(metrics["goal"]), "trials": float(len(ended))})
    steps = f"{state.step} steps, goal {metrics['goal']:.4f} on the tune split"
    chosen = flat(state.trial)
    head = [f"best of {len(ended)} trials: trial {number}, {steps}"]
    head += [f"  {key} = {cell(chosen[key])}" for key in study.space.search]
    if study.space.grid:
        head += ["", *side_by_side(study.space, ended)]
    elif study.space.costs:
        front = [good[place][1] for place in np.flatnonzero(pareto(goal, costs))]
        head += ["", f"trials that no other beats ({PICK}):"]
        head += side_by_side(study.space, front)
    return "\n".join([*head, "", table(verdict), where(study.tracking, runs, run)])


def main(options: argparse.Namespace) -> int:
    if options.run:
        return judge_on_top(options, chosen_space(options))
    if options.resume:
        study = Study.reopen(
            options.resume if options.resume.exists() else options.runs / options.resume
        )
        space = study.space
    else:
        space = chosen_space(options)
    trial = space.first_trial()
    size = f"{space.trials} trials of at most {trial.optimizer.steps} steps"
    read_splits(trial)
    if options.dry_run:
        print(f"{size}; trial 0:")
        print(trial.model_dump_json(indent=2))
        for key, distribution in space.search.items():
            print(f"{key}: {distribution}")
        return 0
    if not options.resume:
        study = Study.create(options.runs, space, options.tracking_uri)
    say(f"study {study.folder.name}: {size}")
    start_ray(dashboard=trial.resources.workers > 1)
    began = time.monotonic()
    try:
        results, progress = study.search(resume=bool(options.resume))
    finally:
        ray.shutdown()
    again = f"python -m lartpc_ray.tune {options.study} --resume {study.folder}"
    if progress.running or len(results) < space.trials:
        say(f"interrupted; nothing is lost. Go on with:\n  {again}")
        return 1
    say(f"searched for {time.monotonic() - began:.0f} s")
    print(finish(study, results, progress, options.runs))
    return 0


def parser() -> Parser:
    """The arguments of the command."""
    made = study_parser("tune", "Search a study's space.", "clustering --budget laptop")
    made.add_argument("--resume", type=Path, metavar="RUN", help="folder of a study to go on with")
    made.add_argument("--run", metavar="ID", help="run of the segmentation that michel works on")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
