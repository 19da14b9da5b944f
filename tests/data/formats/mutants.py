"""Broken files of every format, and the process that reads them.

`python mutants.py FOLDER FIRST NAMES COUNT`: the process has 1 GB more than it starts with. It
prints a line before each mutant and one after, so that a crash or a hang belongs to one of them.
"""

from __future__ import annotations

import io
import lzma
import resource
import signal
import sys
import time
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from foreign import random_segments, voxels, write_csv, write_hits, write_parquet, write_segments
from pyarrow import parquet

from lartpc_ray.data.files import open_events, write_events
from lartpc_ray.data.formats.layout import ClassMap, Hits, Layout

FILES = Path(__file__).parents[1] / "files"
LAYOUT = Layout(side=768, classes=ClassMap(low_energy="unlabelled"))
FLAT = Layout(side=8192, hits=Hits(plane=2))
"""How the files of hits are read."""
ROOM = 2**30
"""Bytes that reading a mutant may take."""
SECONDS = 10
"""Of computing that it may take; ten times as many in all."""
ABSURD = [0, 1, 2**15, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


def write_bases(folder: Path) -> list[str]:
    """Write a sound file of every format and layout; give their names in order."""
    for name in FILES.iterdir():
        (folder / name.name).write_bytes(name.read_bytes())
    with open_events(FILES / "larcv2_5events.root", LAYOUT) as events:
        some = [events[n] for n in (0, 2, 4)]
    for version in ("v1", "v2", "v3"):
        write_events(folder / f"{version}.h5", some, version=version)
    for kind in ("contiguous", "packed"):
        with h5py.File(folder / "v3.h5") as old, h5py.File(folder / f"{kind}.h5", "w") as new:
            for name in old:
                how = {"chunks": (2,), "compression": "gzip", "shuffle": True}
                how = how if kind == "packed" else {}
                table = new.create_dataset(name, (len(some),), dtype=old[name].dtype, **how)
                for n in range(len(some)):
                    table[n] = old[name][n]
    write_foreign(folder)
    (folder / "v3.h5.xz").write_bytes(lzma.compress((folder / "v3.h5").read_bytes()))
    return sorted(path.name for path in folder.iterdir())


def write_foreign(folder: Path) -> None:
    """Write files of other programs: plain tables, segments, hits."""
    rng = np.random.default_rng(0)
    write_csv(folder / "table.csv", voxels())
    write_parquet(folder / "table.parquet", voxels(), rows=50)
    classes = np.array(["HIP", "MIP", "SHOWER"])[rng.integers(0, 3, 120)]
    write_parquet(folder / "named.parquet", voxels() | {"class": classes})
    steps = {event: random_segments(20, event) for event in (3, 4, 8)}
    write_segments(folder / "edep.h5", steps)
    write_segments(folder / "edep-old.h5", steps, old=True)
    ids = [(1, 2, event) for event in (3, 4, 5)]
    hits = {event: [(n % 3, 7 * n, 31.5 * n, 10.0 + n) for n in range(60)] for event in ids}
    below = {event: [(n, n % 9, 0.5) for n in range(50)] for event in ids}
    write_hits(folder / "hits.h5", hits, below)
    write_hits(folder / "hits-plain.h5", hits, below, counts=False)


def mutant(base: bytes, name: str, number: int) -> tuple[str, bytes]:
    """Damage a file: say how, and give the result; the same number gives the same damage.

    Numbers 0 to 99 cut it at so many per cent; then come by turns flipped bits, bytes, absurd
    counts anywhere and in the first 4 kB, and wrong types.
    """
    if number < 100:
        cut = base[: len(base) * number // 100]
        if name.endswith(".csv"):  # a text that is cut between two lines shows no damage
            cut = cut.rstrip(b"\n")
        return f"cut at {number} %", cut
    rng = np.random.default_rng([number, *name.encode()])
    data, kind = bytearray(base), number % 5
    reach = len(base) if number % 2 else min(len(base), 4096)
    place = int(rng.integers(reach - 8))
    if kind == 0:
        for _ in range(int(rng.integers(1, 20))):
            data[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
        return f"flipped bits, the first {reach}", bytes(data)
    if kind == 1:
        count = int(rng.integers(1, 64))
        data[place : place + count] = rng.bytes(count)
        return f"{count} bytes at {place}", bytes(data[: len(base)])
    if kind < 4:
        size, order = int(rng.choice([2, 4, 8])), str(rng.choice(["little", "big"]))
        value = int(rng.choice(len(ABSURD)))
        count = ABSURD[value] % 256**size
        place -= place % size if number % 3 else 0
        data[place : place + size] = count.to_bytes(size, order)
        return f"{count} at {place} ({size} bytes, {order})", bytes(data)
    return typed(base, name, rng)


def typed(base: bytes, name: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """Give the file an array of another type, or an absurd value in its counts."""
    if name.endswith(".root"):
        words = [
            word for word in (b"uint64_t", b"float", b"vector", b"larcv", b"_id") if word in base
        ]
        word = words[int(rng.integers(len(words)))] if words else base[:4]
        places = [n for n in range(len(base)) if base.startswith(word, n)]
        place = places[int(rng.integers(len(places)))]
        return f"{word!r} at {place}", base[:place] + b"?" * len(word) + base[place + len(word) :]
    if name.endswith(".npz"):
        return _typed_arrays(base, rng)
    if name.endswith(".csv"):
        return _typed_csv(base, rng)
    if name.endswith(".parquet"):
        return _typed_parquet(base, rng)
    plain = lzma.decompress(base) if name.endswith(".xz") else base
    what, changed = _typed_hdf5(plain, rng)
    return what, lzma.compress(changed) if name.endswith(".xz") else changed


KINDS = ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u4", "u8", "S7", "c8", "?"]


def _typed_arrays(base: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    with np.load(io.BytesIO(base)) as old:
        arrays = dict(old)
    name, kind = str(rng.choice(list(arrays))), str(rng.choice(KINDS))
    stream = io.BytesIO()
    if rng.random() < 0.5:
        arrays[name] = arrays[name].astype(kind)
        np.savez_compressed(stream, **arrays)
        return f"{name} as {kind}", stream.getvalue()
    shape = (int(rng.choice([10**6, 10**9, 2**40])), 3)
    with zipfile.ZipFile(stream, "w") as packed:
        for key, array in arrays.items():
            single = io.BytesIO()
            np.save(single, array)
            data = single.getvalue()
            if key == name:
                data = data.replace(str(array.shape).encode(), str(shape).encode())
            packed.writestr(f"{key}.npy", data)
    return f"{name} claims {shape}", stream.getvalue()


def _typed_csv(base: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Another value in a field of the table."""
    lines = [line.split(b",") for line in base.split(b"\n")]
    row = int(rng.integers(len(lines) - 1))
    column = int(rng.integers(len(lines[row])))
    odd = [b"", b"nan", b"-inf", b"1e400", b"0x10", b"1_0", b"\xff", b"\0", b"1,2", b"\n", b"-1"]
    value = [*odd, *(str(number).encode() for number in ABSURD)][
        int(rng.integers(len(odd) + len(ABSURD)))
    ]
    lines[row][column] = value
    return f"{value!r} in line {row + 1}, column {column}", b"\n".join(map(b",".join, lines))


def _typed_parquet(base: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Another type of a column, or an absurd value in it."""
    table = parquet.read_table(io.BytesIO(base)).to_pydict()
    name, stream = str(rng.choice(list(table))), io.BytesIO()
    kind = str(rng.choice(["f4", "f8", "i1", "i4", "i8", "u8", "S7", "U7", "?"]))
    values = np.array(table[name])
    if values.dtype.kind in "if" and rng.random() < 0.5:
        values = values.astype(float)
        values[int(rng.integers(len(values)))] = ABSURD[int(rng.integers(len(ABSURD)))]
        what = f"an absurd value in {name}"
    elif values.dtype.kind in "if" or kind in ("S7", "U7"):
        values, what = values.astype(kind), f"{name} as {kind}"
    else:
        what = "nothing"
    parquet.write_table(pa.table(table | {name: values}), stream)
    return what, stream.getvalue()


def _typed_hdf5(base: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One dataset of the file anew: of another type, or one of its numbers absurd."""
    stream = io.BytesIO(base)
    with h5py.File(stream, "r+") as file:
        tables: list[str] = []
        file.visititems(
            lambda key, one: tables.append(key) if isinstance(one, h5py.Dataset) else None
        )
        name = str(rng.choice(tables))
        old, kind = file[name], str(rng.choice(KINDS))
        rows = old[:]
        if rng.random() < 0.5:
            what = _absurd(file, name, rows, rng)
        else:
            what = f"{name} as {kind}"
            vlen = h5py.check_vlen_dtype(old.dtype)
            del file[name]
            if vlen is not None and kind not in ("S7", "c8", "?"):
                new = file.create_dataset(name, rows.shape, dtype=h5py.vlen_dtype(np.dtype(kind)))
                for n, row in enumerate(rows):
                    with np.errstate(all="ignore"):
                        new[n] = row.astype(kind)
            elif vlen is None and rows.ndim == 2:
                with np.errstate(all="ignore"):
                    file.create_dataset(name, data=rows.astype(kind))
            elif vlen is None and rows.dtype.names:
                field = str(rng.choice(rows.dtype.names))
                fields = [(f, kind if f == field else rows.dtype[f]) for f in rows.dtype.names]
                file.create_dataset(name, rows.shape, dtype=fields, chunks=(10,), maxshape=(None,))
            else:
                file.create_dataset(name, rows.shape, dtype=kind)
    return what, stream.getvalue()


def _absurd(file: h5py.File, name: str, rows: np.ndarray, rng: np.random.Generator) -> str:
    value = ABSURD[int(rng.integers(len(ABSURD)))]
    if rows.ndim == 2:
        place = int(rng.integers(rows.size))
        most = int(np.iinfo(rows.dtype).max) if rows.dtype.kind in "iu" else None
        rows.flat[place] = min(value, most) if most else float(value)
        file[name][...] = rows
        return f"{name}[{place}]: {value}"
    if h5py.check_vlen_dtype(rows.dtype) is not None or rows.dtype == object:
        row = rows[int(rng.integers(len(rows)))]
        if not len(row):
            return "nothing"
        place = int(rng.integers(len(rows)))
        changed = np.array(rows[place])
        with np.errstate(all="ignore"):
            whole = changed.dtype.kind in "iu"
            changed[int(rng.integers(len(changed)))] = value % 2**63 if whole else float(value)
        file[name][place] = changed
        return f"{name}[{place}]: {value}"
    field = str(rng.choice(rows.dtype.names or ()))
    place = int(rng.integers(len(rows)))
    limit = np.iinfo(rows.dtype[field].base) if rows.dtype[field].base.kind in "iu" else None
    rows[field][place] = min(value, int(limit.max)) if limit else float(value)
    file[name][...] = rows
    return f"{name}.{field}[{place}]: {value}"


def read(path: Path) -> str:
    """`read`, how many voxels and a sum of all there is; or `refused` and why."""
    voxels = total = 0
    try:
        with open_events(path, FLAT if "hits" in path.name else LAYOUT) as events:
            for event in events:
                voxels += len(event)
                for array in (event.coords, event.energy, event.semantic, event.cluster):
                    total = zlib.crc32(array.tobytes(), total)
    except ValueError as error:
        return f"refused {error!s}" if "\n" not in str(error) else f"lines {error!r}"
    except MemoryError:
        return "memory"
    return f"read {voxels} voxels, {total:08x}"


def serve(folder: Path, plan: list[tuple[str, int]], first: int) -> None:
    """Read the mutants from the first one on."""
    bases = {name: (folder / name).read_bytes() for name in {name for name, _ in plan}}
    for name in bases:  # what is loaded only once is no mutant's
        read(folder / name)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for place, (name, number) in list(enumerate(plan))[first:]:
        what, data = mutant(bases[name], name, number)
        path = folder / f"mutant-{name}"
        path.write_bytes(data)
        print(f"{place}\t{name}\t{number}\t{what}", flush=True)
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(10 * SECONDS)
        start = time.process_time()
        outcome = read(path)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(f"{outcome}\t{time.process_time() - start:.3f}", flush=True)


def plan_of(names: list[str], count: int) -> list[tuple[str, int]]:
    """`count` mutants, shared by the files as evenly as can be."""
    return [(name, number) for number in range(-(-count // len(names))) for name in names][:count]


def main(folder: str, first: str, names: str, count: str) -> None:
    serve(Path(folder), plan_of(names.split(","), int(count)), int(first))


if __name__ == "__main__":
    main(*sys.argv[1:])
