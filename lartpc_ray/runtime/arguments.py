"""The arguments that train and tune share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lartpc_ray.terminal.command import Parser, log
from lartpc_ray.trials.budget import BudgetName

if TYPE_CHECKING:  # libraries that `--help` does without
    from lartpc_ray.trials.space import Space
    from lartpc_ray.trials.trial import Trial

SIDE = "data.splits.layout.side"
"""Setting that the training file determines, if neither the space nor the arguments fix it."""


def study_parser(name: str, about: str, example: str) -> Parser:
    """Return a parser with the arguments that choose a study."""
    parser = Parser(name, about, example)
    parser.add_argument("study", metavar="NAME", help="search_spaces/NAME.yaml, or a path to one")
    parser.add_argument("--budget", choices=get_args(BudgetName), help="default: gpu or laptop")
    parser.add_argument("--data", help="folder with train, tune, test .h5 files, or one .h5 file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="fix a setting")
    parser.add_argument("--workers", type=int, help="data-parallel workers per trial")
    parser.add_argument("--seed", type=int, help="seed of the search and of every trial")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the results")
    parser.add_argument("--tracking-uri", help="MLflow store; default sqlite in RUNS")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="folder of a run to continue")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--dashboard", action="store_true", help="start Ray's dashboard (1 GB)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, run nothing")
    return parser


def chosen_space(options: argparse.Namespace) -> Space:
    """Return the space that the arguments choose; log the budget if none is named."""
    from lartpc_ray.data.files import open_events
    from lartpc_ray.trials.space import find_space
    from lartpc_ray.trials.space_file import budgets, parse_setting, read_space

    budget = options.budget
    if budget is None:
        import torch

        budget = "gpu" if torch.cuda.is_available() else "laptop"
        known = budgets(find_space(options.study))
        budget = budget if budget in known else next(iter(known))
        log.info(f"budget: {budget} ({known[budget]}); --budget chooses another")
    overrides = dict(parse_setting(text) for text in options.set)
    named = {
        "data.splits.path": options.data and str(Path(options.data).resolve()),
        "resources.workers": options.workers,
        "seed": options.seed,
        "data.seed": options.seed,
    }
    overrides |= {key: value for key, value in named.items() if value is not None}
    space = read_space(find_space(options.study), budget, overrides)
    splits = space.first_trial().data.splits
    if splits.path == "sample" or SIDE in space.fixed:
        return space
    with open_events(splits.file("train"), splits.layout, from_voxels=True) as events:
        side = events.layout.side
    if side == splits.layout.side:
        return space
    return read_space(find_space(options.study), budget, overrides | {SIDE: side})


def read_splits(trial: Trial) -> None:
    """Open every split and read its first event, before any worker starts.

    Raises:
        ValueError: with file, event and error.
    """
    from lartpc_ray.data.splits import Split

    for split in get_args(Split):
        trial.task.prepare(trial.data.splits.events(split)[0])
