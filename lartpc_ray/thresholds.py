"""`python -m lartpc_ray.thresholds`: the thresholds of a trained run, with errors.

The scores come from Ray tasks (surfaces.py); which point is taken, and how well it is known, from
reconstruct/grid.py. The result is kept in the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.checkpoint import FILE, Checkpoint
from lartpc_ray.command import Parser, say
from lartpc_ray.data.classes import CLASS_NAMES
from lartpc_ray.data.splits import Split
from lartpc_ray.export import FORMS, exported
from lartpc_ray.figure import draw_curves, draw_surface
from lartpc_ray.job import ray_runs
from lartpc_ray.predict import CUTS
from lartpc_ray.reconstruct.cuts import Cut, SeedCut
from lartpc_ray.reconstruct.grid import Choice, ChoiceSettings, Rule, ThresholdGrid, choose
from lartpc_ray.reconstruct.sweep import sweep_exactly
from lartpc_ray.surfaces import Part, parts, surfaces
from lartpc_ray.tasks.clustering import UNTUNED
from lartpc_ray.tasks.task import CutTask
from lartpc_ray.tracking import Tracking, as_folder

PASSED_ON = ("task", "engine", "data")
"""Tags of a run that those of its thresholds have, too, to be found and compared by."""


def goal_scores(scores: dict[str, np.ndarray], goal: str) -> np.ndarray:
    """(event, point...) of a goal: a metric, or a product of metrics as in `purity*efficiency`.

    Where there is nothing to measure, an event gives 0: it found nothing.
    """
    value = np.ones(())
    for metric in goal.split("*"):
        value = value * np.nan_to_num(scores[metric])
    return np.asarray(value)


def class_goals(
    given: Sequence[str], metrics: Sequence[str], names: Sequence[str] = CLASS_NAMES
) -> dict[str, str]:
    """The goal of each class from `GOAL` for all and `CLASS=GOAL` for one; by default the first.

    Raises:
        ValueError: for an unknown class or metric.
    """
    goals = dict.fromkeys(names, metrics[0])
    for text in sorted(given, key=lambda text: "=" in text):
        name, _, goal = text.rpartition("=")
        for metric in goal.split("*"):
            if metric not in metrics or metric == "n_clusters":
                known = ", ".join(other for other in metrics if other != "n_clusters")
                raise ValueError(f"--goal {text}: {metric!r} is unknown; give {known}, or A*B")
        if name and name not in names:
            known = ", ".join(names)
            raise ValueError(f"--goal {text}: {name!r} is no class; give one of {known}")
        goals |= dict.fromkeys([name] if name else names, goal)
    return goals


def tuned(
    found: Sequence[Part], cut: Cut, goals: dict[str, str], settings: ChoiceSettings
) -> tuple[dict[str, dict[str, np.ndarray]], ThresholdGrid, dict[str, Choice]]:
    """All scores at every point, the goals' grid, and the point chosen for each class."""
    scores = surfaces(found, cut)
    values = {name: goal_scores(metrics, goals[name]) for name, metrics in scores.items()}
    grid = ThresholdGrid(cut.axes(), values)
    return scores, grid, {name: choose(grid, name, settings) for name in grid.scores}


def exact_s0(
    found: Sequence[Part], name: str, cut: SeedCut, p0: float, goal: str
) -> tuple[float, float, float]:
    """The best s0 of a class at one p0, between the points of the mesh, too.

    Returns:
        low, high and the mean score: every s0 above `low` and up to `high` gives it.
    """
    curves = []
    for part in found:
        if part.name == name:
            steps, scores = sweep_exactly(
                part.voxels["position"],
                part.voxels["margin"],
                part.voxels["seediness"],
                part.voxels["truth"],
                p0,
                min_voxels=cut.min_voxels,
                metrics=goal.split("*"),
            )
            curves.append((steps, goal_scores(scores, goal)))
    every = np.unique(np.concatenate([steps for steps, _ in curves]))
    mean = np.mean([values[np.searchsorted(steps, every)] for steps, values in curves], axis=0)
    best = int(mean.argmax())
    low = float(every[best - 1]) if best else 0.0
    return low, float(every[best]), float(mean[best])


def record(
    choices: dict[str, Choice], goals: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    """What thresholds.yaml holds: plain values only."""
    classes = {
        name: {
            **{axis: float(f"{value:.12g}") for axis, value in choice.at.items()},
            "goal": goals[name],
            "interval": {axis: list(ends) for axis, ends in choice.interval.items()},
            "score": round(choice.score, 6),
            "error": round(choice.error, 6),
            "held_out": choice.held_out and round(choice.held_out, 6),
            "events": choice.events,
        }
        for name in goals
        if (choice := choices.get(name))
    }
    return {
        **about,
        "classes": classes,
        "untuned": [name for name in goals if name not in choices],
    }


def table(content: dict[str, Any]) -> str:
    """A Table II of one's own: class, thresholds, score, error."""
    axes = list(next(iter(content["classes"].values()))["interval"])
    head = "".join(f"{axis + ' (68 %)':>24}" for axis in axes)
    lines = [
        f"{content['split']} split, {content['events']} events, rule {content['rule']}",
        f"{'':<8}{head}{'score':>17}{'held out':>10}{'events':>8}  goal",
    ]
    for name, row in content["classes"].items():
        cells = ""
        for axis in axes:
            low, high = row["interval"][axis]
            cells += f"{f'{row[axis]:.3g} ({low:.3g} - {high:.3g})':>24}"
        held = "-" if row["held_out"] is None else f"{row['held_out']:.3f}"
        score = f"{row['score']:.3f} ± {row['error']:.3f}"
        lines.append(f"{name:<8}{cells}{score:>17}{held:>10}{row['events']:>8}  {row['goal']}")
    lines += [f"{name:<8}untuned: no event has a cluster of it" for name in content["untuned"]]
    return "\n".join(lines)


def sentence(row: dict[str, Any]) -> str:
    """The thresholds of a class, and what they give, in a line of markdown."""
    at = ", ".join(f"{axis} = {row[axis]:.3g}" for axis in row["interval"])
    score = f"{row['score']:.3f} ± {row['error']:.3f}"
    return f"`{row['goal']}` {score} at {at} ({row['events']} events)"


def keep(
    tracking: Tracking,
    run: str,
    folder: Path,
    content: dict[str, Any],
    grid: ThresholdGrid,
    scores: dict[str, dict[str, np.ndarray]],
    choices: dict[str, Choice],
) -> None:
    """Keep the result in the run, and a run a class under it with its surface as a picture.

    A folder of a run gets the file of the thresholds alone.
    """
    text = yaml.safe_dump(content, sort_keys=False)
    file = f"thresholds-{content['cut']}.yaml"
    if kept := as_folder(run):
        part = kept / f"{file}.part"
        part.write_text(text)
        part.replace(kept / file)
        return
    name = f"thresholds {content['cut']} {content['rule']}"
    child = tracking.start(name, {"kind": "thresholds", "of": name}, run)
    known = tracking.about(run) | {key: content[key] for key in PASSED_ON if key in content}
    tags = {key: known[key] for key in PASSED_ON if key in known}
    tracking.tags(child, tags)
    tracking.describe(child, f"```\n{table(content)}\n```")
    for owner in (run, child):
        tracking.text(owner, text, file)
    tracking.text(child, table(content), "table.txt")
    everything = {
        f"{label}/{metric}": value
        for label, metrics in scores.items()
        for metric, value in metrics.items()
    }
    np.savez_compressed(folder / "scores.npz", **everything, **grid.axes)  # type: ignore[arg-type]
    tracking.file(child, folder / "scores.npz")
    for label, choice in choices.items():
        each = tracking.start(label, {"kind": "thresholds", "class": label}, child)
        tracking.tags(each, tags)
        tracking.describe(each, sentence(content["classes"][label]))
        numbers = {**choice.at, "score": choice.score, "error": choice.error}
        tracking.numbers(each, numbers, 0)
        if len(grid.axes) <= 2:
            picture = folder / f"{label}.png"
            goal = content["classes"][label]["goal"]
            if len(grid.axes) == 2:
                draw_surface(picture, grid, label, choice, UNTUNED, goal)
            else:
                draw_curves(picture, grid, label, choice, scores[label])
            tracking.file(each, picture)
        tracking.end(each)
    tracking.end(child)
    tracking.end(run)


def tune_run(
    tracking: Tracking,
    run: str,
    state: Checkpoint,
    cut: Cut,
    goals: dict[str, str],
    *,
    split: Split = "tune",
    rule: Rule = "robust",
    refine: int = 0,
    data: str | None = None,
) -> tuple[dict[str, Any], dict[str, Choice]]:
    """Tune a cut for the network of a run by Ray tasks, and keep the result in the run.

    Args:
        tracking: where the run is.
        run: of the network.
        state: its checkpoint, of a task with thresholds.
        cut: what is tuned.
        goals: class to its goal.
        split: of the events.
        rule: which point is chosen.
        refine: so many more p0 beside each class's best.
        data: other events than the run's own, a folder or a file.

    Returns:
        what thresholds.yaml holds, and the choice of each class.

    Raises:
        ValueError: for a split without clusters.
    """
    trial = state.trial.with_events(data) if data else state.trial
    task, splits = trial.task, trial.data.splits
    assert isinstance(task, CutTask)
    events = splits.events(split)
    found = parts(state.restored(), task, events)
    if not found:
        raise ValueError(f"{splits.path}: no event of the {split} split has a cluster")
    settings = ChoiceSettings(rule=rule)
    scores, grid, choices = tuned(found, cut, goals, settings)
    if refine and isinstance(cut, SeedCut):
        cut = cut.refined((one.at["p0"] for one in choices.values()), refine)
        scores, grid, choices = tuned(found, cut, goals, settings)
    about = {"cut": cut.name, "rule": rule, "run": run, "split": split, "events": len(events)}
    about |= {"data": str(Path(data).resolve())} if data else {}
    content = record(choices, goals, about)
    if isinstance(cut, SeedCut):
        for name, row in content["classes"].items():
            low, high, score = exact_s0(found, name, cut, row["p0"], row["goal"])
            row["exact_s0"] = {"above": low, "up_to": high, "score": round(score, 6)}
    with tempfile.TemporaryDirectory() as scratch:
        keep(tracking, run, Path(scratch), content, grid, scores, choices)
    return content, choices


def main(options: argparse.Namespace) -> int:
    study = None if as_folder(options.run) else options.study
    tracking = Tracking(options.runs, study, options.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(options.run, FILE, Path(scratch)))
    trial = state.trial
    if not isinstance(trial.task, CutTask):
        raise ValueError(f"run {options.run}: the task {trial.task.name} has no thresholds to tune")
    cut = trial.task.tuned_by(options.cut or trial.task.tuned.name).tuned
    if options.export and cut.name != "seeds":
        raise ValueError(f"--export {options.export}: it knows seeds only, not --cut {cut.name}")
    goals = class_goals(options.goal, cut.metrics, trial.task.names)
    with ray_runs(options.workers, dashboard=False):
        content, choices = tune_run(
            tracking,
            options.run,
            state,
            cut,
            goals,
            split=options.split,
            rule=options.rule,
            refine=options.refine,
            data=options.data,
        )
    for name, choice in choices.items():
        if choice.enough:
            say(
                f"{name}: {choice.events} events know the score to ±{choice.error:.3f} only; "
                f"{choice.enough} would give ±{ChoiceSettings().precision}"
            )
    if options.export:
        print(exported(content, options.export), end="")
    else:
        print(json.dumps(content, indent=1) if options.json else table(content))
    return 0


def parser() -> Parser:
    """The arguments of the command."""
    made = Parser(
        "thresholds", "Tune the thresholds of a trained run.", "clustering --run 0123abcd"
    )
    made.add_argument("study", metavar="NAME", help="the study that the run belongs to")
    made.add_argument(
        "--run", required=True, help="an MLflow run with a checkpoint, or a folder of one"
    )
    made.add_argument("--cut", choices=CUTS, help="how voxels become clusters; default the task's")
    made.add_argument(
        "--goal", action="append", default=[], metavar="[CLASS=]GOAL", help="a metric or A*B"
    )
    made.add_argument(
        "--refine", type=int, default=0, metavar="N", help="N more p0 beside each class's best"
    )
    made.add_argument("--rule", choices=get_args(Rule), default="robust", help="which point")
    made.add_argument("--split", default="tune", choices=("train", "tune", "test"))
    made.add_argument("--data", help="other events: a folder with train, tune, test, or one file")
    made.add_argument("--workers", type=int, help="cores; default all")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument("--export", choices=FORMS, help="print them in another program's form")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
