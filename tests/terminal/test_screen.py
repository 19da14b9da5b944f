"""What is seen while a search runs, at 80 columns; and nothing where that is wanted."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from lartpc_ray.terminal.command import Parser, log, run
from lartpc_ray.terminal.phases import AGAIN, line, phase
from lartpc_ray.terminal.pulse import FILE, Pulse, PulseWriter, read_pulse
from lartpc_ray.terminal.screen import FIRST, PAUSE, ProgressBar, Trials, track
from lartpc_ray.terminal.text import align_columns, format_clock

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
    assert any(re.search(r"not shown: [1-5] settings", line) for line in lines)
    objectives = [float(line.split("│")[5]) for line in lines if "│" in line]
    assert objectives == sorted(objectives, reverse=True)


def test_the_last_line_is_broken_where_the_terminal_is_too_narrow() -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, height=40, force_terminal=True, color_system=None)
    pulse = Pulse(30, 0.425, 2_100)
    trials = Trials("study", LONG, 2, 100, console, every=50, pulse=lambda number: pulse)
    trials.show(0, "running", settings=dict(zip(LONG, VALUES, strict=True)))
    trials.tick()
    text.seek(text.truncate(0))
    console.print(trials.table())
    state, hidden = text.getvalue().splitlines()[-2:]
    assert state.startswith("1 training, 0.425 steps per s, 2,100 voxels per s, about")
    assert state.strip().endswith("left")
    assert hidden.strip().startswith("not shown: ")


def test_no_settings_are_missing_before_the_first_trial() -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, height=40, force_terminal=True, color_system=None)
    console.print(Trials("clustering-20261121-220643", LONG, 200, 1000, console).table())
    lines = text.getvalue().splitlines()
    assert lines[-1].strip() == "starting the first trials"


def test_more_trials_than_lines_leave_the_best() -> None:
    lines = drawn(100, height=20)
    assert len(lines) <= 20
    assert any("not shown: 3 settings, 87 trials" in line for line in lines)
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


def test_the_time_left_counts_the_steps_that_a_race_plans() -> None:
    """Four trials of 100 steps, 220 of 400 in all: 60 steps took 30 s, so 160 take 80 s."""
    trials = Trials("study", [], trials=4, steps=100, parts=[(0, 40, 4), (40, 100, 1)])
    trials.show(0, "running", step=40)
    trials.show(1, "waits", step=20)
    assert trials.left(30) == pytest.approx(80)


def test_the_time_left_counts_trials_that_take_the_place_of_dropped_ones() -> None:
    """One of four was to pass step 40; a second one does, after 70 steps of the first."""
    trials = Trials("study", [], trials=4, steps=100, parts=[(0, 40, 4), (40, 100, 1)])
    for number in range(4):
        trials.show(number, "paused", step=40)
    trials.show(0, "paused", step=70)
    assert trials.left(19) == pytest.approx(3), "190 steps are done, 30 of 220 are left"
    trials.show(1, "running", step=50)
    assert trials.left(20) == pytest.approx(8), "200 are done, 80 of 280 are left"


def test_a_stopped_trial_counts_as_done_where_all_were_to_train_on() -> None:
    trials = Trials("study", [], trials=2, steps=100, parts=[(0, 40, 2), (40, 100, 2)])
    trials.show(0, "stopped early", step=40, ended=True)
    trials.show(1, "running", step=60)
    assert trials.left(10) == pytest.approx(4)


def test_a_bar_without_a_terminal_prints_speed_and_time_left_and_nothing_of_quick_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    now = 0.0
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: now)
    with ProgressBar("network: event", 100) as bar:
        for _ in range(100):
            now += 0.1 * PAUSE
            bar.advance()
    assert [text.split(",")[0] for text in caplog.messages] == [
        f"network: event: {count} of 100" for count in (2, *range(20, 101, 10))
    ]
    assert caplog.messages[1] == "network: event: 20 of 100, 1 per s, 80 s left"
    caplog.clear()
    for _ in track(range(100), 100, "network: event"):
        now += 0.01 * FIRST * 0.99
    assert not caplog.messages


def test_a_slow_bar_without_a_terminal_prints_between_the_tenths(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenth of 1,000 events takes eight minutes here."""
    caplog.set_level("INFO", "lartpc_ray")
    now = 0.0
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: now)
    with ProgressBar("network: event", 1000) as bar:
        for _ in range(20):
            now += 5
            bar.advance()
    counts = [int(text.split()[2]) for text in caplog.messages]
    assert counts == [1, 7, 13, 19]
    assert AGAIN == 30


def test_a_table_ticks_and_shows_speed_and_time_left_from_twenty_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two trials of 100 steps, one of which trains 4 steps per s: 180 steps are left, 45 s."""
    clock, pulses = [0.0], [Pulse()]
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: clock[-1])
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, color_system=None)
    trials = Trials("study", [], 2, 100, console, every=20, pulse=lambda number: pulses[-1])

    def table() -> str:
        trials.tick()
        text.seek(text.truncate(0))
        console.print(trials.table())
        return text.getvalue()

    trials.show(0, "running")
    assert "0 of 2 trials, 0 s" in table()
    assert "1 starting" in table()
    clock.append(30)
    pulses.append(Pulse(19, 4, 41_234))
    assert "1 training, 4 steps per s, 41,000 voxels per s" in table()
    assert "0 of 2 trials, 30 s" in table()
    assert "left" not in table()
    pulses.append(Pulse(20, 4, 41_234))
    assert "1 validating, 4 steps per s, 41,000 voxels per s, about 45 s left" in table()
    trials.show(0, "running", step=20, loss=1.0, objective=0.5)
    assert "1 training" in table()
    trials.show(0, "done", ended=True)
    assert "no trial runs" in table()
    trials.show(1, "stopped early", ended=True)
    assert "all trials have ended" in table()


def test_a_wait_for_resources_is_a_line_after_thirty_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    clock = [0.0]
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: clock[-1])
    trials = Trials("study", [], 2, 100, waits=lambda: "waiting for resources")
    clock.append(AGAIN - 1)
    trials.tick()
    assert not caplog.messages
    clock.append(AGAIN)
    trials.tick()
    assert caplog.messages == ["waiting for resources"]
    clock.append(2 * AGAIN - 1)
    trials.tick()
    assert len(caplog.messages) == 1


def test_lines_before_the_first_speed_have_a_clock(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    clock = [0.0]
    monkeypatch.setattr("lartpc_ray.terminal.screen.time.monotonic", lambda: clock[-1])
    trials = Trials("study", [], 2, 100)
    for passed in (AGAIN, 2 * AGAIN):
        clock.append(passed)
        trials.tick()
    times = [format_clock(passed) for passed in (AGAIN, 2 * AGAIN)]
    assert caplog.messages == [f"starting the first trials, {text}" for text in times]


def test_a_training_writes_its_speed_once_per_second_and_at_its_validations(tmp_path: Path) -> None:
    file = tmp_path / FILE
    assert read_pulse(file) is None
    writer = PulseWriter(file, workers=2)
    assert read_pulse(file) == Pulse()
    writer.add(1, 0.5, 100)
    assert read_pulse(file) == Pulse(1, 2.0, 400.0)
    writer.add(2, 0.25, 100)
    assert read_pulse(file) == Pulse(1, 2.0, 400.0)
    writer.add(3, 0.25, 100, last=True)
    assert read_pulse(file) == Pulse(3, 3.0, 600.0)
    writer = PulseWriter(tmp_path / "absent" / FILE)
    writer.add(1, 1, 1)


def test_a_phase_without_a_terminal_is_a_line_with_its_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lartpc_ray")
    with phase("evaluating"):
        pass
    assert not caplog.messages
    monkeypatch.setattr("lartpc_ray.terminal.phases.FIRST", 0.05)
    with phase("recording"):
        with phase("evaluating"):
            while not caplog.messages:
                time.sleep(0.01)
        with ProgressBar("event", 10):
            time.sleep(0.3)
    assert caplog.messages == ["evaluating, 0 s"], "a bar takes the place of the line"


def test_the_clock_of_a_long_phase_changes_each_second() -> None:
    texts = []
    with phase("evaluating"):
        for passed in range(100, 200):
            line.work[-1].began = time.monotonic() - passed - 0.1
            texts.append(line.work[-1].text_now())
    assert texts[0] == "evaluating, 1 min 40 s"
    assert len(set(texts)) == len(texts)


def test_a_phase_on_a_terminal_ticks_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("lartpc_ray.terminal.phases.Console", lambda stderr: console)
    with phase("evaluating"):
        first = len(text.getvalue())
        assert "evaluating, 0 s" in text.getvalue()
        deadline = time.monotonic() + 20
        while len(text.getvalue()) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert text.getvalue().endswith("\x1b[2K"), "the line is erased"
