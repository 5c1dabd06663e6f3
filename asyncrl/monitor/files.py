"""Sinks that write into the run folder."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from asyncrl.common.os_errors import attach_path
from asyncrl.common.serialization import json_text
from asyncrl.errors import UsageError
from asyncrl.monitor.events import EventFile
from asyncrl.monitor.sink import Record
from asyncrl.monitor.table import scalars

__all__ = ["JsonLines", "TensorBoard"]


class JsonLines:
    """metrics.jsonl, one object per line, and log.txt for messages; a resumed run appends to both.

    Raises OSError with the file's name if one cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        for file in (folder / "metrics.jsonl", folder / "log.txt"):
            if file.is_symlink():
                raise UsageError(f"{file} is a link, but a run writes only into its folder: replace it by a file")
            if file.exists() and not file.is_file():  # opening a pipe would wait for its reader
                raise UsageError(f"{file} is not a plain file; remove it")
        self._metrics = open(folder / "metrics.jsonl", "a", encoding="utf-8")
        self._log = open(folder / "log.txt", "a", encoding="utf-8", errors="backslashreplace")

    def write(self, record: Record) -> None:
        with attach_path(self._metrics.name):
            self._metrics.write(json_text(record) + "\n")
            if record["kind"] != "episode":
                self._metrics.flush()

    def say(self, line: str) -> None:
        with attach_path(self._log.name):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
            self._log.flush()

    def sync(self) -> None:
        with attach_path(self._metrics.name):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())

    def close(self) -> None:
        with contextlib.ExitStack() as both:
            for file in (self._log, self._metrics):
                both.enter_context(attach_path(file.name))
                both.callback(file.close)


class TensorBoard:
    """TensorBoard events; episodes become histograms. TensorBoard is imported with the first record: that is slow."""

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        """`resumed_at`: the step from which the run is resumed; later events of older files are ignored."""
        self._folder = folder / "tensorboard"
        self._purge_step = None if resumed_at is None else resumed_at + 1
        self._events: EventFile | None = None
        self._episodes: dict[str, list[float]] = {"return": [], "length": []}

    def write(self, record: Record) -> None:
        if record["kind"] == "episode":
            for name, values in self._episodes.items():
                values.append(record[name])
            return
        if self._events is None:
            self._events = EventFile(self._folder, self._purge_step)
        if record["kind"] == "video":
            self._events.add_image(record["step"], "eval/video", self._folder.parent / record["animation"])
        histograms = {f"episode/{name}": values for name, values in self._episodes.items() if values}
        self._events.add(record["step"], scalars(record), histograms)
        for values in self._episodes.values():
            values.clear()

    def say(self, line: str) -> None:
        pass

    def sync(self) -> None:
        if self._events is not None:
            self._events.sync()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
