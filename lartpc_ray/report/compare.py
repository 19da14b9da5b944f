"""Compare two networks: in Python, on the command line, and at the end of a search."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from copy import copy
from pathlib import Path

from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import LazyRay
from lartpc_ray.report.comparison import Comparison, compare_predictions, compare_sides
from lartpc_ray.report.comparison_page import write_comparison
from lartpc_ray.report.sides import (
    Side,
    are_predictions,
    load_side,
    network_options,
    refuse_for_prediction,
)
from lartpc_ray.terminal.command import log
from lartpc_ray.terminal.phases import phase
from lartpc_ray.terminal.text import error_text
from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.checkpoint import Checkpoint, last_thresholds

NAME = "comparison"
"""Name of the artifacts of a search."""


def compare(
    first: str | Path,
    other: str | Path,
    *,
    method: str | None = None,
    other_method: str | None = None,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    tracking_uri: str | None = None,
) -> Comparison:
    """Compare two networks, or two reconstructions of one network, on the same test events.

    Args:
        first: a study (the best trial of its newest search), the id of an MLflow run, a folder
            with `checkpoint.pt`, or a registered model, `models:/NAME@ALIAS`; or a prediction with
            tables (`predict --tables`), a file or a folder of shards.
        other: the network it is compared with, on the events of the first one.
        method: reconstruction of the first network; by default that of its task.
        other_method: reconstruction of the other network.
        data: folder or file of the splits, if they are not those of the first network. The
            thresholds are then chosen on its tune split.
        runs: folder of the MLflow store that the commands write.
        tracking_uri: another MLflow store.

    Returns:
        the comparison: `differences[metric][class]` has `difference`, `error` and `p_better`;
        `settings` the settings that differ; `text()` all of it.

    Raises:
        ValueError: for a source without a sound checkpoint, networks of two tasks, a network and
            a prediction, or a method or data for predictions.

    Example:
        model = "models/clustering"
        comparison = compare(model, model, method="linked", other_method="seeds")
        print(comparison.text())
    """
    if are_predictions(str(first), str(other)):
        given = {"method": method, "other_method": other_method, "data": data}
        refuse_for_prediction(str(first), [name for name, value in given.items() if value])
        return compare_predictions(Path(first), Path(other))
    tracking = Tracking(Path(runs), None, tracking_uri)
    splits = None if data is None else str(data)
    ours = load_side(tracking, str(first), method, splits)
    return compare_sides(ours, load_side(tracking, str(other), other_method, splits, ours))


def run_comparison(options: argparse.Namespace, ray: LazyRay) -> int:
    """Print or write the comparison of two networks, for the command line."""
    source = options.study or options.run
    other = options.against or source
    sides: tuple[Side, ...] = ()
    if are_predictions(source, other):
        refuse_for_prediction(source, network_options(options, ray))
        comparison = compare_predictions(Path(source), Path(other))
    else:
        tracking = Tracking(options.runs, None, options.tracking_uri)
        with phase("comparing the networks"):
            ours = load_side(tracking, source, options.method, options.data, ray=ray)
            others = load_side(tracking, other, options.against_method, options.data, ours, ray)
            sides, comparison = (ours, others), compare_sides(ours, others)
    if options.html:
        write_comparison(options.html, comparison, sides)
        log.info(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB")
    elif options.json:
        print(json.dumps(comparison.content(), indent=1))
    else:
        print(comparison.text(every=options.all))
        if not options.all:
            log.info("every class of every metric: --all")
    return 0


def log_comparison(
    tracking: Tracking,
    search: str,
    evaluation: Evaluation,
    load: Callable[[int], Checkpoint],
    trials: tuple[int, int],
) -> None:
    """Log the comparison of the best trial with another one to the run of a search.

    Both have the reconstruction by which the search has ranked them, with the thresholds of
    their last validations, so the other network passes the test split alone. All else is logged
    before, so a comparison that cannot be made is a warning.

    Args:
        tracking: store of the search.
        search: its run.
        evaluation: of the best trial.
        load: returns the last checkpoint of a trial.
        trials: numbers of the best trial and of the other one.
    """
    try:
        states = [load(number) for number in trials]
        own = copy(evaluation)  # shares the outputs, with a reconstruction of its own
        own.use(states[0].trial.task)
        steps = len({state.step for state in states}) > 1
        sides = [
            Side.of(
                f"trial {number}" + f" after {state.step} steps" * steps,
                outputs,
                last_thresholds(state) or None,
            )
            for number, state, outputs in zip(
                trials, states, (own, Evaluation(states[1])), strict=True
            )
        ]
        comparison = compare_sides(sides[0], sides[1])
        with tempfile.TemporaryDirectory() as scratch:
            for suffix in ("html", "png"):
                path = Path(scratch) / f"{NAME}.{suffix}"
                write_comparison(path, comparison, sides)
                tracking.log_artifact(search, path)
        tracking.log_text(search, comparison.text(every=True), f"{NAME}.txt")
        tracking.log_text(search, json.dumps(comparison.content(), indent=1), f"{NAME}.json")
    except Exception as error:
        log.warning(f"the search has no {NAME}.html in MLflow: {error_text(error)}")
