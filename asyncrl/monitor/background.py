"""A sink in a separate thread, which neither slows nor stops training."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from asyncrl.common.counting import counted
from asyncrl.monitor.guarded import warn
from asyncrl.monitor.sink import Buffered, Failable, Record, Sink

__all__ = ["Background"]

_DROPPED = ("train", "episode")
"""Kinds of records that are dropped when the buffer is full; records of other kinds are few."""
_INTERVAL = 0.5
"""Seconds between two turns of the thread. Waking it for every record would interrupt training as often."""


class Background:
    """Opens a sink in a thread and passes records to it there, twice a second.

    If the sink is too slow, records are dropped. If it raises, it gets no more records. If it hangs, `finish` waits for
    `timeout` seconds. Each of these gives a SinkWarning.
    """

    def __init__(self, name: str, open_sink: Callable[[], Sink], *, capacity: int = 10_000, timeout: float = 10.0) -> None:
        """`capacity`: records that may wait; `timeout`: seconds."""
        self._name = name
        self._open = open_sink
        self._capacity = capacity
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: deque[Record] = deque()
        self._dropped = 0
        self._ends = self._failed = self._run_failed = False
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> None:
        with self._changed:
            if self._failed:
                return
            if len(self._waiting) >= self._capacity and record["kind"] in _DROPPED:
                self._dropped += 1
                return
            self._waiting.append(record)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        """Do nothing: a run that rewinds keeps its sinks. `finish` closes the sink."""

    def fail(self) -> None:
        """Let the sink show that an error ended the run, once it has everything."""
        self._run_failed = True

    def finish(self) -> None:
        """Wait until the sink has everything and is closed, or for `timeout` seconds."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            count = counted(len(self._waiting), "record") if self._waiting else "its last records"
            warn(f"the tracker {self._name} did not take {count} within {self._timeout:g} s, and the run ends without it")
        elif self._dropped and not self._failed:
            warn(f"the tracker {self._name} was too slow and missed {counted(self._dropped, 'record')}")

    def _work(self) -> None:
        try:
            sink = self._open()
            del self._open  # with the records of a resumed run
            with contextlib.closing(sink):
                while not self._wait():
                    self._pass_on(sink)
                self._pass_on(sink)
                if self._run_failed and isinstance(sink, Failable):
                    sink.fail()
        except BaseException as problem:  # a library may call sys.exit
            with self._changed:
                self._failed = True
                self._waiting.clear()
            warn(f"the tracker {self._name} raised {type(problem).__name__}: {problem}; it gets no more records")

    def _wait(self) -> bool:
        """Wait for the next turn; whether it is the last."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ends, _INTERVAL)

    def _pass_on(self, sink: Sink) -> None:
        while self._waiting:
            sink.write(self._waiting.popleft())
        if isinstance(sink, Buffered):
            sink.flush()
