"""Names with control characters reach no terminal as they are."""

import logging
from pathlib import Path

import pytest

from lartpc_ray.data.__main__ import main, parser
from lartpc_ray.data.files import read_events, write_events
from lartpc_ray.data.splits import sample
from lartpc_ray.terminal.command import _StderrHandler, run
from lartpc_ray.terminal.text import error_text, escape_controls

ESCAPE = chr(27)
NAME = f"esc{ESCAPE}[31mred{chr(7)}.h5"
SHOWN = r"esc\x1b[31mred\x07.h5"


def test_controls_in_a_name_are_escaped_and_the_colours_of_ray_removed() -> None:
    assert error_text(f"no {NAME}") == f"no {SHOWN}"
    assert error_text(f"{ESCAPE}[36mray::f(){ESCAPE}[39m failed") == "ray::f() failed"
    red = f"{ESCAPE}[31mred.h5"
    assert error_text(f"{red}: no such file") == r"\x1b[31mred.h5: no such file"
    assert escape_controls(f"{NAME}\n\udc80\u202ey") == f"{SHOWN}\n\\udc80\\u202ey"
    assert escape_controls("µ-stüdy 3 é") == "µ-stüdy 3 é"


def test_a_file_of_a_strange_name_is_printed_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / NAME
    write_events(path, read_events(sample("test"), indices=[0]))
    assert run(parser(), main, ["inspect", str(path)]) == 0
    assert run(parser(), main, ["inspect", f"{path}x"]) == 2
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert SHOWN in text
        assert ESCAPE not in text


def test_a_message_is_printed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    _StderrHandler().emit(logging.makeLogRecord({"msg": NAME}))
    assert capsys.readouterr().err == f"{SHOWN}\n"
