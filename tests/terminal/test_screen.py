"""What is seen while a search runs, at 80 columns; and nothing where that is wanted."""

import io

import pytest
from rich.console import Console

from lartpc_ray.terminal.command import Parser, log, run
from lartpc_ray.terminal.screen import PAUSE, ProgressBar, Trials, track
from lartpc_ray.terminal.text import align_columns

LONG = [
    "network.depth",
    "network.filters",
    "optimizer.learning_rate",
    "task.loss.mask",
    "task.loss.gamma_seediness",
    "task.loss.inter_distance",
]
VALUES = (5, 12, 0.007, "balanced_bce", 1.23456, 0.2)


def drawn(count: int, height: int = 40) -> list[str]:
    """Return the table of so many trials on a terminal of 80 columns."""
    text = io.StringIO()
    console = Console(file=text, width=80, height=height, force_terminal=True, color_system=None)
    trials = Trials("clustering-20261121-220643", LONG, 200, 1000, console)
    for number in range(count):
        row = {
            "step": 500,
            "objective": number / 1000,
            "settings": dict(zip(LONG, VALUES, strict=True)),
        }
        trials.show(number, "running", loss=1.25, **row)
    trials.show(0, "failed: " + "MemoryError " * 20, ended=True)
    console.print(trials.table())
    return text.getvalue().splitlines()


def test_long_names_and_many_columns_fit_into_80() -> None:
    lines = drawn(3)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines), "a cell is cut"
    assert "1 of 200 trials" in lines[0]
    assert any("more settings" in line for line in lines)
    objectives = [float(line.split("│")[5]) for line in lines if "│" in line]
    assert objectives == sorted(objectives, reverse=True)


def test_more_trials_than_lines_leave_the_best() -> None:
    lines = drawn(100, height=20)
    assert len(lines) <= 20
    assert any("86 more trials" in line for line in lines)
    assert any("0.099" in line for line in lines)


def test_the_time_left_leaves_out_what_an_earlier_part_did() -> None:
    """Resume 4 trials of 100 steps: one of them with 50 steps, which has ended; one is at 50.

    So the steps of 1 trial took 60 s, and those of 2.5 trials are left.
    """
    trials = Trials("study", [], 4, 100)
    assert trials.left(60) is None
    trials.show(0, "running", before=50, step=50)
    assert trials.left(60) is None, "nothing was done yet"
    trials.show(0, "done", step=100, ended=True)
    trials.show(1, "running", step=50)
    assert trials.left(60) == pytest.approx(150)


def test_a_failed_row_is_as_long_as_its_reason() -> None:
    rows = [
        ["depth", "score", "cost", "GiB"],
        ["5", "0.75", "1", "2"],
        ["1000000", " ", "no memory"],
    ]
    lines = [
        "    depth  score  cost  GiB",
        "        5   0.75     1    2",
        "  1000000       no memory",
    ]
    assert align_columns(rows) == lines


def test_quiet_shows_results_and_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    def main(options: object) -> int:
        log.info("progress")
        print("result")
        raise ValueError("wrong")

    parser = Parser("tune", "", "")
    assert run(parser, main, ["--quiet"]) == 2
    assert capsys.readouterr() == ("result\n", "python -m lartpc_ray.tune: wrong\n")
    assert run(parser, main, []) == 2
    assert "progress\n" in capsys.readouterr().err


def test_a_bar_without_a_terminal_says_little_and_of_quick_work_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    now = 0.0
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: now)
    with ProgressBar("network: event", 100) as bar:
        for _ in range(100):
            now += 0.1 * PAUSE
            bar.advance()
    assert caplog.messages == [f"network: event: {count} of 100" for count in range(10, 101, 10)]
    caplog.clear()
    for _ in track(range(100), 100, "network: event"):
        now += 0.01 * PAUSE * 0.99
    assert not caplog.messages
