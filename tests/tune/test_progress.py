"""What a search tells, and what Tune does with it."""

from pathlib import Path

import pytest
from ray import cloudpickle, tune

from lartpc_ray.tracking.runs import Tracking
from lartpc_ray.trials.space import find_space
from lartpc_ray.trials.space_file import read_space
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
