"""One measurement: what a worker is asked for, its stopwatch and its answer (standard library only)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

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

    def read(self, step: int, now: float | None = None) -> bool:
        """Note that `step` environment steps are done; returns whether the measurement is complete.

        `now` is in seconds since the beginning of training; None reads the clock.
        """
        self._last = (time.monotonic() - self._began if now is None else now, step)
        if self._first is None and self._last[0] >= self._warm_up and step >= self._first_step:
            self._first = self._last
        return self.is_complete

    @property
    def is_complete(self) -> bool:
        return self._first is not None and self._last[0] - self._first[0] >= self._seconds

    @property
    def rate(self) -> float:
        """Environment steps per second between the first and the last reading."""
        assert self._first is not None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])


def answer(rate: float, parameters: int, packages: Sequence[str], **more: float) -> None:
    """Print the worker's last line: its result as JSON."""
    versions = {name: version(name) for name in packages}
    print(json.dumps({"steps_per_second": rate, "parameters": parameters, **more, "versions": versions}))
