"""Environments that fail, for tests of supervision; ids are `failing_envs:Name`.

One that fails only once leaves a file in the given folder, because a new worker process remembers nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

_Step = tuple[Any, Any, bool, bool, dict[str, Any]]


class Counting(gymnasium.Env[np.ndarray, int]):
    """Observes a random walk, the step number and whether torch is imported; episodes are truncated after twelve steps.

    In step `at` of an episode it calls `fail`, which does nothing here. With a folder `once`, it does so once per seed.
    """

    observation_space: ClassVar = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space: ClassVar = spaces.Discrete(3)

    def __init__(self, at: int = 5, once: str | None = None) -> None:
        self._at, self._once = at, once

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._seed = seed or 0
        self._walk, self._age = float(self.np_random.normal()), 0
        self._maybe_fail()
        return self._see(), {"seed": seed}

    def step(self, action: int) -> _Step:
        self._age += 1
        self._walk += float(action) + float(self.np_random.normal())
        self._maybe_fail()
        return self._answer()

    def fail(self) -> None: ...

    def _maybe_fail(self) -> None:
        if self._age != self._at:
            return
        if self._once is not None:
            try:
                (Path(self._once) / f"failed-{self._seed}").touch(exist_ok=False)
            except FileExistsError:
                return
        self.fail()

    def _see(self) -> Any:
        return np.array([self._walk, self._age, "torch" in sys.modules])

    def _answer(self) -> Any:
        return self._see(), self._walk, False, self._age >= 12, {}


class Raising(Counting):
    def fail(self) -> None:
        raise RuntimeError("the walk collapsed")


class Killed(Counting):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Aborting(Counting):
    def fail(self) -> None:
        os.abort()


class Exiting(Counting):
    def fail(self) -> None:
        os._exit(3)


class Leaving(Counting):
    def fail(self) -> None:
        sys.exit("enough")


class Hanging(Counting):
    def fail(self) -> None:
        time.sleep(3600)


class Leaking(Counting):
    """Allocates 100 MiB and keeps them."""

    _hoard: ClassVar[list[np.ndarray]] = []

    def fail(self) -> None:
        self._hoard.append(np.ones(100 * 2**20, np.uint8))


class Forgetful(Raising):
    """Fails once, and observes the clock, so its episodes cannot be restored."""

    def _see(self) -> Any:
        return np.array([time.monotonic(), self._age, 0.0])


class Closing(Counting):
    """Writes in the folder `once` that it was closed."""

    def close(self) -> None:
        assert self._once is not None
        (Path(self._once) / "closed").touch()


class Blind(Counting):
    def _answer(self) -> Any:
        return np.full(3, np.nan), 0.0, False, False, {}


class Priceless(Counting):
    def _answer(self) -> Any:
        return self._see(), float("nan"), False, False, {}


class Unrewarding(Counting):
    def _answer(self) -> Any:
        return self._see(), None, False, False, {}


class Shapeless(Counting):
    def _answer(self) -> Any:
        return self._see()[:2], 0.0, False, False, {}


class Complex(Counting):
    def _answer(self) -> Any:
        return self._see() * 1j, 0.0, False, False, {}


class FourFold(Counting):
    def _answer(self) -> Any:
        return self._see(), 0.0, False, {}


class Secretive(Counting):
    """Returns an info that cannot be pickled."""

    def _answer(self) -> Any:
        return self._see(), 0.0, False, False, {"secret": lambda: None}


class Structured(Counting):
    """Has Dict observations and actions."""

    observation_space: ClassVar = spaces.Dict(  # type: ignore[assignment]
        walk=spaces.Box(-np.inf, np.inf, (2,), np.float32), age=spaces.Discrete(20)
    )
    action_space: ClassVar = spaces.Dict(go=spaces.Discrete(3), by=spaces.Box(0, 1, (2,), np.float32))  # type: ignore

    def step(self, action: Any) -> _Step:
        self._by = float(action["by"].sum())
        return super().step(action["go"] + self._by)

    def fail(self) -> None:
        raise RuntimeError("the structure collapsed")

    def _see(self) -> Any:
        return {"walk": np.array([self._walk, self._age], np.float32), "age": np.int64(self._age)}


class Misspelt(Structured):
    def _answer(self) -> Any:
        return {"wlak": 0, "age": 0}, 0.0, False, False, {}


class Nested(Structured):
    def _answer(self) -> Any:
        return {"walk": np.zeros(3), "age": 0}, 0.0, False, False, {}


class Uncounted(Structured):
    def _answer(self) -> Any:
        return {"walk": np.zeros(2), "age": 20}, 0.0, False, False, {}


def hang(index: int, pipe: Connection) -> None:
    """A worker that never returns."""
    pipe.send(index)
    while True:
        time.sleep(60)
