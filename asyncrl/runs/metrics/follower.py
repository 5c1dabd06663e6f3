"""Follows a metrics.jsonl while it grows. A file of 1 GB is read in seconds, because few of its episodes are parsed."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from asyncrl.monitor import Record
from asyncrl.runs.metrics.former_names import with_current_names
from asyncrl.runs.metrics.ranking import Ranking
from asyncrl.runs.metrics.series import Series

__all__ = ["MetricsFollower", "records_of"]

_CHUNK = 4 * 2**20
"""Bytes that are read at once. A line that is longer is skipped."""
_NOT_EPISODES = re.compile(rb'"kind": "(?!episode")')
_SAMPLE = 4096
"""Episodes that are kept as a sample, at least, of a run that has so many; up to twice as many are."""
_BYTES_PER_EPISODE = 160
"""An estimate, from above."""
_LATEST = 20
"""Newest episodes that are kept."""


class MetricsFollower:
    """The records of a metrics.jsonl so far; `read` adds what has been appended.

    All records are kept but those of episodes, of which there may be millions: the newest, the best, the worst, and a
    sample at equal distances in the file. A file that has become shorter or was replaced, as by a resumed run, is read
    again, and `generation` counts that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._begin(None)

    def _begin(self, identity: tuple[int, int] | None) -> None:
        self.series: dict[str, Series] = {}
        """By kind, episodes excepted."""
        self.sample = Series()
        """Episodes at equal distances."""
        self.latest: deque[Record] = deque(maxlen=_LATEST)
        """The newest episodes, oldest first."""
        self.ranking = Ranking()
        """The best and worst episodes."""
        self.position = 0
        """Bytes that have been read."""
        self.size = 0
        """Bytes of the file when it was last looked at."""
        self.has_unread = False
        """Whether `read` had no time for some complete lines."""
        self._ranked = 0
        self._identity = identity
        self._stride = 0
        self._next_sample = 0

    @property
    def is_behind(self) -> bool:
        """Whether `read` had no time to read or rank some complete lines."""
        return self.has_unread or self._ranked < self.position

    def read(self, seconds: float = 0.2) -> bool:
        """Read what was appended, for at most some `seconds`. Returns whether there was anything; a torn line is left.

        A missing file has no records. Raises OSError if the file cannot be read.
        """
        deadline = time.monotonic() + seconds
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # opening a pipe would wait for its writer
                raise OSError(errno.EINVAL, "not a plain file", str(self.path))
            with open(self.path, "rb") as file:
                return self._read(file, deadline)
        except FileNotFoundError:
            was_there = self._identity is not None
            if was_there:
                self.generation += 1
                self._begin(None)
            return was_there

    def _read(self, file: BinaryIO, deadline: float) -> bool:
        changed = self._look_at(file)
        self.has_unread = False
        while self.position < self.size and (taken := self._take(file)):
            self.position += taken
            changed = True
            if time.monotonic() >= deadline:
                self.has_unread = self.position < self.size
                break
        while not self.has_unread and self._ranked < self.position and time.monotonic() < deadline:
            file.seek(self._ranked)
            chunk = file.read(min(_CHUNK, self.position - self._ranked))
            end = chunk.rfind(b"\n") + 1 or len(chunk)
            changed |= self.ranking.add(chunk[:end])
            self._ranked += end
        return changed

    def _look_at(self, file: BinaryIO) -> bool:
        """Note the file's size. Returns whether it is another file, or has become shorter, and so is read again."""
        status = os.fstat(file.fileno())
        identity = status.st_dev, status.st_ino
        is_new = self._identity is not None and (identity != self._identity or status.st_size < self.position)
        if is_new:
            self.generation += 1
        if is_new or self._identity is None:
            self._begin(identity)
        self.size = status.st_size
        if not self.position and self.size > _SAMPLE * _BYTES_PER_EPISODE:
            self._stride = self.size // _SAMPLE
        return is_new

    def _take(self, file: BinaryIO) -> int:
        """Read the complete lines of a chunk. Returns their size in bytes."""
        file.seek(self.position)
        chunk = file.read(_CHUNK)
        end = chunk.rfind(b"\n") + 1
        if not end:
            return len(chunk) if len(chunk) == _CHUNK else 0
        chunk = chunk[:end]
        for match in _NOT_EPISODES.finditer(chunk):
            record = _parse(_line_at(chunk, match.start()))
            if record is not None and record["kind"] != "episode":
                self.series.setdefault(record["kind"], Series()).add(record)
        self._take_sample(chunk)
        self._take_latest(chunk)
        return end

    def _take_sample(self, chunk: bytes) -> None:
        """Add the episodes at equal distances."""
        begin = max(0, self._next_sample - self.position)
        while begin < len(chunk):
            start = begin if begin == 0 or not self._stride else chunk.find(b"\n", begin) + 1
            end = chunk.find(b"\n", start) if start or begin == 0 else -1
            if end < 0:
                break
            record = _parse(chunk[start:end])
            if record is not None and record["kind"] == "episode":
                self.sample.add(record)
            begin = max(begin + self._stride, end + 1)
        self._next_sample = self.position + max(begin, len(chunk))
        if len(self.sample) > 2 * _SAMPLE:
            self.sample.halve()
            self._stride = max(2 * self._stride, self.position // _SAMPLE)

    def _take_latest(self, chunk: bytes) -> None:
        """Set the newest episodes from the end of the chunk."""
        tail = chunk[-_LATEST * 1024 :].split(b"\n")
        found = [record for line in tail if b'"kind": "episode"' in line and (record := _parse(line)) is not None]
        self.latest.extend(found[-_LATEST:])


def records_of(path: Path, kind: str) -> Iterator[Record]:
    """The records of one kind in a metrics.jsonl. Other lines are not parsed; damaged ones are skipped.

    Raises OSError if the file cannot be read.
    """
    wanted = re.compile(b'"kind": ' + json.dumps(kind).encode())
    with open(path, "rb") as file:
        rest = b""
        while read := file.read(_CHUNK):
            chunk = rest + read
            end = chunk.rfind(b"\n") + 1
            for match in wanted.finditer(chunk, 0, end):
                record = _parse(_line_at(chunk, match.start()))
                if record is not None and record["kind"] == kind:
                    yield record
            rest = chunk[end:] if len(chunk) - end < _CHUNK else b""


def _line_at(chunk: bytes, position: int) -> bytes:
    return chunk[chunk.rfind(b"\n", 0, position) + 1 : chunk.find(b"\n", position)]


def _parse(line: bytes) -> Record | None:
    """The record of a line; None if it is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fits = isinstance(record, dict) and isinstance(record.get("kind"), str)
    fits = fits and all(isinstance(record.get(name), int) for name in ("step", "update"))
    return with_current_names(record) if fits else None
