"""One environment with pictures of what happens in it."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs.contract import Contract
from asyncrl.envs.environments import Environments, Step
from asyncrl.envs.offscreen import MISSING_OPENGL
from asyncrl.envs.registry import family_named
from asyncrl.errors import UsageError

__all__ = ["View"]

_DEFAULT_SPEED = 30.0
"""Pictures per second of environments without `render_fps`."""


class View:
    """One environment under `contract`, with pictures [H, W, 3] uint8 for people."""

    def __init__(self, contract: Contract) -> None:
        self._environments = Environments(contract, 1, training=False, render=True)
        self._white = 1
        """The environment's value of white: 1, and 255 after something brighter than 1."""

    @property
    def frames_per_second(self) -> float:
        """Pictures per second of real time."""
        metadata = self._environments.vector.metadata
        try:
            speed = float(metadata["render_fps"])
        except (KeyError, TypeError, ValueError):
            return _DEFAULT_SPEED
        return min(speed, 240.0) if math.isfinite(speed) and speed > 0 else _DEFAULT_SPEED

    @property
    def contract(self) -> Contract:
        return self._environments.contract

    @property
    def infos(self) -> dict[str, Any]:
        """Infos of the last reset or step."""
        return self._environments.infos

    def meanings(self) -> list[str]:
        """Return a name for each action; [] if they have none."""
        return family_named(self.contract.family).meanings(self.contract)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation [1, *O]."""
        return self._environments.reset([seed])

    def step(self, action: np.ndarray) -> Step:
        """Take one step with `action` [1, …], in the form of a policy's actions."""
        return self._environments.step(action)

    def picture(self) -> np.ndarray:
        """Return a picture of the current state. Raises UsageError if the environment draws none."""
        try:
            rendered = self._environments.vector.render()
        except gymnasium.error.DependencyNotInstalled as problem:
            raise UsageError(f"{self.contract.env} needs another package to be drawn: {problem}") from None
        except NotImplementedError:
            raise self._cannot_draw("its render is not implemented") from None
        except BaseException as problem:  # from the environment's code
            if is_from_keyboard(problem):
                raise
            remedy = f"; {MISSING_OPENGL}" if "OpenGL" in str(problem) else ""
            raise self._cannot_draw(f"its render raised {type(problem).__name__}: {problem}{remedy}") from problem
        if rendered is None or rendered[0] is None:
            modes = str((self._environments.vector.metadata or {}).get("render_modes"))  # whatever the user's class has
            why = "its render returned None" if "rgb_array" in modes else "it has no render mode rgb_array"
            raise self._cannot_draw(why)
        return self._pixels(rendered[0])

    def close(self) -> None:
        self._environments.close()

    def _pixels(self, picture: Any) -> np.ndarray:
        """Convert a gray, RGB or RGBA picture, channels first or last, with white as 1 or 255, to [H, W, 3] uint8."""
        image = np.asarray(picture) if hasattr(picture, "__array__") else np.array("")
        if image.dtype.kind not in "buif":
            raise self._cannot_draw(f"its render returned a {type(picture).__name__}, not an array of pixels")
        shape = image.shape
        if image.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
            image = np.moveaxis(image, 0, 2)
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
            raise self._cannot_draw(f"its render returned an array of shape {shape}, not a picture [H, W, 3]")
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
        if image.dtype.kind == "f":
            image = np.nan_to_num(image, posinf=0, neginf=0)
        if image.max() > (2 if image.dtype.kind == "f" else 1):  # slightly above white is still the scale of 1
            self._white = 255
        if image.dtype == np.uint8 and self._white == 255:
            return image
        return np.clip(image * (255.0 / self._white), 0, 255).astype(np.uint8)

    def _cannot_draw(self, why: str) -> UsageError:
        return UsageError(f"{self.contract.env} cannot be drawn: {why}")
