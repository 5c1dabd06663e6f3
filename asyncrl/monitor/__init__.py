"""Where records go: a file of lines, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from asyncrl.monitor.files import JsonLines, TensorBoard
from asyncrl.monitor.sink import Display, Durable, Record, Sink
from asyncrl.monitor.terminal import Live, Plain, Quiet, terminal_view

__all__ = ["JsonLines", "Live", "Monitor", "Plain", "Quiet", "Record", "Sink", "TensorBoard", "terminal_view"]


class Monitor:
    """Hands every record to every sink; where one cannot write, to the others first, then its OSError is raised."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self._displays = [sink for sink in self._sinks if isinstance(sink, Display)]

    def write(self, record: Record) -> None:
        self._each(lambda sink: sink.write(record))

    def say(self, line: str) -> None:
        """A sentence for a person."""
        self._each(lambda sink: sink.say(line))

    def sync(self) -> None:
        """Have every record on disk, in sinks that keep them."""
        self._each(lambda sink: sink.sync() if isinstance(sink, Durable) else None)

    def status(self, text: str) -> None:
        """What the run is doing while it is not learning, for those who look on; "" where it is learning again."""
        with contextlib.suppress(OSError):  # whether it can be seen decides over nothing
            for display in self._displays:
                display.status(text)

    @contextmanager
    def open(self) -> Iterator[Monitor]:
        """All sinks, closed at the end in whatever way it comes; an error in the block goes before one in closing."""
        try:
            yield self
        except BaseException:
            with contextlib.suppress(OSError):
                self._each(lambda sink: sink.close())
            raise
        self._each(lambda sink: sink.close())

    def _each(self, tell: Callable[[Sink], None]) -> None:
        problems = []
        for sink in self._sinks:
            try:
                tell(sink)
            except OSError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
