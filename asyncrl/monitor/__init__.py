"""Where records go: a file of lines, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from asyncrl.monitor.files import JsonLines, TensorBoard
from asyncrl.monitor.sink import Display, Durable, Sink
from asyncrl.monitor.terminal import Live, Plain, Quiet, terminal_view
from asyncrl.statistics import Record

__all__ = ["JsonLines", "Live", "Monitor", "Plain", "Quiet", "Sink", "TensorBoard", "terminal_view"]


class Monitor:
    """Hands every record to every sink."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._displays = [sink for sink in self._sinks if isinstance(sink, Display)]

    def write(self, record: Record) -> None:
        for sink in self._sinks:
            sink.write(record)

    def say(self, line: str) -> None:
        """A sentence for a person."""
        for sink in self._sinks:
            sink.say(line)

    def sync(self) -> None:
        """Have every record on disk, in sinks that keep them."""
        for sink in self._sinks:
            if isinstance(sink, Durable):
                sink.sync()

    def status(self, text: str) -> None:
        """What the run is doing while it is not learning, for those who look on; "" where it is learning again."""
        for display in self._displays:
            display.status(text)

    @contextmanager
    def open(self) -> Iterator[Monitor]:
        """All sinks, closed at the end in whatever way it comes."""
        with contextlib.ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)
            yield self
