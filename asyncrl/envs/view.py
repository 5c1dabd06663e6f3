"""One environment that can be looked at while a policy acts in it."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs.contract import Contract
from asyncrl.envs.environments import Environments, Step
from asyncrl.envs.registry import family_named
from asyncrl.errors import UsageError

__all__ = ["View"]

_USUAL_SPEED = 30.0
"""Pictures a second, where an environment does not say."""


class View:
    """One environment under `contract` and its pictures as a person sees them, [H, W, 3] uint8."""

    def __init__(self, contract: Contract) -> None:
        self._environments = Environments(contract, 1, training=False, render=True)
        self._white = 1
        """What the environment draws white as; 255 once it drew something brighter than 1."""

    @property
    def frames_per_second(self) -> float:
        """At which the environment runs in real time."""
        metadata = self._environments.vector.metadata
        try:
            speed = float(metadata["render_fps"])
        except (KeyError, TypeError, ValueError):
            return _USUAL_SPEED
        return min(speed, 240.0) if math.isfinite(speed) and speed > 0 else _USUAL_SPEED

    @property
    def contract(self) -> Contract:
        return self._environments.contract

    @property
    def infos(self) -> dict[str, Any]:
        """What the last reset or step told besides."""
        return self._environments.infos

    def meanings(self) -> list[str]:
        """What each action does; [] where nobody says."""
        return family_named(self.contract.family).meanings(self.contract)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation, [1, *O]."""
        return self._environments.reset([seed])

    def step(self, action: np.ndarray) -> Step:
        return self._environments.step(action)

    def picture(self) -> np.ndarray:
        """The environment as it is now. Raises UsageError where it gives no picture."""
        try:
            rendered = self._environments.vector.render()
        except gymnasium.error.DependencyNotInstalled as problem:
            raise UsageError(f"drawing this environment needs a package: {problem}") from None
        except NotImplementedError:
            rendered = None
        except BaseException as problem:  # an environment's own
            if is_from_keyboard(problem):
                raise
            raise self._undrawn(f"its render raised {type(problem).__name__}: {problem}") from problem
        if rendered is None or rendered[0] is None:
            raise self._undrawn("it has no render mode rgb_array")
        return self._pixels(rendered[0])

    def close(self) -> None:
        self._environments.close()

    def _pixels(self, picture: Any) -> np.ndarray:
        """[H, W, 3] uint8 of what was drawn: gray, RGB or RGBA, channels first or last, white is 1 or 255."""
        image = np.asarray(picture) if hasattr(picture, "__array__") else np.array("")
        if image.dtype.kind not in "buif":
            raise self._undrawn(f"its render gave a {type(picture).__name__}, which is no array of pixels")
        shape = image.shape
        if image.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
            image = np.moveaxis(image, 0, 2)
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
            raise self._undrawn(f"its render gave an array of shape {shape}, which is no picture [H, W, 3]")
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
        if image.dtype.kind == "f":
            image = np.nan_to_num(image, posinf=0, neginf=0)
        if image.max() > (2 if image.dtype.kind == "f" else 1):  # a little more than white is still of that scale
            self._white = 255
        if image.dtype == np.uint8 and self._white == 255:
            return image
        return np.clip(image * (255.0 / self._white), 0, 255).astype(np.uint8)

    def _undrawn(self, why: str) -> UsageError:
        return UsageError(f"{self.contract.env} cannot be drawn: {why}")
