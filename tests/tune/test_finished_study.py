"""The study that `search` returns is the user's own, whatever is searched later."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.tune.search import FinishedStudy


def test_a_later_search_of_the_space_changes_no_study(tmp_path: Path) -> None:
    tracking = Tracking(tmp_path, "mine")
    studies = []
    for objective in (0.5, 0.7):
        search = tracking.start("search", {"study": str(objective), "kind": "search"})
        tags = {"study": str(objective), "trial": "0"}
        trial = tracking.start("trial 0", tags, search)
        tracking.log_metrics(trial, {"objective": objective}, 1)
        study: Any = SimpleNamespace(tracking=tracking, space=SimpleNamespace(name="mine"))
        result: Any = None
        studies.append(FinishedStudy(study, "", trial, result))
    for finished, objective in zip(studies, (0.5, 0.7), strict=True):
        (row,) = finished.trials.to_dict("records")
        assert (row["run"], row["objective"]) == (finished.best_run, objective)
