"""`make` shows that it installs: pip is silent for minutes."""

import os
import re
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from watched import ROOT

PYTHON = """#!/bin/sh
# A Python whose environments have a pip that sleeps.
test "$1" = -m || exit 0
mkdir -p "$3/bin" && printf '#!/bin/sh\\nsleep 5\\nexit %s\\n' "$STATUS" > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 1])
def test_an_installation_shows_that_it_lives(status: int, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    times = [time.monotonic()]
    with subprocess.Popen(
        ["make", "install", f"PYTHON={python}"],
        cwd=tmp_path,
        env={**environment, "STATUS": str(status)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        text = b""
        while piece := os.read(process.stdout.fileno(), 4096):
            text += piece
            times.append(time.monotonic())
    times.append(time.monotonic())
    assert re.fullmatch(rb"Installing into \.venv.*\n\.+\n", text), text
    crowd = max(1, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    assert max(later - earlier for earlier, later in pairwise(times)) < 3 * crowd
    assert (process.returncode == 0) == (status == 0)
    assert (tmp_path / ".venv" / "installed").exists() == (status == 0)
