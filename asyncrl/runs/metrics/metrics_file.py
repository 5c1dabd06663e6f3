"""Reads metrics.jsonl, whose lines may be damaged or torn."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from asyncrl.common.os_errors import attach_path, name_target
from asyncrl.common.serialization import sync_folder
from asyncrl.errors import DamageWarning
from asyncrl.monitor import Record
from asyncrl.runs.metrics.former_names import with_current_names

__all__ = ["read_records", "truncate"]

_REQUIRED: dict[str, dict[str, type]] = {
    "episode": {"return": float, "length": int, "actor": int},
    "eval": {"mean": float},
}
"""Fields by kind of record that resuming a run relies on, in addition to `step`, `update` and `kind`."""
_LONGEST_LINE = 16 * 2**20
"""Bytes of a line that are read."""
_MAX_PIECES = 8
"""A line longer than this many times `_LONGEST_LINE` ends the file."""


def read_records(path: Path, kinds: Collection[str] = (), *, most: int | None = None) -> list[Record]:
    """The records of a metrics.jsonl, of these `kinds` or of all; [] if the file is missing.

    Lines of other kinds are not parsed. With `most`, every n-th record is read so that there are at most that many, spread
    over the whole file. Damaged lines are skipped with a DamageWarning, a torn last one without.
    """
    every = 1 if most is None else max(1, -(-_count(path, kinds) // most))
    return [record for _, record in _read(path, kinds, every)]


def truncate(path: Path, update: int) -> None:
    """Drop the records after `update`. No sink may have the file open."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with attach_path(path), name_target(path, temporary):
            temporary.unlink(missing_ok=True)  # left by a crash; nothing is written through a link
            with open(temporary, "xb") as file:
                for line, record in _read(path):
                    if record["update"] <= update:
                        file.write(line.rstrip(b"\n") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # a full disk needs the space
        raise
    sync_folder(path.parent)


def _count(path: Path, kinds: Collection[str]) -> int:
    """The number of lines of these kinds."""
    if not path.is_file():
        return 0
    with open(path, "rb") as file:
        return sum(1 for _ in _of_kinds(file, kinds))


def _of_kinds(file: BinaryIO, kinds: Collection[str]) -> Iterator[bytes]:
    """The lines whose records are of these `kinds`, or all."""
    marks = [f'"kind": "{kind}"'.encode() for kind in kinds]
    return (line for line in _lines(file) if not marks or any(mark in line for mark in marks))


def _read(path: Path, kinds: Collection[str] = (), every: int = 1) -> Iterator[tuple[bytes, Record]]:
    """Each valid line and its record; `every` n-th one of these `kinds`."""
    damaged = 0
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in itertools.islice(_of_kinds(file, kinds), 0, None, every):
            record = _parse(line)
            if record is not None:
                yield line, record
            elif line.endswith(b"\n"):
                damaged += 1
    if damaged:
        lines = "1 damaged line, which is" if damaged == 1 else f"{damaged:,} damaged lines, which are"
        warnings.warn(f"{path} has {lines} ignored", DamageWarning, stacklevel=3)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; the beginning of a line that is too long. A line without an end is the last."""
    while line := file.readline(_LONGEST_LINE):
        rest, pieces = line, 1
        while rest and not rest.endswith(b"\n"):
            if pieces == _MAX_PIECES:
                return
            rest, pieces = file.readline(_LONGEST_LINE), pieces + 1
        yield line if rest is line else line[:80] + rest[-1:]


def _parse(line: bytes) -> Record | None:
    """The record of a line; None if it is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields: dict[str, type] = {"step": int, "update": int, "kind": str} | _REQUIRED.get(str(found.get("kind")), {})
    return with_current_names(found) if all(_is_a(kind, found.get(name)) for name, kind in fields.items()) else None


def _is_a(kind: type, value: object) -> bool:
    """Whether a value is a string, a count, or a finite number, as `kind` is str, int or float."""
    if kind is str or isinstance(value, bool):
        return kind is str and isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and 0 <= value < 2**63
    return isinstance(value, int | float) and abs(value) < math.inf
