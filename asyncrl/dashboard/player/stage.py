"""The environment that a viewer plays in, drawn if it can be."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncrl.acting.episodes import SingleEnv
from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.dashboard.player.saliency import is_picture
from asyncrl.envs import Contract, Step, View
from asyncrl.errors import EnvironmentFault, UsageError

__all__ = ["Stage", "encoded", "input_picture"]

_SPEED = 30.0
"""Steps per second in an environment that is not drawn."""
_LARGEST = 640
"""Pixels of a picture's longer side above which it is made smaller."""
_EXACT = 320
"""Pixels of a picture's longer side up to which it is sent as PNG, without loss; larger ones are JPEG."""


class Stage:
    """One environment under `contract`, with pictures [H, W, 3] uint8 where it draws them."""

    def __init__(self, contract: Contract) -> None:
        """Raises UsageError for untrusted code, and if the environment cannot be made."""
        contract.check_trust()
        self.contract = contract
        self.not_drawn = ""
        """Why there is no picture; "" if there is one."""
        self._view: View | None = None
        try:
            with hidden_warnings():  # about a render mode that it does not have
                self._view = View(contract)
            self.env: View | SingleEnv = self._view
        except (UsageError, EnvironmentFault) as problem:
            self.not_drawn = str(problem)
            self.env = SingleEnv(contract)

    @property
    def steps_per_second(self) -> float:
        """The environment's natural speed."""
        return _SPEED if self._view is None else self._view.frames_per_second

    def meanings(self) -> list[str]:
        """Return a name for each action; [] if they have none."""
        return [] if self._view is None else self._view.meanings()

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation [1, *O]."""
        return self.env.reset(seed)

    def step(self, action: np.ndarray) -> Step:
        return self.env.step(action)

    def picture(self) -> np.ndarray | None:
        """Return a picture of the current state; None if the environment draws none."""
        if self._view is None or self.not_drawn:
            return None
        try:
            return self._view.picture()
        except UsageError as problem:
            self.not_drawn = str(problem)
            return None

    def close(self) -> None:
        self.env.close()


def input_picture(contract: Contract, observation: np.ndarray) -> np.ndarray | None:
    """Return the newest frame of `observation` [1, *O] as a picture [H, W, 3]; None if the network sees no images."""
    for entry, x in zip(contract.spaces.parts, contract.spaces.split(observation), strict=True):
        if is_picture(entry):
            image = x[0].reshape(-1, *entry.shape[-2:])
            colored = entry.shape[-3] == 3 and len(image) >= 3 * contract.frame_stack  # not three gray frames
            newest = np.moveaxis(image[-3:], 0, -1) if colored else np.repeat(image[-1][:, :, None], 3, 2)
            return _brightened(newest)
    return None


def _brightened(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8; numbers of another range, such as a grid's codes, are spread over 0 … 255."""
    low, high = float(image.min()), float(image.max())
    if image.dtype == np.uint8 and high > 32:
        return image
    return ((image.astype(np.float32) - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)


def encoded(picture: np.ndarray) -> tuple[str, bytes]:
    """Return the media type and the bytes of a picture [H, W, 3] uint8: a PNG if it is small, else a JPEG."""
    import io

    from PIL import Image

    image: Any = Image.fromarray(np.ascontiguousarray(picture))
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    if max(image.size) <= _EXACT:
        image.save(file, "PNG", compress_level=1)
        return "image/png", file.getvalue()
    image.save(file, "JPEG", quality=85)
    return "image/jpeg", file.getvalue()
