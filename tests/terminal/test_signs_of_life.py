"""A search on a terminal shows a sign of life at least every 3 s, from its start to its end."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from watched import on_a_terminal

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
MOST = 3.0
"""Seconds without a sign of life, on a machine that has a core for the command."""


@pytest.mark.slow
def test_no_stretch_without_a_sign_of_life(few_events: Path, tmp_path: Path) -> None:
    command = ["lartpc_ray.tune", "smoke", "--budget", "smoke", "--data", str(few_events)]
    seen = on_a_terminal(command, tmp_path)
    assert seen.status == 0, seen.text[-2000:]
    assert seen.pieces[0][0] < 2 * seen.crowd, "something within two seconds"
    times = [0.0, *(when for when, _ in seen.pieces), seen.seconds]
    before = ["", *(text for _, text in seen.pieces)]
    stretches = {
        later - earlier: text
        for (earlier, later), text in zip(pairwise(times), before, strict=True)
    }
    longest = max(stretches)
    assert longest < MOST * seen.crowd, f"{longest:.1f} s after {stretches[longest][-200:]!r}"
    text = CONTROL.sub("", seen.text)
    for part in ("starting Ray", "1 training", "steps per s", "voxels per s", " left"):
        assert part in text, part
    for part in ("evaluating on the test split", "tuning the thresholds", "writing the report"):
        assert part in text, part
    assert "Configuration for experiment" not in text, "Tune's box"
