"""Broken folders of shards: a damaged shard or sidecar is read, or refused by its name."""

import os
import resource
from collections import Counter
from pathlib import Path

import mutants
import numpy as np
import pytest
from test_fuzz import answers

from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats.pilarnet_writer import sidecar_path
from lartpc_ray.data.splits import sample

COUNT = int(os.environ.get("LARTPC_ATTACK_MUTANTS", "2000")) // 2
SCRIPT = """
import sys
from pathlib import Path
import mutants
from lartpc_ray.data.files import open_events
read_file, damage = mutants.read, mutants.mutant

def read(path):
    name = path.name.removeprefix("mutant-")
    shard = path.parent / "shards" / name
    shard.write_bytes(path.read_bytes())
    try:
        outcome = read_file(shard.parent)
        if outcome.startswith("read "):
            with open_events(shard.parent, mutants.LAYOUT) as events:
                outcome += f", batches of {sum(map(events.voxels, range(len(events))))}"
        return outcome
    except ValueError as error:
        return f"refused {error}" if "\\n" not in str(error) else f"lines {error!r}"
    finally:
        shard.write_bytes((path.parent / name).read_bytes())

def mutant(base, name, number):
    typed = number >= 100 and number % 5 == 4  # of formats with types inside
    return damage(base, name, number - typed * name.endswith(".npy"))

mutants.read, mutants.mutant = read, mutant
mutants.main(*sys.argv[1:])
"""


def write_folder(folder: Path) -> list[str]:
    """Write two shards with their sidecars, each beside a sound copy; return their names."""
    (folder / "shards").mkdir()
    for number, name in enumerate(("a.h5", "b.h5")):
        events = list(read_events(sample("test"), indices=range(5 * number, 5 * number + 2)))
        write_events(folder / name, events)
        np.save(sidecar_path(folder / name), [len(event) for event in events])
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in names:
        (folder / "shards" / name).write_bytes((folder / name).read_bytes())
    return names


@pytest.mark.slow
def test_broken_folders_are_read_right_or_refused(tmp_path: Path) -> None:
    names = write_folder(tmp_path)
    assert names == ["a.h5", "a_points.npy", "b.h5", "b_points.npy"]
    script = tmp_path / "folders.py"
    script.write_text(SCRIPT)
    found = answers(tmp_path, names, COUNT, script)
    outcomes = Counter(answer.split(" ")[0] for _, answer in found)
    print(outcomes)
    assert len(found) == COUNT
    assert outcomes["refused"] > COUNT / 4
    for asked, answer in found:
        name = asked.split("\t")[1]
        shard = tmp_path / "shards" / name
        assert answer.startswith(("read ", f"refused {shard}: ")), (asked, answer)


def test_a_sidecar_with_an_absurd_number_is_refused(tmp_path: Path) -> None:
    names = write_folder(tmp_path)
    for value in (-1, 10**9):
        np.save(tmp_path / "shards" / names[1], [5, value])
        with pytest.raises(ValueError, match=rf"a_points\.npy: event 1 of a\.h5: {value} voxels"):
            open_events(tmp_path / "shards", mutants.LAYOUT)


def test_a_sidecar_takes_no_more_memory_than_its_bytes(tmp_path: Path) -> None:
    """A header of version 2 that claims 1.5 GB; an archive; more numbers than events."""
    names = write_folder(tmp_path)
    sidecar = tmp_path / "shards" / names[1]
    header = b"\x93NUMPY\x02\x00" + (1_600_000_000).to_bytes(4, "little") + b"{'descr': '<i8'}"
    limit, before = 2**30, resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for content in (header, b"PK\x03\x04", b"", np.zeros(100_000).tobytes()):
        sidecar.write_bytes(content)
        resource.setrlimit(resource.RLIMIT_AS, (used + limit, before[1]))
        try:
            with pytest.raises(ValueError, match=rf"^{sidecar}: "):
                open_events(tmp_path / "shards", mutants.LAYOUT)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
