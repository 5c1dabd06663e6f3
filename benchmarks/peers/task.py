"""One measurement: what a worker is asked for, its stopwatch and its answer (standard library only)."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from cases import CASES, Case, Configuration

__all__ = ["Stopwatch", "Task", "answer"]


@dataclass(frozen=True)
class Task:
    """One measurement of one side of a case."""

    name: str
    """Name of the case."""
    side: str
    configuration: str
    """Name of the configuration."""
    t: int
    """Steps per rollout."""
    seconds: float
    warm_up: float
    precision: str = "auto"
    """asyncrl: dtype of the network's body."""
    script: str = ""
    """CleanRL: path of the script."""

    @classmethod
    def given(cls) -> Task:
        """Return the task in the worker's argument."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def argument(self) -> str:
        """The argument of the worker."""
        return json.dumps(asdict(self))

    @property
    def case(self) -> Case:
        return CASES[self.name]

    @property
    def how(self) -> Configuration:
        return next(one for one in self.case.sides[self.side] if one.name == self.configuration)

    @property
    def stopwatch(self) -> Stopwatch:
        """A new stopwatch, which starts now."""
        return Stopwatch(self.seconds, self.warm_up, self.case.learning_starts * 11 // 10)


class Stopwatch:
    """Reads of the clock, of which the first one counts that has both the warm-up and `first_step` behind it."""

    def __init__(self, seconds: float, warm_up: float, first_step: int) -> None:
        self._seconds, self._warm_up, self._first_step = seconds, warm_up, first_step
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)
        self._first_usage = self._last_usage = Usage(0.0, 0.0, 0)

    def read(self, step: int, now: float | None = None) -> bool:
        """Note that `step` environment steps are done; returns whether the measurement is complete.

        `now` is in seconds since the beginning of training; None reads the clock.
        """
        self._last = (time.monotonic() - self._began if now is None else now, step)
        if self._first is None and self._last[0] >= self._warm_up and step >= self._first_step:
            self._first, self._first_usage = self._last, Usage.now()
        if self.is_complete:
            self._last_usage = Usage.now()
        return self.is_complete

    @property
    def is_complete(self) -> bool:
        return self._first is not None and self._last[0] - self._first[0] >= self._seconds

    @property
    def rate(self) -> float:
        """Environment steps per second between the first and the last reading."""
        assert self._first is not None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])

    @property
    def busy_cores(self) -> float:
        """Mean number of cores in use by all processes of the side, between the same readings."""
        first, last = self._first_usage, self._last_usage
        return (last.cpu_seconds - first.cpu_seconds) / (last.time - first.time)

    @property
    def memory_bytes(self) -> int:
        """Proportional set size of all processes of the side at the last reading."""
        return self._last_usage.memory_bytes


@dataclass(frozen=True)
class Usage:
    """What this process and its descendants use, read from /proc: the peers' environments have no psutil."""

    time: float
    cpu_seconds: float
    memory_bytes: int

    @classmethod
    def now(cls) -> Usage:
        cpu_seconds, memory = 0.0, 0
        for process in _own_processes():
            with contextlib.suppress(OSError):  # it has just ended
                ticks = map(int, _stat(process)[11:13])  # in user and in kernel mode
                cpu_seconds += sum(ticks) / os.sysconf("SC_CLK_TCK")
                memory += _proportional_bytes(process)
        return cls(time.monotonic(), cpu_seconds, memory)


def _own_processes() -> set[Path]:
    """Return the folders in /proc of this process and its descendants."""
    children: dict[str, list[Path]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(_stat(process)[1], []).append(process)
    found, new = set(), {Path(f"/proc/{os.getpid()}")}
    while new:
        found |= new
        new = {child for parent in new for child in children.get(parent.name, [])}
    return found


def _stat(process: Path) -> list[str]:
    """Return what follows the name in a process's `stat`: its state, its parent, …"""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _proportional_bytes(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def answer(stopwatch: Stopwatch, parameters: int, packages: Sequence[str], **more: float) -> None:
    """Print the worker's last line: its result as JSON."""
    versions = {name: version(name) for name in packages}
    found = {"steps_per_second": stopwatch.rate, "busy_cores": round(stopwatch.busy_cores, 2)}
    found |= {"memory_bytes": stopwatch.memory_bytes, "parameters": parameters}
    print(json.dumps({**found, **more, "versions": versions}))
