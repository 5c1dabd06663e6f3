"""Memory and processor time of this process and its children."""

from __future__ import annotations

import contextlib
import threading
import time

import psutil

from asyncrl.common.hardware import cores

__all__ = ["Usage"]


class Usage:
    """A context manager that measures resource usage during its block.

    Afterwards `memory` is the peak sum of proportional set sizes in bytes, and `cpu` the fraction of all cores' time used.
    """

    def __enter__(self) -> Usage:
        self.memory = 0
        self.cpu = 0.0
        self._cpu_seconds: dict[int, float] = {}
        self._stop = threading.Event()
        self._start = time.monotonic()
        self._initial = self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cpu = (self._sample() - self._initial) / (cores() * (time.monotonic() - self._start))

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._sample()

    def _sample(self) -> float:
        """Update the peak memory; return the processor seconds of all processes seen so far."""
        memory = 0
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory += getattr(process.memory_full_info(), "pss", process.memory_info().rss)
                times = process.cpu_times()
                self._cpu_seconds[process.pid] = times.user + times.system
        self.memory = max(self.memory, memory)
        return sum(self._cpu_seconds.values())
