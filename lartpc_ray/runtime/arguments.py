"""The arguments that train and tune share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lartpc_ray.terminal.command import Parser, log, results_folder, whole_number
from lartpc_ray.trials.budget import BudgetName

if TYPE_CHECKING:  # libraries that `--help` does without
    from lartpc_ray.trials.space import Space
    from lartpc_ray.trials.trial import Trial

SIDE = "data.splits.layout.side"
"""Setting that the training file determines, if neither the space nor the arguments fix it."""


WORKERS = whole_number(1, 100_000)
SEED = whole_number(0, 2**32 - 1)
"""Type of a seed; numpy's earlier generator, which Optuna uses, takes no larger one."""


def study_parser(name: str, about: str, example: str) -> Parser:
    """Return a parser with the arguments that choose a study."""
    parser = Parser(name, about, example)
    parser.add_argument("study", metavar="NAME", help="search_spaces/NAME.yaml, or a path to one")
    parser.add_argument("--budget", choices=get_args(BudgetName), help="default: gpu or laptop")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="time to take; trials and steps follow from the measured speed",
    )
    parser.add_argument("--data", help="folder with train, tune, test .h5 files, or one .h5 file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="fix a setting")
    parser.add_argument("--workers", type=WORKERS, help="data-parallel workers per trial")
    parser.add_argument("--seed", type=SEED, help="seed of the search and of every trial")
    parser.add_argument("--runs", type=results_folder, default="runs", help="folder of the results")
    parser.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="folder of a run to continue")
    parser.add_argument("--retry", action="store_true", help="with --resume: failed trials, too")
    parser.add_argument(
        "--accept-data",
        action="store_true",
        help="with --resume: a new study with the same settings, on data that has changed",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--dashboard", action="store_true", help="start Ray's dashboard (1 GB)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, run nothing")
    return parser


def chosen_space(options: argparse.Namespace, *, kept: bool = False) -> Space:
    """Return the space that the arguments choose; log the budget if none is named.

    Args:
        options: of the command line.
        kept: whether a study has begun with the space (`read_space`).
    """
    from lartpc_ray.trials.setting_names import refuse_unknown
    from lartpc_ray.trials.shipped import find_space

    for flag in ("retry", "accept_data"):
        if getattr(options, flag):
            raise ValueError(f"--{flag.replace('_', '-')}: belongs to --resume RUN")
    path = find_space(options.study)
    refuse_unknown(path, options.set)

    from lartpc_ray.data.files import open_events
    from lartpc_ray.trials.size import with_minutes
    from lartpc_ray.trials.space_file import budgets, parse_setting, read_space

    budget = options.budget
    if budget is None:
        import torch

        budget = "gpu" if torch.cuda.is_available() else "laptop"
        known = budgets(path)
        budget = budget if budget in known else next(iter(known), budget)
        if budget not in known:
            raise ValueError(f"{path}: no budgets; add budgets: {{laptop: ...}}")
        if not getattr(options, "run", None):  # nothing is trained
            about = f" ({known[budget]})" if known[budget] else ""
            log.info(f"budget: {budget}{about}; --budget chooses another")
    overrides = _overrides(options, [parse_setting(text) for text in options.set])
    space = read_space(path, budget, overrides, kept=kept)
    space = with_minutes(space, options.minutes)
    splits = space.first_trial().data.splits
    if splits.path == "sample" or SIDE in space.fixed:
        return space
    with open_events(splits.file("train"), splits.layout, from_voxels=True) as events:
        if events.path.is_dir():
            log.info(f"{events.path}: {len(events)} events in {events.kind}")
        side = events.layout.side
    if side == splits.layout.side:
        return space
    wider = read_space(path, budget, overrides | {SIDE: side}, kept=kept)
    return with_minutes(wider, options.minutes)


def _overrides(options: argparse.Namespace, given: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return path to value of `--set` and of the options that are settings.

    Raises:
        ValueError: for a setting that is given twice.
    """
    named = {
        "data.splits.path": ("--data", options.data and str(Path(options.data).resolve())),
        "resources.workers": ("--workers", options.workers),
        "seed": ("--seed", options.seed),
        "data.seed": ("--seed", options.seed),
    }
    overrides = {key: value for key, (_flag, value) in named.items() if value is not None}
    for key, value in given:
        if key in overrides and key != "data.seed":  # --seed with another seed of the batches
            flag = named[key][0] if named.get(key, ("", None))[1] is not None else "--set"
            raise ValueError(f"--set {key}: also given with {flag}; keep one")
        overrides[key] = value
    return overrides


def read_splits(trial: Trial) -> None:
    """Open every split, read its first event, and read the first weights, before a worker starts.

    A folder `val` may have more events than the tune split takes of it: log both numbers.

    Raises:
        ValueError: with file, event and error.
    """
    from lartpc_ray.data.splits import Split
    from lartpc_ray.terminal.phases import phase
    from lartpc_ray.trials.checkpoint import start_weights

    start_weights(trial)

    splits = trial.data.splits
    for split in get_args(Split):
        with phase(f"opening the {split} split"):
            events = splits.events(split)
            trial.task.prepare(events[0])
        if split == "tune" and (total := splits.drawn_from()):
            log.info(f"tune split: {len(events)} of {total} events of {splits.file(split)}, random")
