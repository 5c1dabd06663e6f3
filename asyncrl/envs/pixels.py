"""Wrappers for single environments that show pictures."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

__all__ = ["Frames", "Skip"]


class Frames(gymnasium.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """Pictures [H, W, 3] uint8 made smaller: (1, size, size) with `gray`, else (size, size, 3). They are copies."""

    def __init__(self, env: gymnasium.Env[np.ndarray, Any], size: int, gray: bool) -> None:
        super().__init__(env)
        import cv2

        cv2.setNumThreads(1)  # the pictures are small, and actors share the cores already
        self._cv2, self._size, self._gray = cv2, size, gray
        shape = (1, size, size) if gray else (size, size, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        cv2, picture = self._cv2, np.ascontiguousarray(observation)
        if self._gray:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        frame = np.asarray(cv2.resize(picture, (self._size, self._size), interpolation=cv2.INTER_AREA))
        return frame[None] if self._gray else frame


class Skip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Does each action `n` times and adds up the rewards; stops at an episode's end. Shows the last frame."""

    def __init__(self, env: gymnasium.Env[Any, Any], n: int) -> None:
        super().__init__(env)
        self._n = n
        self.metadata = {**env.metadata, "render_fps": env.metadata.get("render_fps", 30) / n}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._n):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info
