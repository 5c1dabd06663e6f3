"""Environments in which tests over all algorithms and presets run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncrl.algorithms import ALGORITHMS
from asyncrl.networks import DeterministicActorCritic

_EXAMPLES = {
    "ALE/*": "ALE/Pong-v5",
    "CartPole-v*": "CartPole-v1",
    "Pendulum-v*": "Pendulum-v1",
    "Acrobot-v*": "Acrobot-v1",
    "MountainCar-v*": "MountainCar-v0",
    "LunarLander-v*": "LunarLander-v3",
    "LunarLander*-v*": "LunarLander-v3",
    "LunarLanderContinuous-v*": "LunarLanderContinuous-v3",
    "Ant-v*": "Ant-v5",
    "HalfCheetah-v*": "HalfCheetah-v5",
    "SuperMarioBros-*": "SuperMarioBros-1-1-v0",
    "VizdoomBasic-v*": "VizdoomBasic-v1",
    "MiniGrid-Empty-*": "MiniGrid-Empty-5x5-v0",
    "academy_*": "academy_empty_goal_close",
    "images": "ALE/Pong-v5",
    "discrete": "worlds:Corridor-v0",
    "continuous": "Pendulum-v1",
}
"""An environment of each pattern and kind that presets name."""


def world_of(algorithm: str) -> str:
    """A small environment for `algorithm`."""
    return "Pendulum-v1" if _needs_continuous(algorithm) else "worlds:Corridor-v0"


def world_of_preset(preset: Mapping[str, Any]) -> str:
    """An environment that a preset is for."""
    if "env" in preset.get("run", {}):
        return str(preset["run"]["env"])
    pattern = (preset["environments"] or preset["kinds"])[0]
    return "CarRacing-v3" if pattern == "images" and _needs_continuous(preset["algorithm"]["name"]) else _EXAMPLES[pattern]


def _needs_continuous(algorithm: str) -> bool:
    return issubclass(ALGORITHMS[algorithm].network, DeterministicActorCritic)
