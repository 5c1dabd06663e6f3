"""Environments with one mistake each; ids are `invalid_envs:Name`."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Right(gymnasium.Env[np.ndarray, int]):
    """Correct, with episodes of one step."""

    observation_space: ClassVar[Any] = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space: ClassVar[Any] = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), 0.0, True, False, {}


class WantsMode(Right):
    def __init__(self, render_mode: str | None) -> None:
        self.render_mode = render_mode


class ArrayFlags(Right):
    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), np.array(0.0), np.array(True), np.array(False), {}


class Tensors(Right):
    def step(self, action: int) -> Any:
        import torch

        return torch.zeros(2), torch.tensor(0.5), torch.tensor(True), torch.tensor(False), {}


class WordFlag(Right):
    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), 0.0, None, False, {}


class WithoutGradients(Right):
    def __init__(self) -> None:
        import torch

        torch.set_grad_enabled(False)


class WantsSize(Right):
    def __init__(self, size: int) -> None: ...


class NoEnv:
    metadata: ClassVar[dict[str, Any]] = {}
    observation_space, action_space = Right.observation_space, Right.action_space


class Old(NoEnv):
    """Imitates an environment of the package gym."""


Old.__module__ = "gym.envs.old"


class NoSpace(Right):
    action_space = None


class ForeignSpace(Right):
    class Discrete:
        dtype = np.dtype(np.int64)

        def __repr__(self) -> str:
            return "Discrete(2)"

    action_space = Discrete()


class CloseRaises(Right):
    def close(self) -> None:
        raise RuntimeError("nothing to close")


class ConstructorImports(Right):
    def __init__(self) -> None:
        import_module("nowhere")


class ConstructorRaises(Right):
    def __init__(self) -> None:
        raise RuntimeError("no display")


class FourTuple(Right):
    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), 0.0, True, {}


class NoObservation(Right):
    def step(self, action: int) -> Any:
        return None, 0.0, True, False, {}


class UnevenLists(Right):
    def step(self, action: int) -> Any:
        return [[0.0], [0.0, 1.0]], 0.0, True, False, {}


class BareReset(Right):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(2, np.float32)


class LargeReward(Right):
    def step(self, action: int) -> Any:
        return np.zeros(2, np.float32), -1e39, True, False, {}


def nothing() -> None:
    """A factory that returns None."""
