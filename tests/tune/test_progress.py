"""What a search tells, and what Tune does with it."""

from pathlib import Path

import pytest
import ray
from ray import cloudpickle, tune

from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.train.resources import missing_now
from lartpc_ray.trials.shipped import find_space
from lartpc_ray.trials.space_file import read_space
from lartpc_ray.trials.trial import Resources
from lartpc_ray.tune.progress import Progress


def test_on_a_terminal_tune_can_make_its_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the callbacks; a live table is a lock and a screen."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    space = read_space(find_space("smoke"), "laptop", {})
    tracking = Tracking(tmp_path, "smoke")
    progress = Progress(tmp_path / "a study", space, tracking, tracking.start("a study", {}))
    assert progress._screen._live is not None, "drawn"
    assert type(cloudpickle.loads(cloudpickle.dumps(progress))) is tune.Callback


@pytest.mark.parametrize(
    ("address", "cpus", "line"),
    [
        ("", 1, ""),  # its own trials hold the cores while they start
        ("", 4, "waiting for resources: a trial needs 4 cores; free: 2 of 2"),
        ("auto", 1, "waiting for resources: a trial needs 1 core; free: 0 of 2"),
    ],
)
def test_a_ray_of_ones_own_has_nobody_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, address: str, cpus: int, line: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.0})
    assert missing_now(Resources(cpus=cpus)) == line
