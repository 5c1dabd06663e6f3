"""What networks and rollouts need to know of an environment's spaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.errors import UsageError

__all__ = ["Spaces", "spaces_of"]


@dataclass(frozen=True)
class Spaces:
    """The shape and dtype of one observation, and how many actions there are.

    `observation_dtype` is NumPy's name ("uint8", "float32"). `actions` is None where they are not discrete.
    """

    observation_shape: tuple[int, ...]
    observation_dtype: str
    actions: int | None
    first_action: int = 0

    @property
    def is_image(self) -> bool:
        """uint8 with channels, height and width: what the convolutional networks take."""
        return self.observation_dtype == "uint8" and len(self.observation_shape) == 3

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)


def spaces_of(env_id: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> Spaces:
    """Read one environment's spaces. Raises UsageError for an observation that is not a Box."""
    if not isinstance(observation, spaces.Box):
        raise UsageError(f"{env_id} has {type(observation).__name__} observations; asyncrl takes Box observations.")
    dtype = np.dtype(observation.dtype)
    discrete = action if isinstance(action, spaces.Discrete) else None
    return Spaces(
        observation_shape=tuple(int(n) for n in observation.shape),
        observation_dtype="float32" if dtype.kind == "f" else dtype.name,
        actions=None if discrete is None else int(discrete.n),
        first_action=0 if discrete is None else int(discrete.start),
    )
