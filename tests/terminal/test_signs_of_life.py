"""A command on a terminal shows a sign of life at least every 3 s, from its start to its end."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from watched import ROOT, Watched, on_a_terminal

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
MOST = 3.0
"""Seconds without a sign of life, on a machine that has a core for the command."""
MODEL = ("--run", str(ROOT / "models" / "clustering"))
"""The kept network: no training is needed before a command that uses one."""


def check_signs(command: Sequence[str], folder: Path) -> Watched:
    """Run a command to its end; check the times of all that it prints."""
    seen = on_a_terminal(command, folder)
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
    return seen


@pytest.mark.slow
def test_no_stretch_without_a_sign_of_life(few_events: Path, tmp_path: Path) -> None:
    command = ["lartpc_ray.tune", "smoke", "--budget", "smoke", "--data", str(few_events)]
    seen = check_signs(command, tmp_path)
    text = CONTROL.sub("", seen.text)
    for part in ("starting Ray", "1 training", "steps per s", "voxels per s", " left"):
        assert part in text, part
    for part in ("evaluating on the test split", "tuning the thresholds", "writing the report"):
        assert part in text, part
    assert "Configuration for experiment" not in text, "Tune's box"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("train", "smoke", "--budget", "smoke"), "opening MLflow's store"),
        (("thresholds", "clustering", *MODEL), "thresholds: event"),
        (("report", *MODEL, "--html", "page.html"), "writing the report page"),
        (("predict", *MODEL, "{}/test.h5", "-o", "clusters.h5"), "loading the libraries"),
        (("data", "draw", "{}/test.h5", "--event", "0"), "drawing event 0"),
        (("data", "inspect", "{}/test.h5"), "inspect: event"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_no_command_is_silent(
    command: tuple[str, ...], part: str, few_events: Path, tmp_path: Path
) -> None:
    name, *words = (word.format(few_events) for word in command)
    data = ["--data", str(few_events)] if name not in ("predict", "data") else []
    seen = check_signs([f"lartpc_ray.{name}", *words, *data], tmp_path)
    assert part in CONTROL.sub("", seen.text)
