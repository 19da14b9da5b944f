"""The study or the run that a page reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lartpc_ray.predict.evaluate import EvaluationResult
from lartpc_ray.predict.evaluation import Evaluation
from lartpc_ray.predict.placement import LazyRay
from lartpc_ray.predict.registry import load_checkpoint
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.tracking.runs import Tracking


def load_evaluation(
    tracking: Tracking, run: str, data: str | None = None, ray: LazyRay | None = None
) -> Evaluation:
    """Load the network of a run, to evaluate it on its own splits or on those of `data`.

    Args:
        tracking, run: of the network.
        data: folder or file of other splits.
        ray: of the command, with the placement of the network.

    Raises:
        ValueError: for a run without a sound checkpoint.
    """
    return Evaluation(load_checkpoint(tracking, run), data, ray)


@dataclass(frozen=True)
class Subject:
    """The study or the run that a page reports.

    Attributes:
        name: of the study, or of the run.
        tracking: store of the runs.
        run: the run with the network to show; None before a trial has finished.
        rows: the trials, highest objective first; none for a single run.
        result: of the run's network on the test split, if it was evaluated.
        data: path of the splits of the result, if they are not the run's own.
        evaluation: of the run's network, if the command has it already.
        ray: of the command, with the placement of the network.
    """

    name: str
    tracking: Tracking
    run: str | None
    rows: Sequence[TrialRow]
    result: EvaluationResult | None
    data: str | None = None
    evaluation: Evaluation | None = None
    ray: LazyRay | None = None
