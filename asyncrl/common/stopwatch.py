"""Where the time of an actor or a learner goes: seconds by stage of its work."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from time import perf_counter
from typing import NamedTuple

__all__ = ["ACTOR_STAGES", "LEARNER_STAGES", "Processor", "Stopwatch", "processor_times"]

ACTOR_STAGES = ("environments", "acting", "waiting", "other")
"""Stepping environments, the policy's forward pass, waiting for a request and a slot, and the rest."""
LEARNER_STAGES = (
    *("waiting", "batch", "forward", "backward", "optimizer", "publish"),
    *("evaluation", "checkpoint", "other"),
)
"""Stages of the learner, in the order of an update."""


_READ_EVERY = 0.05
"""Seconds after which a stopwatch asks the system for processor times again."""


class Processor(NamedTuple):
    """What the scheduler knows of a thread."""

    used: float
    """Seconds of processor time"""
    delayed: float
    """Seconds in which it was ready to run, but no core was free; 0 where the system does not report it"""


class _Statistics:
    """Linux's statistics of the thread that creates it: an open file, which this object closes."""

    def __init__(self) -> None:
        self._file: int | None = None
        self.owner = os.getpid()
        if not hasattr(os, "pread"):  # Windows
            return
        with contextlib.suppress(OSError):  # another system, or a kernel without them
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def times(self) -> Processor:
        """The times of the thread so far."""
        if self._file is None:
            return Processor(time.thread_time(), 0.0)
        used, delayed, _ = os.pread(self._file, 100, 0).split()
        return Processor(int(used) / 1e9, int(delayed) / 1e9)

    def __del__(self) -> None:
        if self._file is not None and self.owner == os.getpid():
            os.close(self._file)


class _Scheduler(threading.local):
    """The statistics of each thread that asks for them. Those of a thread end with it."""

    def __init__(self) -> None:
        self.statistics = _Statistics()


_scheduler = _Scheduler()


def processor_times() -> Processor:
    """The times of the calling thread so far."""
    if _scheduler.statistics.owner != os.getpid():  # a fork: the file is the parent's
        _scheduler.statistics = _Statistics()
    return _scheduler.statistics.times()


class Stopwatch:
    """Divides the time of one thread into stages: `lap` adds the time since the last lap to a stage."""

    __slots__ = ("_processor", "_read", "at", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Time by stage, in seconds"""
        self.at = perf_counter()
        """The time of the last lap"""
        self._processor, self._read = Processor(0.0, 0.0), -_READ_EVERY

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.at
        self.at = now

    @property
    def processor(self) -> Processor:
        """The thread's `processor_times`, at most 50 ms old."""
        if self.at - self._read >= _READ_EVERY:
            self._processor, self._read = processor_times(), self.at
        return self._processor

    def take(self) -> dict[str, float]:
        """Return the times by stage, and start again from zero."""
        taken, self.seconds = self.seconds, {}
        return taken
