"""Players of the Corridor, whose episodes tests learn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncrl.acting.episodes import Player
from asyncrl.envs import describe

CORRIDOR = "worlds:Corridor-v0"
SMALL: dict[str, Any] = dict(
    actors=1, envs_per_actor=4, learning_starts=100, capacity=2_000, batch_size=32, engine="serial"
)
"""Settings of a run with a replay buffer."""
BOTS = "def right():\n    return lambda observation, info: 1\n"


def random_player(env: str) -> Player:
    random, actions = np.random.default_rng(1), describe(env).spaces.actions
    return lambda observation, info, begins: actions.random(random, 1)
