"""Environments whose steps take a given time, waiting or computing."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Waiting(gymnasium.Env[np.ndarray, int]):
    """Steps wait for something outside this machine, such as another program; episodes have 50 steps."""

    observation_space: ClassVar = spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space: ClassVar = spaces.Discrete(2)

    def __init__(self, seconds: float = 2e-3) -> None:
        self._seconds = seconds
        self._age = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._age = 0
        return self._see(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._spend()
        self._age += 1
        return self._see(), float(action), False, self._age >= 50, {}

    def _spend(self) -> None:
        time.sleep(self._seconds)

    def _see(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)


class Computing(Waiting):
    """Steps keep a core busy."""

    def _spend(self) -> None:
        began = time.thread_time()
        while time.thread_time() - began < self._seconds:
            pass


class Straggler(Waiting):
    """Steps wait five times as long."""

    def _spend(self) -> None:
        time.sleep(5 * self._seconds)


class Slow(Waiting):
    """Steps wait 40 ms: two cores can wait for many of them."""

    def _spend(self) -> None:
        time.sleep(0.04)
