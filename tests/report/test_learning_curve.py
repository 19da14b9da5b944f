"""The learning curve of a search whose trials differ in their training events."""

from pathlib import Path
from typing import Any

import pytest

from lartpc_ray.report.document import Page, Plot
from lartpc_ray.report.search_sections import BY_EVENTS, TRAIN_EVENTS, write
from lartpc_ray.report.subject import Subject
from lartpc_ray.report.tables import TrialRow
from lartpc_ray.tracking.runs import Tracking


def curve(folder: Path, *trials: tuple[str | None, float, float | None]) -> dict[str, Any] | None:
    """Return the figure of the page about trials of events, objective and error."""
    rows = [
        TrialRow(number, objective, "", "FINISHED", "", {}, {TRAIN_EVENTS: events}, error)
        for number, (events, objective, error) in enumerate(trials)
    ]
    page = Page()
    search = {TRAIN_EVENTS: ("grid", [20, 50, 150])}
    write(page, Subject("curve", Tracking(folder, "curve"), None, rows, None), search, [])
    found = [section for section in page.sections if section.title == BY_EVENTS]
    if not found:
        return None
    (plot,) = found[0].blocks
    assert isinstance(plot, Plot)
    return plot.chart


def test_the_curve_has_each_trial_with_its_error(tmp_path: Path) -> None:
    figure = curve(tmp_path, ("150", 0.8, 0.02), ("20", 0.6, None), (None, 0.7, 0.01))
    assert figure is not None
    (points,) = figure["data"]
    assert (list(points["x"]), list(points["y"])) == ([150, 20], [0.8, 0.6])
    assert points["error_y"]["array"] == [0.02, None], "one of no known error has no bar"
    assert points["text"] == ["trial 0", "trial 1"]
    assert figure["layout"]["xaxis"]["type"] == "log"


@pytest.mark.parametrize("trials", [[("20", 0.6, 0.1)], [("20", 0.6, 0.1), ("20", 0.7, 0.1)]])
def test_one_number_of_events_makes_no_curve(tmp_path: Path, trials: list[Any]) -> None:
    assert curve(tmp_path, *trials) is None
