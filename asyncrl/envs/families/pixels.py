"""Options and wrappers for environments whose observations are images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from asyncrl.common.validation import within
from asyncrl.envs.options import EnvOptions
from asyncrl.envs.spaces import SMALLEST_IMAGE
from asyncrl.errors import UsageError

__all__ = ["FrameSkip", "PixelOptions", "ResizedFrames", "StackOptions", "frame_fields"]


@dataclass(frozen=True)
class StackOptions(EnvOptions):
    """Options of environments whose observations may be stacks of frames."""

    frame_stack: int | None = None
    """Newest frames that make one observation; frames from before the episode are zero."""

    def check(self) -> None:
        within(self, 1, 10_000, "frame_stack")
        super().check()


@dataclass(frozen=True)
class PixelOptions(StackOptions):
    """Options of games whose screens are made smaller."""

    frame_skip: int | None = None
    """Emulator frames per step; the action is repeated."""
    screen_size: int | None = None
    """Height and width of a frame, in pixels."""
    gray: bool | None = None
    """Gray frames instead of red, green and blue."""

    def check(self) -> None:
        within(self, 1, 10_000, "frame_skip", "screen_size")
        super().check()


def frame_fields(options: PixelOptions) -> dict[str, Any]:
    """Return the contract's fields on frames; by default 4 gray frames of 84×84, and every fourth frame.

    Raises UsageError for a screen that is too small for the convolutional networks.
    """
    size = options.screen_size or 84
    if size < SMALLEST_IMAGE:
        raise UsageError(f"--screen-size must be {SMALLEST_IMAGE} or more for the convolutional networks, not {size}")
    return {
        "frame_skip": options.frame_skip or 4,
        "frame_stack": options.frame_stack or 4,
        "screen_size": size,
        "gray": options.gray is not False,
    }


class ResizedFrames(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Images [H, W, 3] made smaller by averaging areas: uint8 [1, size, size] if `gray`, else [size, size, 3].

    In observations that are dictionaries, `key` names the image.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], size: int, gray: bool, key: str | None = None) -> None:
        super().__init__(env)
        try:
            import cv2
        except ImportError:
            raise UsageError("resizing images needs OpenCV: pip install opencv-python-headless") from None
        cv2.setNumThreads(0)  # environments run side by side, and an image is too small to share among threads
        self._cv2 = cv2
        self._size = size
        self._gray = gray
        self._key = key
        frame = Box(0, 255, (1, size, size) if gray else (size, size, 3), np.uint8)
        space = self.observation_space
        self.observation_space = Dict({**space, key: frame}) if isinstance(space, Dict) and key else frame

    def observation(self, observation: Any) -> Any:
        if self._key is None:
            return self._resized(observation)
        return observation | {self._key: self._resized(observation[self._key])}

    def _resized(self, image: np.ndarray) -> np.ndarray:
        cv2, square = self._cv2, (self._size, self._size)
        if not self._gray:
            return np.asarray(cv2.resize(image, square, interpolation=cv2.INTER_AREA))
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.resize(gray, square, interpolation=cv2.INTER_AREA))[None]


class FrameSkip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Repeats every action for `frames` frames or until the episode ends; the reward is the sum."""

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
