"""Sinks of a run's records: metrics.jsonl, TensorBoard, the terminal, and the user's sinks and callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from asyncrl.monitor.callbacks import Callback, Callbacks, Evaluate, Save, Stop
from asyncrl.monitor.files import JsonLines, TensorBoard
from asyncrl.monitor.guarded import Guarded
from asyncrl.monitor.observers import Observers
from asyncrl.monitor.sink import Display, Durable, Record, Sink
from asyncrl.monitor.terminal import Live, Plain, Quiet, terminal_view

__all__ = [
    "Callback",
    "Callbacks",
    "Evaluate",
    "Guarded",
    "JsonLines",
    "Live",
    "Monitor",
    "Observers",
    "Plain",
    "Quiet",
    "Record",
    "Save",
    "Sink",
    "Stop",
    "TensorBoard",
    "terminal_view",
]


class Monitor:
    """Passes every record to every sink. If a sink raises OSError, the others get the record before it is raised."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._displays = [sink for sink in self._sinks if isinstance(sink, Display)]

    def write(self, record: Record) -> None:
        self._each(lambda sink: sink.write(record))

    def say(self, line: str) -> None:
        """Pass a message to every sink."""
        self._each(lambda sink: sink.say(line))

    def sync(self) -> None:
        """Write every record to disk (`Durable` sinks)."""
        self._each(lambda sink: sink.sync() if isinstance(sink, Durable) else None)

    def status(self, text: str) -> None:
        """Show what the run does while it does not learn; "" when it learns again (`Display` sinks)."""
        with contextlib.suppress(OSError):  # a display that fails must not stop the run
            for display in self._displays:
                display.status(text)

    @contextmanager
    def open(self) -> Iterator[Monitor]:
        """Close the sinks after the block. An error in the block takes precedence over one in closing."""
        try:
            yield self
        except BaseException:
            with contextlib.suppress(OSError):
                self._each(lambda sink: sink.close())
            raise
        self._each(lambda sink: sink.close())

    def _each(self, call: Callable[[Sink], None]) -> None:
        problems = []
        for sink in self._sinks:
            try:
                call(sink)
            except OSError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
