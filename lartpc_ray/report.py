"""The table of a trained network: every class on the test split, beside the published rows.

`python -m lartpc_ray.report --run ID` prints it again for a run that is in MLflow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from lartpc_ray import checkpoint as checkpoints
from lartpc_ray import command
from lartpc_ray.checkpoint import Checkpoint
from lartpc_ray.command import Parser, say
from lartpc_ray.figure import draw_michels
from lartpc_ray.metrics.resources import COSTS
from lartpc_ray.metrics.table import blocks
from lartpc_ray.predict import predict
from lartpc_ray.screen import aligned, cell
from lartpc_ray.space import Space, shipped
from lartpc_ray.tasks import TASKS, MichelTask, SegmentationTask
from lartpc_ray.tasks.task import Means, Thresholds
from lartpc_ray.tracking import Tracking, TrialRun
from lartpc_ray.trial import Trial
from lartpc_ray.verdict import Verdict, judge, mean_of

IMPORTANT = (
    "network.depth",
    "network.filters",
    "optimizer.learning_rate",
    "optimizer.steps",
    "data.batch_events",
    "seed",
)
"""Settings that MLflow shows of every trial; the others are in its trial.json."""


def layout(task: str) -> dict[str, Any]:
    """What the table of a task shows: dashboards/TASK.yaml, with the published rows."""
    path = shipped("dashboards") / f"{task}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def table(verdict: Verdict) -> str:
    """The verdict as text."""
    shown = layout(verdict.task)
    methods = verdict.rows | {row["row"]: row["means"] for row in shown["published"]}
    lines = [f"test split, {verdict.events['test']} events"]
    for part in shown["tables"]:
        lines += ["", *_part(part, methods)]
    names = TASKS[verdict.task].names
    lines += _thresholds(
        f"thresholds, tuned on {verdict.events['tune']} other events", names, verdict.thresholds
    )
    for text, at in verdict.beside.items():
        lines += _thresholds(f"the same of {text}", names, at)
    lines += [
        "",
        shown["note"],
        "'-': nothing to measure (no such cluster here, or not published).",
    ]
    return "\n".join(lines)


def axes(at: Thresholds) -> list[str]:
    """The thresholds there are, in their order."""
    return list({axis: None for each in at.values() for axis in each})


def _thresholds(title: str, names: Sequence[str], at: Thresholds) -> list[str]:
    rows = {axis: [at.get(name, {}).get(axis) for name in names] for axis in axes(at)}
    lines = [_line(f"  {axis}", [_threshold(value) for value in row]) for axis, row in rows.items()]
    return ["", _line(title, names), *lines] if lines else []


def markdown(verdict: Verdict) -> str:
    """The heads of the tables, the first metric of each, in markdown."""
    shown = layout(verdict.task)
    methods = verdict.rows | {row["row"]: row["means"] for row in shown["published"]}
    lines = [f"Test split, {verdict.events['test']} events."]
    for part in shown["tables"]:
        block = blocks(part, methods)[0]
        lines += ["", f"| {block.title} | {' | '.join(block.heads)} |"]
        lines.append("|---" * (1 + len(block.heads)) + "|")
        lines += [f"| {method} | {' | '.join(_numbers(row))} |" for method, row in block.rows]
    return "\n".join([*lines, "", shown["note"]])


def _part(part: dict[str, Any], methods: dict[str, Means]) -> list[str]:
    """One of the tables: a block a metric, a row a method, a column a class."""
    lines: list[str] = []
    for block in filter(lambda block: block.rows, blocks(part, methods)):
        lines += ["", _line(block.title, block.heads)]
        lines += [_line(f"  {method}", _numbers(row)) for method, row in block.rows]
    return lines[1:]


def _threshold(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _numbers(values: Sequence[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _line(label: str, cells: Sequence[str]) -> str:
    """Not more than 80 characters, for six classes of six letters."""
    width = min(7, 42 // len(cells)) if len(cells) > 4 else 10
    return f"{label:<38}" + "".join(f"{cell:>{width}}" for cell in cells)


def flat(trial: Trial) -> dict[str, Any]:
    """Every setting of a trial by its dotted path."""

    def walk(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= walk(inner, f"{prefix}.{key}" if prefix else key)
        return found

    return walk(json.loads(trial.model_dump_json()), "")


def headline(trial: Trial, searched: Iterable[str]) -> dict[str, Any]:
    """The settings of a trial that tell it from others: those searched, and the important."""
    every = flat(trial)
    return {key: every[key] for key in dict.fromkeys([*searched, *IMPORTANT])}


def keep(tracking: Tracking, run: str, state: Checkpoint, verdict: Verdict) -> None:
    """Keep a trained network in its run: trial, checkpoint, table, test metrics."""
    tracking.text(run, state.trial.model_dump_json(indent=1), "trial.json")
    with tempfile.TemporaryDirectory() as scratch:
        tracking.file(run, checkpoints.save(Path(scratch), state.to_use()))
    tracking.text(run, verdict.json(), "verdict.json")
    tracking.text(run, table(verdict), "table.txt")
    numbers = {
        f"test/{name}/{metric}": value
        for name, metrics in verdict.best.items()
        for metric, value in metrics.items()
    }
    for name, axes in verdict.thresholds.items():
        numbers |= {f"thresholds/{name}/{axis}": value for axis, value in axes.items()}
    mean = mean_of(state.trial.task.names, verdict.best, state.trial.task.metric)
    if mean is not None:
        numbers[f"test/mean/{state.trial.task.metric}"] = mean
    tracking.numbers(run, numbers, state.step)


def judge_on_top(options: argparse.Namespace, space: Space) -> int:
    """Tune and judge a reconstruction whose network another run has trained."""
    tracking = Tracking(options.runs, space.name, options.tracking_uri)
    trial = space.first_trial()
    if not isinstance(trial.task, MichelTask):
        raise ValueError(f"--run: the task {trial.task.name} trains its own network; leave it out")
    with tempfile.TemporaryDirectory() as scratch:
        state = checkpoints.load(tracking.fetch(options.run, checkpoints.FILE, Path(scratch)))
        if not isinstance(state.trial.task, SegmentationTask):
            raise ValueError(
                f"--run {options.run}: its task is {state.trial.task.name}, not segmentation"
            )
        task = trial.task.model_copy(update={"segmentation": state.trial.task})
        data = trial.data if options.data else state.trial.data
        state = replace(state, trial=state.trial.model_copy(update={"task": task, "data": data}))
        verdict = judge(state)
        run = tracking.start(space.name, {"kind": space.name, "of": options.run})
        keep(tracking, run, state, verdict)
        found = predict(state.restored(), task, data.splits.events("test"))
        picture = Path(scratch) / "michels.png"
        draw_michels(
            picture,
            [match for pair in found for match in task.matches(*pair, verdict.thresholds)],
        )
        tracking.file(run, picture)
        tracking.end(run)
    if options.json:
        print(json.dumps({"run": run, **asdict(verdict)}, indent=1))
    else:
        print(f"{table(verdict)}\n{where(tracking, options.runs, run)}")
    return 0


def where(tracking: Tracking, runs: Path, run: str, rival: str | None = None) -> str:
    """How to look at the result; also beside a rival's run."""
    store = f"--backend-store-uri {tracking.uri}" if tracking.uri.startswith("sqlite") else ""
    show = f"python -m lartpc_ray.report --run {run} --runs {runs}"
    if not store:
        return f"\nin MLflow at {tracking.uri}, run {run}\nagain:    {show}"
    ids = json.dumps([run, rival], separators=(",", ":"))
    both = f"http://127.0.0.1:5000/#/compare-runs?runs={quote(ids)}"
    both += f"&experiments={quote(json.dumps([tracking.experiment]))}"
    compare = f"\nbest two beside: {both}" if rival else ""
    return (
        f"\nin the browser:  mlflow ui {store} --host 127.0.0.1\n"
        f"                 http://127.0.0.1:5000/#/experiments/{tracking.experiment}/runs/{run}\n"
        f"this table:      {show}{compare}"
    )


def compared(trials: Sequence[TrialRun]) -> list[dict[str, Any]]:
    """The trials, best first, each with the settings in which they differ."""
    values: dict[str, set[str | None]] = {}
    for name in {name for trial in trials for name in trial.parameters}:
        values[name] = {trial.parameters.get(name) for trial in trials}
    differ = sorted(name for name, each in values.items() if len(each) > 1)
    rows = [
        {
            "trial": trial.number,
            "goal": trial.numbers.get("goal"),
            "run": trial.id,
            "status": trial.status,
            "error": trial.error,
            "costs": {name: trial.numbers.get(name) for name in COSTS},
            "settings": {name: trial.parameters.get(name) for name in differ},
        }
        for trial in trials
    ]
    return sorted(rows, key=lambda row: -np.inf if row["goal"] is None else -row["goal"])


def study_text(study: str, rows: Sequence[dict[str, Any]]) -> str:
    """The trials of a study as text, a column a setting in which they differ."""
    differ = list(rows[0]["settings"])
    heads = ["trial", "goal", *(name.rsplit(".", 1)[-1] for name in differ)]
    cells = [
        [str(row["trial"]), cell(row["goal"])] + [_short(row["settings"][name]) for name in differ]
        for row in rows
    ]
    lines = [f"{study}: {len(rows)} trials, best first", *aligned([heads, *cells])]
    return "\n".join([*lines, *factors(study, rows)])


def factors(study: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Where dashboards/STUDY.yaml compares two values of a setting: what each costs, and the
    factor between them, for all trials that are equal otherwise."""
    path = shipped("dashboards") / f"{study}.yaml"
    shown = layout(study) if path.is_file() else {}
    if "compare" not in shown:
        return []
    setting, of, to = (shown["compare"][name] for name in ("setting", "of", "to"))
    if setting not in rows[0]["settings"]:
        return []
    pairs: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    others = [name for name in rows[0]["settings"] if name != setting]
    for row in sorted(rows, key=lambda row: int(row["trial"])):
        same = tuple(_short(row["settings"][name]) for name in others)
        pairs.setdefault(same, {})[row["settings"][setting]] = row
    heads = "".join(f"{name.rsplit('.', 1)[-1]:>15}" for name in others) + " " * 16
    lines = [(heads, _cells(COSTS[name] for name in shown["costs"]))]
    for same, found in pairs.items():
        left = "".join(f"{value:>15}" for value in same)
        costs = {one: found.get(one, {"costs": {}})["costs"] for one in (of, to)}
        for one in (of, to):
            why = found.get(one, {}).get("error")
            values = _cells(_cost(costs[one].get(name)) for name in shown["costs"])
            lines.append((f"{left}{one:>16}", f"  {why}" if why else values))
        ratios = (_ratio(costs[of].get(name), costs[to].get(name)) for name in shown["costs"])
        lines.append((f"{left}{f'{of} / {to}':>16}", _cells(ratios)))
    width = len(lines[0][0])
    for row in shown["published"]:
        values = _cells(_cost(row["factors"].get(name)) for name in shown["costs"])
        lines.append((f"{row['row']:>{width}}", values))
    return ["", *(left + right for left, right in lines), "", shown["note"]]


def _cells(values: Iterable[str]) -> str:
    return "".join(f"{value:>15}" for value in values)


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _ratio(of: float | None, to: float | None) -> str:
    return _cost(of / to if of is not None and to else None)


def _short(value: str | None) -> str:
    try:
        return cell(float(value)) if value and "." in value else str(value or "-")
    except ValueError:
        return str(value)


def best_run(tracking: Tracking, rows: Sequence[dict[str, Any]]) -> str | None:
    """The trial that the search has picked; before its end the one of highest goal, if any."""
    parent = tracking.about(rows[0]["run"])["mlflow.parentRunId"]
    picked = tracking.children(parent, best="true")
    ended = (row["run"] for row in rows if row["goal"] is not None)
    return next(iter([*picked, *ended]), None)


def write_page(
    path: Path,
    name: str,
    tracking: Tracking,
    run: str | None,
    rows: Sequence[dict[str, Any]],
    verdict: Verdict | None,
    data: str | None = None,
) -> None:
    """Write the page about a study or a run, of which `page.sections.Subject` says the rest."""
    from lartpc_ray.page.sections import Subject, write  # plotly takes its time

    write(path, Subject(name, tracking, run, rows, verdict, data))


def keep_page(tracking: Tracking, study: str, search: str, run: str, verdict: Verdict) -> None:
    """Keep the page of a search that has ended in its run, as report.html.

    All else is kept by then, so a page that cannot be made is said to be missing and no more.

    Args:
        tracking: where the search is.
        study: that it is of.
        search: its run.
        run: of its best trial.
        verdict: on that.
    """
    try:
        rows = compared(tracking.trials(study, search))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "report.html"
            write_page(path, study, tracking, run, rows, verdict)
            tracking.file(search, path)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        say(f"the search has no report.html in MLflow: {why}")


def main(options: argparse.Namespace) -> int:
    if bool(options.study) == bool(options.run):
        raise ValueError("give the name of a study, or --run ID")
    tracking = Tracking(options.runs, None, options.tracking_uri)
    content: dict[str, Any] = {}
    if options.study:
        rows = compared(tracking.trials(options.study))
        if not rows:
            raise ValueError(f"study {options.study!r}: its newest search has no trial yet")
        content["trials"] = rows
    best = options.run or best_run(tracking, rows)
    with tempfile.TemporaryDirectory() as folder:
        try:
            content |= _verdict(tracking, best or "none", options.data, Path(folder))
        except ValueError:
            if options.run:  # a search that has not ended has no verdict yet
                raise
    if options.html:
        rows = content.pop("trials", [])
        verdict = Verdict(**content) if content else None
        name = options.study or tracking.about(options.run)["name"]
        write_page(options.html, name, tracking, best, rows, verdict, options.data)
        say(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
        return 0
    if options.json:
        print(json.dumps(content, indent=1))
        return 0
    if options.study:
        print(study_text(options.study, content.pop("trials")))
    if content:
        print(f"\n{table(Verdict(**content))}" if options.study else table(Verdict(**content)))
    return 0


def _verdict(tracking: Tracking, run: str, data: str | None, folder: Path) -> dict[str, Any]:
    """What is kept of a run's network; measured again where there are events to do it on."""
    if data is None:
        kept: dict[str, Any] = json.loads(tracking.fetch(run, "verdict.json", folder).read_text())
        return kept
    state = checkpoints.load(tracking.fetch(run, checkpoints.FILE, folder))
    return asdict(judge(replace(state, trial=state.trial.with_events(data))))


def parser() -> Parser:
    """The arguments of the command."""
    made = Parser("report", "Print the trials of a study, and the table of the best.", "clustering")
    made.add_argument("study", nargs="?", metavar="NAME", help="its newest search")
    made.add_argument("--run", help="an MLflow run, or a folder of one: the table of one network")
    made.add_argument("--data", help="measure again, on the splits in this folder or file")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    made.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    made.add_argument("--html", type=Path, metavar="OUT.html", help="write a page to show instead")
    made.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return made


if __name__ == "__main__":
    sys.exit(command.run(parser(), main))
