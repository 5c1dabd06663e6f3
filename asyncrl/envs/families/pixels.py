"""What games' pictures go through before networks see them: repeated actions, brightness, small squares."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from asyncrl.envs.spaces import SMALLEST_IMAGE
from asyncrl.errors import UsageError

__all__ = ["FrameSkip", "ResizedFrames", "check_sizes"]


class ResizedFrames(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Pictures [H, W, 3] as squares, averaged over areas: uint8 [1, size, size] if `gray`, else [size, size, 3].

    Of an observation that is a dictionary, `key` is the picture's.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], size: int, gray: bool, key: str | None = None) -> None:
        super().__init__(env)
        try:
            import cv2
        except ImportError:
            raise UsageError("pictures are made smaller by OpenCV: pip install opencv-python-headless") from None
        cv2.setNumThreads(0)  # environments are stepped side by side; a picture is too small to share
        self._cv2, self._size, self._gray, self._key = cv2, size, gray, key
        frame = Box(0, 255, (1, size, size) if gray else (size, size, 3), np.uint8)
        space = self.observation_space
        self.observation_space = Dict({**space, key: frame}) if isinstance(space, Dict) and key else frame

    def observation(self, observation: Any) -> Any:
        return (
            self._frame(observation)
            if self._key is None
            else observation | {self._key: self._frame(observation[self._key])}
        )

    def _frame(self, picture: np.ndarray) -> np.ndarray:
        cv2, square = self._cv2, (self._size, self._size)
        if not self._gray:
            return np.asarray(cv2.resize(picture, square, interpolation=cv2.INTER_AREA))
        brightness = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.resize(brightness, square, interpolation=cv2.INTER_AREA))[None]


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Does every action `frames` times, or until the episode ends; its reward is the sum."""

    def __init__(self, env: gymnasium.Env[Any, Any], frames: int) -> None:
        super().__init__(env)
        self._frames = frames
        self.metadata = {**env.metadata, "render_fps": env.metadata.get("render_fps", 30) / frames}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._frames):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def check_sizes(frame_skip: int, frame_stack: int, screen_size: int) -> None:
    """Raise UsageError for those that no environment can have."""
    if min(frame_skip, frame_stack) < 1:
        raise UsageError(f"--frame-skip {frame_skip} and --frame-stack {frame_stack} must be 1 or more")
    if screen_size < SMALLEST_IMAGE:
        raise UsageError(f"--screen-size must be {SMALLEST_IMAGE} or more, which convolutions need, not {screen_size}")
