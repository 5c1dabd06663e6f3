"""TOML files with the lines of their tables and keys, for messages that name the line."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asyncrl.errors import UsageError

__all__ = ["Lines", "at_line", "line_of", "lines_of", "parse_toml"]

Lines = Mapping[tuple[str, ...], int]
"""Line numbers by the path of a table or key."""

_HEADER = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]+\s*(?:#.*)?")
_KEY = re.compile(r"""\s*([\w."'\s/:-]+?)\s*=""")
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^."']+))\s*(?:\.|$)""")


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError with file and line if it cannot be parsed."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))  # a mark that some editors of Windows begin files with
    except tomllib.TOMLDecodeError as problem:
        what, _, where = str(problem).rstrip(")").rpartition(" (at ")
        where = where.replace("end of document", f"line {len(text.splitlines())}, at the end of the file")
        raise UsageError(f"{path}, {where}: {what[:1].lower()}{what[1:]}") from None


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table and each key."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _parts(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key[1])), number)
    return found


def line_of(key: tuple[str, ...], lines: Lines) -> int:
    """The line of a key, or of the table that it is in if that is written in braces."""
    return next((lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in lines), 1)


@contextlib.contextmanager
def at_line(path: Path, line: int) -> Iterator[None]:
    """Add file and line to a UsageError."""
    try:
        yield
    except UsageError as problem:
        raise UsageError(f"{path}, line {line}: {problem}") from None


def _parts(dotted: str) -> tuple[str, ...]:
    """The parts of a dotted key, quoted ones without their quotes."""
    return tuple((double or single or bare).strip() for double, single, bare in _PART.findall(dotted))
