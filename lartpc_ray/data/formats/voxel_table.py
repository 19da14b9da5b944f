"""Read a plain table, CSV or Parquet, with one row per voxel.

Columns, in any order: event, x, y, z, energy [MeV]; optional class (0 to 4, -1, a name, or no
value) and cluster (-1 none). A table of 2D images has wire and tick instead of x, y, z, and
optional plane. Other columns are left out. The rows of an event are together. A table without
class and cluster gives events without truth.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lartpc_ray.data.classes import NO_CLASS, ParticleClass
from lartpc_ray.data.event import Event
from lartpc_ray.data.formats.hdf5_tables import group_rows, repeated
from lartpc_ray.data.formats.layout import Layout
from lartpc_ray.data.formats.source import (
    FLAT_SIDES,
    MAX_EVENT_VOXELS,
    SIDES,
    EventSource,
    check_count,
    find_side,
    list_names,
    locate_errors,
)
from lartpc_ray.terminal.command import log

AXES = {3: ("x", "y", "z"), 2: ("wire", "tick")}
"""Columns of the position by the dimension of the image."""
TRUTH = ("class", "cluster")
SEPARATORS = (",", "\t", ";")
MAX_LINE_BYTES = 4096
CUT_SHORT = "does not end: the file is cut short, or lacks a newline at the end"
MAX_EVENT_BYTES = 2**27
MAX_GROUP_BYTES = 2**28
"""Unpacked size of a row group of Parquet."""
LINES = 10_000
"""Lines that are parsed at once."""
MAX_SIDE_EVENTS = 200
ADVICE = {"event": "give a whole number (int64)", "class": "give -1 to 4, or names of classes"}
NO_CLASSES = "no column class: the column cluster is not used, as a cluster is one of a class"
NOT_2D = "layout.hits.plane is set, but this table has x, y, z; set no plane"
NEEDS_PLANE = (
    "a table of wires and ticks has 2D images: give the plane (--plane 0; "
    "data.splits.layout.hits.plane)"
)
Column = np.ndarray
"""Numbers, or texts (class names) as objects."""


class VoxelTable(EventSource):
    """Random access to the events of a plain table; see `CsvTable` and `ParquetTable`."""

    starts: np.ndarray

    def _choose(self, names: list[str]) -> None:
        """Choose the columns to read from those that there are."""
        axes = next((axes for axes in AXES.values() if set(axes) <= set(names)), None)
        missing = [name for name in ("event", "energy") if name not in names]
        if axes is None or missing:
            raise ValueError(
                f"columns {list_names(names)}: give event, energy, and x, y, z or wire, tick"
            )
        if (len(axes) == 2) != (self.layout.hits.plane is not None):
            raise ValueError(NEEDS_PLANE if len(axes) == 2 else NOT_2D)
        self.axes = axes
        planes = ["plane"] if len(axes) == 2 and "plane" in names else []
        optional = [name for name in TRUTH if name in names]
        self.columns = [*axes, "energy", *optional, *planes]
        self.limits = NO_CLASSES if optional == ["cluster"] else ""
        twice = {name for name in ["event", *self.columns] if names.count(name) > 1}
        if twice:
            raise ValueError(f"two columns {list_names(twice)}; give one of each name")

    def _find_side(self) -> None:
        step = -(-len(self) // MAX_SIDE_EVENTS) or 1
        sides = SIDES if len(self.axes) == 3 else FLAT_SIDES
        coords = (self._coords(index) for index in range(0, len(self), step))
        self.layout = self.layout.model_copy(update={"side": find_side(coords, sides)})
        if self.limits:
            log.info(f"{self.path}: {self.limits}")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def _event(self, index: int) -> Event:
        rows, coords, place = self._rows_of(index)
        side = self.layout.side
        advice = f"outside the image of {side} voxels; give the side (--side, or layout.side)"
        for axis, name in enumerate(self.axes):
            self._refuse(coords[:, axis] >= side, name, rows[name], place, advice)
        energy = rows["energy"]
        wrong = ~((energy >= 0) & (energy <= np.finfo(np.float32).max))
        self._refuse(wrong, "energy", energy, place, "give a finite number, not negative")
        semantic = np.full(len(energy), NO_CLASS)
        if "class" in rows:
            semantic = self._classes(rows["class"], place)
        cluster = np.full(len(energy), -1, np.int64)
        if "cluster" in rows:
            cluster = self._whole(rows["cluster"], "cluster", place, low=-1)
        kept = np.ones(len(energy), bool)
        return self._make_event(
            coords, energy, (side,) * len(self.axes), semantic.astype(np.int32), cluster, kept
        )

    def _rows_of(self, index: int) -> tuple[dict[str, Column], np.ndarray, np.ndarray]:
        """Return the columns of an event in its plane, the positions, and the rows in the file."""
        first, last = int(self.starts[index]), int(self.starts[index + 1])
        if last - first > MAX_EVENT_VOXELS:
            raise ValueError(f"{last - first} rows of one event; at most {MAX_EVENT_VOXELS}")
        rows, place = self._read(index, first, last), np.arange(first, last)
        if "plane" in rows:
            plane = self._whole(rows["plane"], "plane", place, low=0)
            chosen = plane == self.layout.hits.plane
            rows, place = {name: rows[name][chosen] for name in rows}, place[chosen]
        axes = [self._whole(rows[name], name, place, low=0) for name in self.axes]
        return rows, np.stack(axes, axis=1).astype(np.int32), place

    def _coords(self, index: int) -> np.ndarray:
        with locate_errors(f"event {index}"):
            return self._rows_of(index)[1]

    def _whole(self, values: Column, name: str, place: np.ndarray, *, low: int) -> np.ndarray:
        """Return whole numbers from `low` on, below 2**30, of clusters below 2**31."""
        values = values.astype(np.float64)
        power = 31 if name == "cluster" else 30
        wrong = ~((values >= low) & (values < 2**power) & (values == np.floor(values)))
        self._refuse(wrong, name, values, place, f"give a whole number, {low} to 2**{power} - 1")
        return values.astype(np.int64)

    def _classes(self, values: Column, place: np.ndarray) -> np.ndarray:
        """Return classes as numbers, from numbers or names; no value is an unknown class."""
        if values.dtype == object:
            known = dict.fromkeys(("", "NA", "nan"), float(NO_CLASS))
            known |= {particle.name: float(particle) for particle in ParticleClass}
            texts = ["" if value is None else str(value).strip().strip('"') for value in values]
            values = np.array([known.get(text, _number(text)) for text in texts])
            shown: np.ndarray = np.array(texts, object)
        else:
            shown = values = np.nan_to_num(values.astype(np.float64), nan=NO_CLASS)
        wrong = ~np.isin(values, [NO_CLASS, *ParticleClass])
        names = ", ".join(ParticleClass.__members__)
        self._refuse(wrong, "class", shown, place, f"give -1 to 4, or {names}")
        return values.astype(np.int64)

    def _refuse(
        self, wrong: np.ndarray, name: str, values: np.ndarray, place: np.ndarray, advice: str
    ) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            value = values[row]
            shown = f"{value:g}" if isinstance(value, float) else f"{value!s}"[:80]
            raise ValueError(f"{self._name(int(place[row]))}, column {name}: {shown}: {advice}")

    @abstractmethod
    def _read(self, index: int, first: int, last: int) -> dict[str, Column]:
        """Read the columns of the rows `first` to `last` - 1, those of an event."""

    @abstractmethod
    def _name(self, row: int) -> str:
        """Name a row as its file counts them."""


class CsvTable(VoxelTable):
    """A CSV table with a header; the separator is a comma, a tab or a semicolon.

    The file is read once to find the events; then only the lines of an event are read.
    """

    def __init__(self, path: Path, layout: Layout, *, from_voxels: bool = False) -> None:
        self.path, self.layout = path, layout
        self._file = path.open("rb")
        with locate_errors(path):
            self._header = self._file.readline(MAX_LINE_BYTES)
            self._separator, self._names = split_header(self._header)
            self._choose(self._names)
            self._find_events()
            check_count(len(self), self._file.seek(0, 2))
            if from_voxels:
                self._find_side()
        self.kind = f"CSV table of {'voxels' if len(self.axes) == 3 else 'wires and ticks'}"

    def _find_events(self) -> None:
        """Find the first line and the first byte of each event."""
        column, separator = self._names.index("event"), self._separator
        if not self._header.endswith(b"\n"):
            raise ValueError(f"the header {CUT_SHORT}")
        offset, row, last = len(self._header), 0, b""
        offsets: list[int] = []
        rows: list[int] = []
        numbers: list[int] = []
        while line := self._file.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n"):
                long = len(line) == MAX_LINE_BYTES
                why = f"is longer than {MAX_LINE_BYTES} bytes" if long else CUT_SHORT
                raise ValueError(f"{self._name(row)} {why}")
            parts = line.split(separator, column + 1)
            event = parts[column].strip() if len(parts) > column else b""
            if event != last or not offsets:
                if not line.strip() and not self._file.read(1):
                    break  # an empty line at the end
                numbers.append(self._event_number(event, row))
                offsets.append(offset)
                rows.append(row)
                last = event
            offset, row = offset + len(line), row + 1
        self._offsets = np.array([*offsets, offset], np.int64)
        self.starts = np.array([*rows, row], np.int64)
        again = np.flatnonzero(repeated(np.array(numbers, np.int64)))
        if len(again):
            event = numbers[again[0]]
            raise ValueError(
                f"{self._name(rows[again[0]])}: event {event} begins again; sort the rows by event"
            )

    def _event_number(self, text: bytes, row: int) -> int:
        value = _number(decoded := text.decode("ascii", "replace"))
        large = int(decoded) if decoded.lstrip("+-").isdecimal() else 2**63
        number = int(value) if abs(value) < 2**53 and value == np.floor(value) else large
        if not -(2**63) <= number < 2**63:
            shown = ascii(decoded)[:80]
            raise ValueError(f"{self._name(row)}, column event: {shown}: {ADVICE['event']}")
        return number

    def _read(self, index: int, first: int, last: int) -> dict[str, Column]:
        begin, end = int(self._offsets[index]), int(self._offsets[index + 1])
        if end - begin > MAX_EVENT_BYTES:
            raise ValueError(f"{end - begin} bytes of one event; at most {MAX_EVENT_BYTES}")
        lines = os.pread(self._file.fileno(), end - begin, begin).removesuffix(b"\n").split(b"\n")
        pieces = [self._parse(lines[n : n + LINES], first + n) for n in range(0, len(lines), LINES)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.columns}

    def _parse(self, lines: list[bytes], first: int) -> dict[str, Column]:
        rows = [line.split(self._separator) for line in lines]
        for row, fields in enumerate(rows):
            if len(fields) != len(self._names):
                raise ValueError(
                    f"{self._name(first + row)} has {len(fields)} values, the header "
                    f"{len(self._names)}"
                )
        columns = dict(zip(self._names, zip(*rows, strict=True), strict=False))
        return {name: self._numbers(name, columns[name], first) for name in self.columns}

    def _numbers(self, name: str, texts: tuple[bytes, ...], first: int) -> Column:
        if name == "class":
            return np.array([text.decode("ascii", "replace") for text in texts], object)
        try:
            return np.array(texts, "S").astype(np.float64)
        except ValueError:
            decoded = [text.decode("ascii", "replace") for text in texts]
            wrong = [n for n, text in enumerate(decoded) if not _is_number(text)]
            row = wrong[0] if wrong else 0
            shown = ascii(decoded[row].strip())[:80]
            raise ValueError(
                f"{self._name(first + row)}, column {name}: {shown}: give a number"
            ) from None

    def _name(self, row: int) -> str:
        return f"line {row + 2}"

    def close(self) -> None:
        self._file.close()


class ParquetTable(VoxelTable):
    """A Parquet table; one row group is in memory at a time.

    Raises:
        ValueError: also for a row group of more than 4,000,000 rows or 256 MiB.
    """

    def __init__(self, path: Path, layout: Layout, *, from_voxels: bool = False) -> None:
        from pyarrow.parquet import ParquetFile

        self.path, self.layout = path, layout
        with locate_errors(path):
            self._file = ParquetFile(path, pre_buffer=False)
            if "class" in self._file.schema_arrow.names:  # texts are kept once each
                self._file.close()
                self._file = ParquetFile(path, pre_buffer=False, read_dictionary=["class"])
            self._check_types()
            _, self.starts = group_rows(self._event_numbers(), "table")
            check_count(len(self), path.stat().st_size)
            if from_voxels:
                self._find_side()
        self.kind = f"Parquet table of {'voxels' if len(self.axes) == 3 else 'wires and ticks'}"

    def _check_types(self) -> None:
        from pyarrow import types

        schema = self._file.schema_arrow
        self._choose(schema.names)
        for name in ("event", *self.columns):
            kind = schema.field(name).type
            named = name == "class" and types.is_dictionary(kind)
            number = types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)
            if not named and not number:
                advice = ADVICE.get(name, "give numbers")
                raise ValueError(f"column {name} holds {kind}; {advice}"[:200])
        self._groups = [0]
        for number in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(number)
            if not (
                0 <= group.num_rows <= MAX_EVENT_VOXELS and group.total_byte_size <= MAX_GROUP_BYTES
            ):
                raise ValueError(
                    f"row group {number} has {group.num_rows} rows, {group.total_byte_size} bytes; "
                    f"write at most {MAX_EVENT_VOXELS} rows a group (row_group_size)"
                )
            self._groups.append(self._groups[-1] + group.num_rows)
        self._group: tuple[int, dict[str, Column]] = (-1, {})

    def _event_numbers(self) -> Iterator[np.ndarray]:
        for number in range(self._file.num_row_groups):
            values = self._read_group(number, ["event"])["event"]
            if values.dtype.kind == "f":
                wrong = ~((np.abs(values) < 2**53) & (values == np.floor(values)))
                place = self._groups[number] + np.arange(len(values))
                self._refuse(wrong, "event", values, place, ADVICE["event"])
            yield values

    def _read(self, index: int, first: int, last: int) -> dict[str, Column]:
        low = int(np.searchsorted(self._groups, first, side="right")) - 1
        high = int(np.searchsorted(self._groups, last, side="left"))
        pieces = []
        for number in range(low, high):
            known, columns = self._group
            if known != number:
                columns = self._read_group(number, self.columns)
                self._group = (number, columns)
            start = self._groups[number]
            part = slice(max(first - start, 0), last - start)
            pieces.append({name: column[part] for name, column in columns.items()})
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.columns}

    def _read_group(self, number: int, names: list[str]) -> dict[str, Column]:
        try:
            table = self._file.read_row_group(number, columns=names, use_threads=False)
        except MemoryError as error:  # a broken page claims any size
            raise ValueError(
                f"row group {number} needs more memory than there is, or is broken"
            ) from error
        start = self._groups[number]
        if table.num_rows != self._groups[number + 1] - start:
            raise ValueError(f"row group {number} has {table.num_rows} rows; the file is broken")
        return {name: self._numbers(name, table.column(name), start) for name in names}

    def _numbers(self, name: str, column: Any, start: int) -> Column:
        if column.null_count and name != "class":
            row = int(np.argmax(np.asarray(column.is_null())))
            raise ValueError(f"{self._name(start + row)}, column {name}: no value; give a number")
        if column.null_count and hasattr(column.type, "value_type"):  # else the last text
            column = column.cast(column.type.value_type)
        values: Column = column.to_numpy()
        return values if name == "event" or values.dtype == object else values.astype(np.float64)

    def _name(self, row: int) -> str:
        return f"row {row}"

    def close(self) -> None:
        self._file.close()


def split_header(line: bytes) -> tuple[bytes, list[str]]:
    r"""Return the separator and the names of the columns of a header; nothing if it is none.

    Example:
        >>> split_header(b"event,x,y,z,energy\n")
        (b',', ['event', 'x', 'y', 'z', 'energy'])
    """
    text = line.removeprefix(b"\xef\xbb\xbf").decode("ascii", "replace").strip()
    separator = next((one for one in SEPARATORS if one in text), ",")
    return separator.encode(), [name.strip().strip('"') for name in text.split(separator)]


def is_csv(path: Path) -> bool:
    """Return whether a file begins with the header of a table of voxels, or is named .csv."""
    if path.suffix.lower() == ".csv":
        return True
    with path.open("rb") as file:
        _, names = split_header(file.readline(MAX_LINE_BYTES))
    return "event" in names or {"x", "energy"} <= set(names)


def _is_number(text: str) -> bool:
    return not np.isnan(_number(text)) or text.strip().lower().lstrip("+-") == "nan"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
