"""Files of bounded work and memory, and a full disk."""

import lzma
import os
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from lartpc_ray.data.files import open_events, read_events, write_events
from lartpc_ray.data.formats import hdf5
from lartpc_ray.data.splits import sample

EMPTY_STREAM = lzma.compress(b"")


def run_data(*arguments: object, limit: int) -> subprocess.CompletedProcess[str]:
    """Run a command of `data` that cannot write beyond `limit` bytes of a file: a full disk."""

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return subprocess.run(
        [sys.executable, "-m", "lartpc_ray.data", "--quiet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=fill_disk,
        env=os.environ | {"NUMBA_CACHE_DIR": os.devnull},
    )


def refuse_to_write(path: Path, limit: int) -> None:
    """Check that a write of the sample fails beyond `limit` bytes and leaves nothing."""
    events = read_events(sample("test"), indices=range(20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=rf"File too large: '.*{path.name}'"):
            write_events(path, events)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 96, 1000, 2048, 4096, 5000, 50_000, 500_000])
def test_a_disk_that_is_full_anywhere_in_a_write_is_an_error_with_the_name(
    tmp_path: Path, limit: int
) -> None:
    refuse_to_write(tmp_path / "out.h5", limit)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 10_000, 200_000])
def test_simulate_and_convert_on_a_full_disk_end_with_a_line(tmp_path: Path, limit: int) -> None:
    target = tmp_path / "out.h5"
    for command in (
        ("simulate", target, "--events", "30"),
        ("convert", sample("test"), target),
    ):
        done = run_data(*command, limit=limit)
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1
        assert f"File too large: '{target}'" in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_what_hdf5_reads_back_after_a_failed_write_is_what_it_wrote(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = os.urandom(100)
    with hdf5.DiskFile(tmp_path / "a") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
        try:
            assert file.write(data) == 100
            file.seek(60)
            assert file.write(b"later") == 5
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        back = bytearray(100)
        file.seek(0)
        assert file.readinto(back) == 100
        assert bytes(back) == data[:60] + b"later" + data[65:]
        with pytest.raises(OSError, match="File too large"):
            file.check()


def test_xz_files_of_several_streams_are_read_and_of_empty_streams_refused_soon(
    tmp_path: Path,
) -> None:
    plain, packed = sample("test").read_bytes(), tmp_path / "events.h5.xz"
    if plain.startswith(b"\xfd7zXZ"):
        plain = lzma.decompress(plain)
    half = len(plain) // 2
    parts = (plain[:half], b"", plain[half:])
    packed.write_bytes(b"\0\0\0\0".join(lzma.compress(part, preset=0) for part in parts))
    assert [len(event) for event in read_events(packed, indices=[0, 5])] == [4302, 797]
    packed.write_bytes(EMPTY_STREAM * (2**20 // len(EMPTY_STREAM)))
    start = time.process_time()
    with pytest.raises(ValueError, match=r"events.h5.xz: not a readable HDF5 file"):
        open_events(packed)
    assert time.process_time() - start < 4


def test_an_xz_file_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "bomb.h5.xz"
    packed.write_bytes(lzma.compress(bytes(2**22), preset=0) * 3)
    monkeypatch.setattr(hdf5, "MAX_UNPACKED", 2**23)
    with pytest.raises(ValueError, match="more than 8388608 bytes unpacked"):
        open_events(packed)


def test_more_events_than_bytes_are_refused(tmp_path: Path) -> None:
    path, rows = tmp_path / "many.h5", 2**20
    zeros = zlib.compress(bytes(rows * 16), 1)
    with h5py.File(path, "w") as file:
        for name, kind in (("point", np.float32), ("cluster", np.int64)):
            how = {"dtype": h5py.vlen_dtype(kind), "chunks": (rows,), "compression": "gzip"}
            dataset = file.create_dataset(name, (8 * rows,), **how)
            for start in range(0, 8 * rows, rows):
                dataset.id.write_direct_chunk((start,), zeros)
    with pytest.raises(ValueError, match=r"many.h5: 8,388,608 events in .* bytes"):
        open_events(path)


def test_a_chunk_larger_than_its_rows_is_refused(tmp_path: Path) -> None:
    """HDF5 reads it past the end of its memory: a mutant among 10,000 ended the process."""
    path = tmp_path / "chunk.h5"
    write_events(path, read_events(sample("test"), indices=[0]))
    content, node, size = path.read_bytes(), b"TREE\1", 24  # its first key: u4 bytes of a chunk
    parts = content.split(node)
    assert len(parts) == 4, "three datasets"
    larger = (5120).to_bytes(4, "little")
    first = size - len(node)
    changed = [part[:first] + larger + part[first + 4 :] for part in parts[1:]]
    path.write_bytes(node.join([parts[0], *changed]))
    with pytest.raises(ValueError, match=r"chunk.h5: .*claims a chunk of 5120 bytes"):
        next(read_events(path))


@pytest.mark.parametrize("target", ["other.h5", "/etc/passwd", "pipe"])
def test_a_link_to_another_file_is_named_and_not_followed(tmp_path: Path, target: str) -> None:
    path = tmp_path / "link.h5"
    write_events(path, read_events(sample("test"), indices=[0]))
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "r+") as file:
        del file["point"]
        file["point"] = h5py.ExternalLink(target, "/point")
    with pytest.raises(ValueError, match=r"link.h5: 'point' is a link to another file"):
        open_events(path)
