"""Small environments to train in, registered on import; ids are `worlds:Name-v0`.

An id with a module is imported in every actor's process, so these work on every engine.
"""

from __future__ import annotations

import builtins
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode


class Corridor(gymnasium.Env[np.ndarray, int]):
    """Six cells in a row: the rightmost is the goal (+1, terminated), and ten steps truncate the episode."""

    observation_space: ClassVar = spaces.Box(0.0, 1.0, (6,), np.float32)
    action_space: ClassVar = spaces.Discrete(2)
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._cell, self._age = int(self.np_random.integers(3)), 0
        return self._see(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._age += 1
        self._cell = min(5, max(0, self._cell + 2 * int(action) - 1))
        terminated = self._cell == 5
        return self._see(), 1.0 if terminated else -0.01, terminated, not terminated and self._age >= 10, {}

    def render(self) -> np.ndarray:
        picture = np.zeros((32, 6 * 32, 3), np.uint8)
        picture[:, self._cell * 32 : (self._cell + 1) * 32] = 255
        return picture

    def _see(self) -> np.ndarray:
        return np.eye(6, dtype=np.float32)[self._cell]


class Forgetful(Corridor):
    """A corridor whose observations are never the same twice."""

    def _see(self) -> np.ndarray:
        return super()._see() * np.float32(random.SystemRandom().uniform(0.9, 1.0))


class Dawdling(Corridor):
    """A corridor whose steps take a random time, different in every run."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if random.SystemRandom().random() < 0.05:
            time.sleep(random.SystemRandom().random() * 0.01)
        return super().step(action)


class Held(Corridor):
    """A corridor whose episodes do not begin while the file `held` exists."""

    def __init__(self, held: str, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self._held = held

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        while os.path.exists(self._held):
            time.sleep(0.01)
        return super().reset(seed=seed, options=options)


class Endless(Corridor):
    """A corridor without an end: no goal, no cap."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, *_ = super().step(action)
        return observation, reward, False, False, {}


class Alerting(Endless):
    """Asks its process to stop in the third step of an evaluation, whose seeds are odd."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._evaluates = seed is not None and seed % 2 == 1
        return super().reset(seed=seed, options=options)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._evaluates and self._age == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().step(action)


class Lonely(Corridor):
    """Only one may exist in a process at a time."""

    open: ClassVar = False

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        if Lonely.open:
            raise RuntimeError("the simulator is running already")
        Lonely.open = True

    def close(self) -> None:
        Lonely.open = False


class Painter(Corridor):
    """Renders `drawn`."""

    drawn: ClassVar[Any] = None
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": None}

    def render(self) -> Any:
        if isinstance(self.drawn, Exception):
            raise self.drawn
        return self.drawn


class Failing(Corridor):
    """Raises in its 40th step."""

    _steps = 0

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == 40:
            raise RuntimeError("the corridor collapsed")
        return super().step(action)


class FailingOnce(Corridor):
    """Raises in its 40th step, once: it then leaves the file `failed`."""

    _steps = 0

    def __init__(self, failed: str) -> None:
        super().__init__()
        self._failed = Path(failed)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == 40 and not self._failed.exists():
            self._failed.touch()
            raise RuntimeError("the corridor collapsed")
        return super().step(action)


class Leaving(Corridor):
    """Raises a BaseException in its 40th step, as a game does when its window is closed."""

    _steps = 0

    def __init__(self, render_mode: str | None = None, how: str = "SystemExit") -> None:
        super().__init__(render_mode)
        self._how: type[BaseException] = getattr(builtins, how)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == 40:
            raise self._how("the window was closed")
        return super().step(action)


class Signalling(Corridor):
    """Sends its process a signal in its 40th step, once: it then leaves the file `sent`."""

    _steps = 0

    def __init__(self, sent: str, name: str = "SIGINT") -> None:
        super().__init__()
        self._sent, self._signal = Path(sent), signal.Signals[name]

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == 40 and not self._sent.exists():
            self._sent.touch()
            os.kill(os.getpid(), self._signal)
        return super().step(action)


class Wandering(Corridor):
    """Changes the working directory whenever it can."""

    def __init__(self, render_mode: str | None = None, to: str = "/") -> None:
        super().__init__(render_mode)
        self._to = to
        os.chdir(to)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        os.chdir(self._to)
        return super().reset(seed=seed, options=options)


class Crashing(Corridor):
    """Aborts its process in its 40th step."""

    _steps = 0

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == 40:
            os.abort()
        return super().step(action)


class Exploding(Corridor):
    """Gives rewards so large that gradients overflow."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 1e30, terminated, truncated, info


class Blind(Corridor):
    """Observes NaN after its first observation."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation * np.float32(np.nan), reward, terminated, truncated, info


class Priceless(Corridor):
    """Gives NaN as reward."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float("nan"), terminated, truncated, info


class Shapeless(Corridor):
    """Observes one cell fewer than its space has, after its first observation."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation[:5], reward, terminated, truncated, info


class Confessing(Corridor):
    """Observes the id of its process, and whether that has imported what no worker needs."""

    observation_space: ClassVar = spaces.Box(0.0, np.inf, (2,), np.float64)

    def _see(self) -> np.ndarray:
        unneeded = {"torch", "psutil", "importlib.metadata"}
        return np.array([os.getpid(), not unneeded.isdisjoint(sys.modules)], dtype=np.float64)


class Toolbox(gymnasium.Env[Any, Any]):
    """Five steps, each worth 1 if the second choice is the tool in the observation."""

    def __init__(self) -> None:
        parts = gymnasium.spaces.Tuple(
            (gymnasium.spaces.Box(0, 255, (40, 44, 3), np.uint8), gymnasium.spaces.MultiBinary(3))
        )
        numbers = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)
        self.observation_space = gymnasium.spaces.Dict(
            {"shown": parts, "tool": gymnasium.spaces.Discrete(3, start=1), "noise": numbers}
        )
        self.action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps, self._tool = 0, 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right, self._steps = float(action[1] == self._tool), self._steps + 1
        self._tool = int(self.np_random.integers(3))
        return self._see(), right, self._steps == 5, False, {}

    def _see(self) -> dict[str, Any]:
        picture = np.full((40, 44, 3), 80 * self._tool, np.uint8)
        bits = np.eye(3, dtype=np.int8)[self._tool]
        return {"shown": (picture, bits), "tool": np.int64(self._tool + 1), "noise": self.np_random.uniform(-1, 1, 2)}


class BlindCartPole(gymnasium.Wrapper[np.ndarray, int, np.ndarray, int]):
    """CartPole without velocities in the observation, which therefore takes memory to balance."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gymnasium.make("CartPole-v1", render_mode=render_mode))
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return observation[::2], info

    def step(self, action: int) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation[::2], reward, terminated, truncated, info


class EndlessVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Imitates a third-party vector environment without an episode cap."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int) -> None:
        self._all = gymnasium.vector.SyncVectorEnv([Endless] * num_envs)
        self.num_envs, self.render_mode = num_envs, None
        for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
            setattr(self, name, getattr(self._all, name))

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return self._all.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        return self._all.step(actions)


gymnasium.register(id="Endless-v0", vector_entry_point=EndlessVector, entry_point=Endless)
gymnasium.register(id="BlindCartPole-v0", entry_point=BlindCartPole)
for _world in (
    Corridor,
    Dawdling,
    Held,
    Failing,
    FailingOnce,
    Leaving,
    Signalling,
    Wandering,
    Crashing,
    Exploding,
    Blind,
    Priceless,
    Shapeless,
    Confessing,
    Toolbox,
):
    gymnasium.register(id=f"{_world.__name__}-v0", entry_point=_world)
