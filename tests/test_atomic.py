"""A file is written whole or not at all, also where a step of the write fails."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lartpc_ray.atomic import read_json, replace_file, write_json, write_text

STEPS = ["body", "fsync", "replace", None]


@settings(deadline=None)
@given(
    before=st.none() | st.binary(),
    after=st.binary(),
    failing=st.sampled_from(STEPS),
    name=st.sampled_from(["plan.json", "[a]*?.pt", "x.part-7", "with space"]),
)
def test_readers_see_the_earlier_or_the_complete_file(
    before: bytes | None, after: bytes, failing: str | None, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / name
        if before is not None:
            path.write_bytes(before)
        if failing in ("fsync", "replace"):
            patch.setattr(os, failing, fail)
        try:
            with replace_file(path) as part:
                part.write_bytes(after)
                assert (path.read_bytes() if path.exists() else None) == before
                if failing == "body":
                    fail()
        except OSError:
            assert failing
        expected = before if failing else after
        assert (path.read_bytes() if path.exists() else None) == expected
        assert list(Path(folder).iterdir()) == ([] if expected is None else [path])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupt_removes_the_part(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with replace_file(tmp_path / "a") as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_wins_where_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replace_file(path, keep_existing=True) as part:
        part.write_text("second")
        write_text(path, "first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_finds_a_file_is_not_silenced(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), replace_file(tmp_path / "a", keep_existing=True):
        tmp_path.mkdir()


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_is_not_written_over_one_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path = tmp_path / "a"

    def refuse_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse_links)

    def write_late() -> None:
        with replace_file(path, new=True) as part:
            part.write_text("second")
            write_text(path, "first")

    with pytest.raises(ValueError, match="a: another process has written this file meanwhile"):
        write_late()
    with pytest.raises(ValueError, match="it stays as it is"), replace_file(path, new=True):
        raise AssertionError("nothing is computed for a name that is taken")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    with replace_file(path, new=True) as part:
        part.write_text("alone")
    assert path.read_text() == "alone"


def test_two_writers_of_one_process_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replace_file(path) as first, replace_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "the last that ends"


def test_the_part_of_a_killed_process_is_removed_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = f"""
import os, signal
from pathlib import Path
from lartpc_ray.atomic import replace_file
with replace_file(Path({str(path)!r})) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    living = [
        tmp_path / f"a.json.part~{gethostname()}~{os.getppid()}~0",
        tmp_path / f"a.json.part~{gethostname()}-2~1~0",
        tmp_path / f"b.json.part~{gethostname()}~1~0",
    ]
    for other in living:
        other.touch()
    write_json(path, {"é": [1]})
    assert path.read_text() == '{"\\u00e9": [1]}'
    assert sorted(tmp_path.iterdir()) == sorted([path, *living])


def test_a_second_writer_of_an_output_is_refused_and_leaves_the_part_of_the_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.h5"
    code = f"""
from pathlib import Path
from lartpc_ray.atomic import replace_file
with replace_file(Path({str(path)!r}), exclusive=True) as part:
    part.write_text("second")
"""

    def second_writer() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with replace_file(path, exclusive=True) as part:
        part.write_text("first")
        refused = second_writer()
    assert refused.stderr.splitlines()[-1].startswith(
        f"ValueError: {path}: another process is writing this file"
    )
    assert path.read_text() == "first"
    assert second_writer().returncode == 0
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_of_the_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"plan\.json") as caught:
        write_json(tmp_path / "plan.json", [1])
    assert caught.value.errno == code
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real: dict[str, Callable[..., None]] = {"fsync": os.fsync, "replace": os.replace}

    def recorded(name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            calls.append(name)
            real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, recorded(name))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace", "fsync"], "the content, the name, the folder"


@pytest.mark.parametrize("text", ["[1]", "null", "3", '"a"'])
def test_json_without_names_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json: damaged: it holds .*, not \{name: value"):
        read_json(path)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "[" * 100_000, "\x00", '{"a": \xff}'])
def test_a_damaged_json_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"plan\.json: truncated or not JSON"):
        read_json(path)
