"""Read YAML that a user writes: JSON values only, with bounded work.

This module reads the plain part of YAML 1.2 (its core schema): mappings with text keys, lists,
text, finite numbers, true, false and null. Tags and a second document are errors; a date is text.
Anchors and merge keys (`<<`) are allowed while the expanded file has at most `MAX_VALUES` values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lartpc_ray.atomic import name_in_errors
from lartpc_ray.terminal.text import error_text

MAX_BYTES = 100_000
"""Size of the largest file; the largest file of the package has 9 kB."""
MAX_VALUES = 20_000
"""Values of a file after its aliases are expanded; 100 characters of text count as a value."""
MAX_DEPTH = 30
"""Mappings and lists inside each other."""
CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
PLAIN_TAGS = (None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str")))


@dataclass(frozen=True)
class YamlFile:
    """The content of a YAML file.

    Attributes:
        path: of the file.
        content: its keys and values.
        lines: dotted key to its line.
        kept: whether a study has begun with it: what only a new study refuses is read.
    """

    path: Path
    content: dict[str, Any]
    lines: dict[str, int]
    kept: bool = field(default=False, kw_only=True)

    def position(self, key: str) -> str:
        """Return file, line and key for an error; inside an alias the line of the alias."""
        parent = key
        while parent and parent not in self.lines:
            parent = parent.rpartition(".")[0]
        return f"{self.path}:{self.lines[parent]}: {key}" if parent else f"{self.path}: {key}"


def read_yaml(path: Path) -> YamlFile:
    """Read a file that holds a mapping.

    Raises:
        ValueError: in one line: file, line and reason.
    """
    return parse_yaml(path, read_file(path))


def read_file(path: Path) -> bytes:
    """Return the content of a small regular file.

    Raises:
        ValueError: for a folder, a pipe or a device.
        OSError: with the name of the file, if its disk fails.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: a folder, pipe or device; give a YAML file")
    with name_in_errors(path), path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def parse_yaml(path: Path, content: bytes) -> YamlFile:
    """Parse the content of a file that holds a mapping.

    Raises:
        ValueError: in one line: file, line and reason.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    reader = _Reader(str(path))
    value = reader.read(text)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must be a mapping, as in `key: value`")
    return YamlFile(path, value, reader.lines)


def parse_value(text: str, source: str) -> Any:
    """Parse a value.

    Args:
        text: YAML.
        source: name of the value for errors.

    Raises:
        ValueError: in one line: source and reason.

    Example:
        >>> parse_value("[1, 1e-3, bce]", "--set")
        [1, 0.001, 'bce']
    """
    return _Reader(source, one_line=True).read(text)


@dataclass
class _Reader:
    """Build the value of a document from PyYAML's events.

    Attributes:
        source: name of the text for errors.
        one_line: leave the line out of errors.
        lines: dotted key to its line.
        anchors: name to value and its number of values; None inside the anchored value itself.
        values: number of values so far, with each alias expanded.
    """

    source: str
    one_line: bool = False
    lines: dict[str, int] = field(default_factory=dict)
    anchors: dict[str, tuple[Any, int] | None] = field(default_factory=dict)
    values: int = 0

    def read(self, text: str) -> Any:
        """Return the value of the only document; None if the text is empty."""
        if len(text) > MAX_BYTES:
            raise ValueError(f"{self.source}: longer than {MAX_BYTES:,} characters")
        events = yaml.parse(text, Loader=yaml.SafeLoader)  # a generator: it reads as far as asked
        try:
            next(events)
            if isinstance(next(events), yaml.StreamEndEvent):
                return None
            value = self._value(events, next(events), "", 0)
            next(events)
            if not isinstance(further := next(events), yaml.StreamEndEvent):
                raise self._error(further, "a second document (---); keep one")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = error.problem or error.context
            raise self._error_at(mark.line if mark else 0, f"not YAML: {reason}") from None
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n")
            raise self._error_at(line, f"not YAML: character {text[error.position]!a}") from None
        return value

    def _value(self, events: Iterator[Any], event: Any, key: str, depth: int) -> Any:
        """Return the value that starts with an event.

        Args:
            events: the further events.
            event: the first event of the value.
            key: dotted key of the value.
            depth: number of mappings and lists around it.
        """
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event)
        start = self.values
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise self._error(event, f"more than {MAX_DEPTH} brackets or indents in each other")
        if event.tag not in PLAIN_TAGS:
            raise self._error(event, f"tag {event.tag}: write the value without a tag")
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            value: Any = self._mapping(events, key, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(events, key, depth)
        else:
            value = self._scalar(event, key)
        if event.anchor:
            self.anchors[event.anchor] = value, self.values - start
        return value

    def _mapping(self, events: Iterator[Any], key: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            name = self._key(event)
            dotted = f"{key}.{name}" if key else name
            line = event.start_mark.line + 1
            if name in mapping:
                raise self._error(event, f"{dotted}: given twice (also line {self.lines[dotted]})")
            value = self._value(events, next(events), dotted, depth + 1)
            if name == "<<":
                merged |= self._merge(event, value)
                for added in merged:
                    self.lines.setdefault(f"{key}.{added}" if key else added, line)
            else:
                mapping[name] = value
                self.lines[dotted] = line
        return merged | mapping

    def _list(self, events: Iterator[Any], key: str, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            values.append(self._value(events, event, f"{key}.{len(values)}", depth + 1))
        return values

    def _scalar(self, event: Any, key: str) -> Any:
        """Return the value of a scalar; text in quotes stays text."""
        text = event.value
        self._count(event, len(text) // 100)
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise self._error(event, f"{text[:40]!a}: half a character; write UTF-8 text")
        if event.style is not None or event.tag:
            return text
        if text.lower() in CONSTANTS:
            return CONSTANTS[text.lower()]
        whole = INTEGER.fullmatch(text)
        if not (whole or FLOAT.fullmatch(text) or NOT_FINITE.fullmatch(text)):
            return text
        number = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        if whole and abs(number) < 2**63:
            return int(text)
        if math.isfinite(number) and not whole:
            return number
        reason = "a whole number beyond 64 bits" if whole else "not a finite number"
        raise self._error(event, f"{key}: {text[:40]}: {reason}".removeprefix(": "))

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key must be text, not a mapping, a list or an alias")
        self._count(event, 1)
        name = self._scalar(event, "")
        if not isinstance(name, str):
            raise self._error(event, f"key {event.value or 'null'}: a key must be text")
        if len(name) > 200:
            raise self._error(event, f"a key of {len(name)} characters")
        return name

    def _repeat(self, event: Any) -> Any:
        """Return the value of an alias."""
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            inside = event.anchor in self.anchors
            reason = "an alias inside its own value" if inside else "no anchor of this name before"
            raise self._error(event, f"*{event.anchor}: {reason}")
        value, count = anchored
        self._count(event, count)
        return value

    def _merge(self, event: Any, value: Any) -> dict[str, Any]:
        """Return the keys that `<<` adds: of a mapping, or of several, the first before others."""
        merged: dict[str, Any] = {}
        for mapping in reversed(value if isinstance(value, list) else [value]):
            if not isinstance(mapping, dict):
                raise self._error(event, "<<: takes a mapping, or a list of mappings")
            merged |= mapping
        return merged

    def _count(self, event: Any, values: int) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            raise self._error(event, f"more than {MAX_VALUES:,} values with its aliases")

    def _error(self, event: Any, reason: str) -> ValueError:
        return self._error_at(event.start_mark.line, reason)

    def _error_at(self, line: int, reason: str) -> ValueError:
        source = self.source if self.one_line else f"{self.source}:{line + 1}"
        return ValueError(f"{source}: {error_text(reason)}")
