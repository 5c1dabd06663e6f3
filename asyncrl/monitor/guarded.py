"""The user's sinks, whose exceptions do not stop training."""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import Any

from asyncrl.errors import SinkWarning, UsageError
from asyncrl.monitor.callbacks import name_of
from asyncrl.monitor.sink import Record, Sink

__all__ = ["Guarded", "warn"]


def warn(sentence: str) -> None:
    """Give a SinkWarning, which never becomes an exception."""
    with contextlib.suppress(SinkWarning):  # raised if the user's filters turn warnings into errors
        warnings.warn(sentence, SinkWarning, stacklevel=2)


class Guarded:
    """Passes copies of the records to a sink. Once that raises, a SinkWarning names it and it gets nothing more.

    `close` does nothing, because a run that rewinds keeps its sinks; `finish` closes the sink.
    """

    def __init__(self, sink: Sink) -> None:
        if not callable(getattr(sink, "write", None)) or isinstance(sink, type):
            raise UsageError(f"a sink is an object with the method write(record), not {sink!r:.80}")
        self._sink: Sink | None = sink

    def write(self, record: Record) -> None:
        self._call("write", copy.deepcopy(record))

    def say(self, line: str) -> None:
        self._call("say", line)

    def close(self) -> None:
        pass

    def finish(self) -> None:
        """Close the sink."""
        self._call("close")

    def _call(self, method: str, *arguments: Any) -> None:
        sink = self._sink
        function = getattr(sink, method, None)  # `say` and `close` may be missing
        if sink is None or function is None:
            return
        try:
            function(*arguments)
        except Exception as problem:
            self._sink = None
            warn(f"the sink {name_of(sink)} raised {type(problem).__name__}: {problem}; it gets no more records")
