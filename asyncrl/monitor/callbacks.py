"""Callbacks: the user's functions, which see every record after an update and may ask the run for something."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncrl.errors import UsageError
from asyncrl.monitor.sink import Record

__all__ = ["Callback", "Callbacks", "Evaluate", "Request", "Save", "Stop", "name_of"]


@dataclass(frozen=True)
class Stop:
    """Asks a run to end after this update, as if it had taken all its steps."""

    reason: str
    """Recorded in metrics.jsonl, printed, and `Run.stopped_because` from then on."""


@dataclass(frozen=True)
class Evaluate:
    """Asks for an evaluation of the weights after this update."""


@dataclass(frozen=True)
class Save:
    """Asks for a checkpoint after this update."""


Request = Stop | Evaluate | Save
Callback = Callable[[Record], Request | None]
"""Called with each record of metrics.jsonl, in order; the record is a copy."""


class Callbacks:
    """A sink that keeps the records of an update until `next_request` passes them to the callbacks."""

    def __init__(self, functions: Sequence[Callback]) -> None:
        for function in functions:
            if not callable(function) or isinstance(function, type):
                raise UsageError(f"a callback is a function of a record, or an object with __call__, not {function!r:.80}")
        self._functions = tuple(functions)
        self._pending: deque[tuple[Callback, Record]] = deque()

    def write(self, record: Record) -> None:
        self._pending.extend((function, record) for function in self._functions)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass

    def next_request(self) -> Request | None:
        """Pass the records to the callbacks until one asks for something; None if none is left that does.

        An exception of a callback is raised with a note that names the callback. (A generator could not raise every one:
        Python replaces a StopIteration.)
        """
        while self._pending:
            function, record = self._pending.popleft()
            try:
                request = function(copy.deepcopy(record))
            except Exception as problem:
                problem.add_note(f"raised by the callback {name_of(function)} at step {record['step']:,}")
                raise
            if isinstance(request, Request):
                return request
            if request is not None:
                answers = 'None, Stop("reason"), Evaluate() or Save()'
                raise UsageError(f"the callback {name_of(function)} must return {answers}, not {request!r:.80}")
        return None


def name_of(code: object) -> str:
    """The name of a function, or of an object's class."""
    return str(getattr(code, "__qualname__", type(code).__qualname__))
