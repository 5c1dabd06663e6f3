"""Memory and processor time of this process and its children while something runs."""

from __future__ import annotations

import contextlib
import threading
import time

import psutil

from asyncrl.common.hardware import cores

__all__ = ["Usage"]


class Usage:
    """A context. Afterwards `memory` is the largest sum of proportional set sizes [bytes], `cpu` the share of all cores."""

    def __enter__(self) -> Usage:
        self.memory, self.cpu = 0, 0.0
        self._spent: dict[int, float] = {}
        self._done = threading.Event()
        self._began = time.monotonic()
        self._before = self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.cpu = (self._sample() - self._before) / (cores() * (time.monotonic() - self._began))

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self._sample()

    def _sample(self) -> float:
        """Note memory; return the processor seconds of every process seen so far."""
        memory = 0
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory += getattr(process.memory_full_info(), "pss", process.memory_info().rss)
                times = process.cpu_times()
                self._spent[process.pid] = times.user + times.system
        self.memory = max(self.memory, memory)
        return sum(self._spent.values())
