"""Broken files (LARTPC_ATTACK_MUTANTS, 2,000): each is read, or refused in a line that names it."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutants
import pytest

COUNT = int(os.environ.get("LARTPC_ATTACK_MUTANTS", "2000"))
FOLDER = Path(__file__).parent


def answers(
    folder: Path, names: list[str], count: int, script: Path = Path(mutants.__file__)
) -> list[tuple[str, str]]:
    """Yield each mutant and its outcome; a process that dies does so by its last mutant."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        arguments = [str(folder), str(len(found)), ",".join(names), str(count)]
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])},
            check=False,
        )
        lines = done.stdout.splitlines()
        pairs = list(zip(lines[::2], lines[1::2], strict=False))
        if len(lines) % 2:
            pairs.append((lines[-1], f"ended with status {done.returncode}"))
        assert pairs, f"the process does not start: {done.stderr}"
        found += pairs
    return found


def outcome(asked: str, answer: str, sound: dict[str, str], folder: Path) -> str:
    """In a word or two; `wrong` where it is not what a reader may do."""
    name, number = asked.split("\t")[1:3]
    came = answer.rsplit("\t", 1)[0]
    if came == sound[name]:
        return "read as it was"
    if came.startswith("read ") and int(number) >= 100:
        return "read with other values"  # which are possible: no format has sums over all its bytes
    fine = came.startswith(f"refused {folder / f'mutant-{name}'}: ")
    return "refused" if fine else "wrong"


@pytest.mark.slow
def test_broken_files_are_read_right_or_refused(tmp_path: Path) -> None:
    names = mutants.write_bases(tmp_path)
    sound = {name: mutants.read(tmp_path / name) for name in names}
    assert all(answer.startswith("read ") for answer in sound.values())
    found = answers(tmp_path, names, COUNT)
    came = [outcome(asked, answer, sound, tmp_path) for asked, answer in found]
    print(Counter(came))
    assert len(found) == COUNT
    assert [pair for pair, word in zip(found, came, strict=True) if word == "wrong"] == []


TRAPS = """
import os, sys, mutants
mutants.SECONDS = 1
def loop():
    while True: pass
traps = {"mutant-v1.h5": os.abort, "mutant-v2.h5": loop, "mutant-v3.h5": lambda: bytearray(2**31)}
def read(path):
    try:
        traps.get(path.name, lambda: None)()
    except MemoryError:
        return "memory"
    return "read 0"
mutants.read = read
mutants.main(*sys.argv[1:])
"""


@pytest.mark.slow
def test_a_reader_that_crashes_hangs_or_swells_is_caught(tmp_path: Path) -> None:
    """The net itself."""
    names = mutants.write_bases(tmp_path)
    script = tmp_path / "traps.py"
    script.write_text(TRAPS)
    found = answers(tmp_path, names, len(names), script)
    came = {asked.split("\t")[1]: answer for asked, answer in found}
    assert came.pop("v1.h5") == f"ended with status -{signal.SIGABRT}"
    assert came.pop("v2.h5") == f"ended with status -{signal.SIGPROF}"
    assert came.pop("v3.h5").startswith("memory")
    assert {answer.split("\t")[0] for answer in came.values()} == {"read 0"}
